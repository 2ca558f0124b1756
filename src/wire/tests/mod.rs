//! The codec as its users see it: lines out of reads, values out of lines, what is refused.

mod conversation;
mod hostile;
mod lines;
mod round_trip;

use std::cell::RefCell;
use std::rc::Rc;

use super::{Fault, Id, Line, Lines, Payload, Received, ToHandover};

/// An fd that says when it is closed.
#[derive(Debug)]
struct Fd {
    number: u32,
    closed: Rc<RefCell<Vec<u32>>>,
}

impl Drop for Fd {
    fn drop(&mut self) {
        self.closed.borrow_mut().push(self.number);
    }
}

fn id(number: u64) -> Id {
    Id::new(number).expect("small")
}

fn payload(json: &str) -> Payload {
    Payload::from_json(json).expect("JSON")
}

/// All lines of one read without fds.
fn lines_of<L: Line>(bytes: &[u8]) -> Result<Vec<L>, Fault> {
    let mut lines = Lines::<()>::new();
    lines.push(bytes, [], false);
    let mut all = Vec::new();
    while let Some(Received { line, .. }) = lines.next_line()? {
        all.push(line);
    }
    Ok(all)
}

#[track_caller]
fn fault_of(line: &str) -> Fault {
    ToHandover::decode(line.as_bytes()).expect_err(line)
}
