//! Processes at their limits.

use std::collections::VecDeque;
use std::io::Write;
use std::process::Command;

use handover::pipe::{End, Item, Receiver, Sender, Unsent};

use crate::child::Child;
use crate::connection;

#[test]
fn a_receiver_at_its_limit_of_open_files_takes_whole_items_only_and_the_rest_comes_back() {
    let (socket, mut child) = Child::with_pipe("lose_fds", "ulimit -n 24; exec");
    let mut sender = Sender::new(socket);
    let (connection, _client) = connection();
    let item = |number| Item {
        data: number,
        fds: vec![connection.try_clone().unwrap().into(), connection.try_clone().unwrap().into()],
    };
    // Waits for hello, so that all of them travel in one message.
    let mut items: VecDeque<Item<usize>> = (0..30).map(item).collect();
    sender.send_all(&mut items).unwrap();
    let taken: usize = child.line().parse().unwrap();
    assert!((1..12).contains(&taken), "{taken}");
    assert_eq!(child.line(), format!("fds were lost with {} items", 30 - taken));
    let end = sender.settle().unwrap_err();
    assert!(matches!(&end, End::Refused { error, .. } if error == "fds_lost"), "{end}");
    let refused = sender.send(item(30)).unwrap_err();
    assert!(matches!(refused.why, Unsent::Ended(_)));
    assert_eq!(sender.taken(), taken as u64);
    let untaken = sender.into_untaken();
    assert_eq!(untaken.len(), 30 - taken);
    for (number, (_, item)) in (taken..).zip(untaken) {
        assert_eq!((item.data, item.fds.len()), (number, 2));
    }
    child.ends_well();
}

#[test]
fn too_many_fds_on_the_way_are_waited_for() {
    // Root has no such limit, and the count is one of a user: no other process may be this one.
    let user = "--reuid 64123 --regid 64123 --clear-groups";
    let test = std::env::current_exe().unwrap();
    let may = Command::new("/bin/sh")
        .args(["-c", &format!("exec setpriv {user} test -x \"$0\"")])
        .arg(test)
        .status();
    if !may.is_ok_and(|status| status.success()) {
        let _ = writeln!(std::io::stderr(), "skipped: too many fds on the way (needs root and setpriv)");
        return;
    }
    let before = format!("ulimit -n 2000; exec setpriv {user}");
    let (socket, mut child) = Child::with_pipe("too_many_in_flight", &before);
    let mut receiver = Receiver::<usize>::new(socket);
    child.says("full");
    for number in 0..60 {
        let item = receiver.recv().unwrap().unwrap();
        assert_eq!((item.data, item.fds.len()), (number, 4));
    }
    child.ends_well();
}
