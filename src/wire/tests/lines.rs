//! Reads cut anywhere give the same lines, and fds belong to the line that says them.

use std::cell::RefCell;
use std::rc::Rc;

use proptest::prelude::*;

use super::{Fd, fault_of, id, lines_of, payload};
use crate::wire::{Fault, Lines, Received, Target, ToHandover};

const MESSAGE: &str = r#"{"type":"message","id":8,"to":"handover","data":1,"fds":2}"#;

fn next(lines: &mut Lines<u32>) -> Result<Option<Received<ToHandover, u32>>, Fault> {
    lines.next_line()
}

#[test]
fn fds_are_taken_in_the_order_in_which_they_came() {
    let mut lines = Lines::new();
    lines.push(format!("{MESSAGE}\n").as_bytes(), [1, 2], false);
    lines.push(b"{\"type\":\"ready\"}\n{\"type\":\"reply\",\"re\":1,", [], false);
    assert_eq!(next(&mut lines).expect("right").expect("whole").fds, [1, 2]);
    assert_eq!(next(&mut lines).expect("right").expect("whole").line, ToHandover::Ready);
    assert_eq!(next(&mut lines), Ok(None));
    assert!(lines.is_within_line());
}

#[test]
fn fds_wait_until_their_line_is_whole() {
    let mut lines = Lines::new();
    let (first, rest) = MESSAGE.split_at(10);
    lines.push(first.as_bytes(), [1, 2], false);
    assert_eq!(next(&mut lines), Ok(None));
    lines.push(rest.as_bytes(), [], false);
    assert_eq!(next(&mut lines), Ok(None));
    lines.push(b"\n", [], false);
    let to = Target::Handover;
    let line =
        ToHandover::Message { id: Some(id(8)), to, data: payload("1"), reply: false, timeout_ms: None };
    assert_eq!(next(&mut lines), Ok(Some(Received { line, fds: vec![1, 2] })));
    assert_eq!(next(&mut lines), Ok(None));
    assert!(!lines.is_within_line());
}

#[test]
fn missing_and_unwanted_and_lost_fds_are_faults() {
    let mut lines = Lines::new();
    lines.push(format!("{MESSAGE}\n").as_bytes(), [1], false);
    assert_eq!(next(&mut lines), Err(Fault::FdsMissing { said: 2, there: 1 }));
    let mut lines = Lines::new();
    lines.push(b"{\"type\":\"ready\"}\n", [1], false);
    assert_eq!(next(&mut lines).expect("the line").expect("whole").line, ToHandover::Ready);
    assert_eq!(next(&mut lines), Err(Fault::FdsLeft { left: 1 }));
    let mut lines = Lines::new();
    lines.push(b"{\"type\":\"ready\"}\n", [1], true);
    assert_eq!(next(&mut lines), Err(Fault::FdsCutOff));
    let ready = r#"{"type":"ready","fds":1,"id":1}"#;
    assert_eq!(fault_of(ready), Fault::FdsNotCarried { kind: "ready" });
    let many = r#"{"type":"reply","re":1,"id":1,"data":1,"fds":65}"#;
    assert!(matches!(fault_of(many), Fault::Wrong { member: "fds", .. }));
    let nameless = r#"{"type":"reply","re":1,"data":1,"fds":1}"#;
    assert_eq!(fault_of(nameless), Fault::Missing { kind: "reply", member: "id" });
}

#[test]
fn no_more_fds_wait_than_one_line_can_carry() {
    let mut lines = Lines::new();
    lines.push(b"{", 0..65, false);
    assert_eq!(next(&mut lines), Err(Fault::FdsTooMany));
    let mut lines = Lines::new();
    lines.push(b"{", 0..1000, false);
    assert_eq!(next(&mut lines), Err(Fault::FdsTooMany));
}

#[test]
fn a_fault_closes_what_came_and_is_the_last_word() {
    let closed = Rc::new(RefCell::new(Vec::new()));
    let fd = |number| Fd { number, closed: Rc::clone(&closed) };
    let mut lines = Lines::new();
    lines.push(b"{\"type\":\"x\"}\n[]\n{\"type\":\"ready\"}\n", [fd(1), fd(2)], false);
    assert!(lines.next_line::<ToHandover>().is_ok());
    assert_eq!(lines.next_line::<ToHandover>().expect_err("an array"), Fault::NotAnObject);
    assert_eq!(*closed.borrow(), [1, 2]);
    lines.push(b"{\"type\":\"ready\"}\n", [fd(3)], false);
    assert_eq!(lines.next_line::<ToHandover>().expect_err("the end"), Fault::NotAnObject);
    assert_eq!(*closed.borrow(), [1, 2, 3]);
}

#[test]
fn fds_of_an_unknown_line_are_taken_so_that_those_behind_it_find_their_own() {
    let mut lines = Lines::new();
    let text = format!("{{\"type\":\"later\",\"fds\":1,\"id\":5}}\n{MESSAGE}\n");
    lines.push(text.as_bytes(), [1, 2, 3], false);
    let unknown = next(&mut lines).expect("right").expect("whole");
    assert!(matches!(unknown.line, ToHandover::Unknown(ref later) if later.id == Some(id(5))));
    assert_eq!(unknown.fds, [1]);
    assert_eq!(next(&mut lines).expect("right").expect("whole").fds, [2, 3]);
}

proptest! {
    #[test]
    fn reads_cut_anywhere_give_the_same_lines(cuts in proptest::collection::vec(1..40_usize, 0..40)) {
        let text = "{\"type\":\"ready\"}\n{\"type\":\"status\",\"text\":\"größer\"}\n{\"type\":\"later\"}\n\
            {\"type\":\"message\",\"to\":{\"pool\":\"web\"},\"data\":{\"b\":1,\"a\":\"\\n\"}}\n";
        let whole: Vec<ToHandover> = lines_of(text.as_bytes()).expect("right");
        prop_assert_eq!(whole.len(), 4);
        let (mut lines, mut found, mut rest) = (Lines::<()>::new(), Vec::new(), text.as_bytes());
        for cut in cuts.into_iter().chain([text.len()]) {
            let (read, after) = rest.split_at(cut.min(rest.len()));
            rest = after;
            lines.push(read, [], false);
            while let Some(received) = lines.next_line::<ToHandover>().expect("right") {
                found.push(received.line);
            }
        }
        prop_assert_eq!(found, whole);
    }

    #[test]
    fn fds_go_first_in_first_out(counts in proptest::collection::vec(0..4_usize, 1..20), cut in 1..60_usize) {
        let (mut lines, mut given, mut taken) = (Lines::new(), 0_u32, Vec::new());
        for count in counts {
            let fds: Vec<u32> = (given..).take(count).collect();
            given += u32::try_from(count).expect("small");
            let line = format!("{{\"type\":\"reply\",\"re\":1,\"id\":2,\"data\":{count},\"fds\":{count}}}\n");
            // As the kernel does: fds with the first byte.
            let (first, rest) = line.split_at(cut.min(line.len() - 1));
            lines.push(first.as_bytes(), fds, false);
            lines.push(rest.as_bytes(), [], false);
            if given.is_multiple_of(2) {
                while let Some(received) = next(&mut lines).expect("right") {
                    taken.extend(received.fds);
                }
            }
        }
        while let Some(received) = next(&mut lines).expect("right") {
            taken.extend(received.fds);
        }
        prop_assert_eq!(taken, (0..given).collect::<Vec<_>>());
    }
}
