//! The other end is not ours: what it says wrong is found out, and what it sent is closed.

use super::*;
use crate::os::passing::{Received, receive, send_now};

const SENDER_HELLO: &str = "{\"type\":\"hello\",\"version\":1}\n";

/// A receiver with what a peer says to it, attached to which are so many fds.
fn said(text: &str, fds: usize) -> (Receiver<usize>, UnixStream, Vec<std::io::PipeWriter>) {
    let (here, there) = UnixStream::pair().unwrap();
    let receiver = Receiver::new(here);
    send_now(there.as_fd(), SENDER_HELLO.as_bytes(), &[]).unwrap();
    let (ends, watched): (Vec<_>, Vec<_>) = (0..fds).map(|_| std::io::pipe().unwrap()).unzip();
    let fds: Vec<_> = ends.iter().map(AsFd::as_fd).collect();
    send_now(there.as_fd(), text.as_bytes(), &fds).unwrap();
    (receiver, there, watched)
}

/// Everything that a peer was told.
fn told(peer: &UnixStream) -> String {
    let mut text = String::new();
    loop {
        let mut buffer = [0; 4096];
        let Ok(Received { length: 1.., .. }) = receive(peer.as_fd(), &mut buffer).inspect(|received| {
            text.push_str(&String::from_utf8_lossy(&buffer[..received.length]));
        }) else {
            return text;
        };
    }
}

#[test]
fn a_sender_that_breaks_the_rules_is_told_and_its_fds_are_closed() {
    let item = |id, members: &str| format!("{{\"type\":\"item\",\"id\":{id}{members},\"data\":1}}\n");
    let bad = [
        ("garbage\n".to_owned(), 1, "not as it must be"),
        (item(1, ",\"fds\":2"), 1, "did not come"),
        (item(1, ""), 1, "no line says"),
        (item(1, ",\"fds\":1"), 3, "no line says"),
        (item(1, ",\"fds\":1,\"ahead\":1") + &item(2, ",\"fds\":2"), 3, "announced"),
        (item(1, ",\"fds\":65"), 65, "may carry"),
        (SENDER_HELLO.to_owned(), 0, "second hello"),
        ("{\"type\":\"item\",\"id\":1}\n".to_owned(), 1, "no data"),
        ("{\"type\":\"item\",\"data\":1}\n".to_owned(), 1, "no id"),
    ];
    for (text, fds, expected) in bad {
        let (mut receiver, peer, watched) = said(&text, fds);
        let error = loop {
            match receiver.recv() {
                Ok(item) => drop(item.expect("an error comes")),
                Err(error) => break error,
            }
        };
        assert!(error.is_end() && error.to_string().contains(expected), "{text}: {error}");
        assert!(receiver.recv().unwrap().is_none(), "and that was the end");
        let told = told(&peer);
        assert!(told.contains("\"error\":\"protocol\""), "{text}: {told}");
        for mut end in watched {
            assert!(end.write_all(b"x").is_err(), "{text}: its only reader is closed");
        }
    }
}

#[test]
fn a_line_without_hello_before_it_is_no_pipe() {
    let (here, there) = UnixStream::pair().unwrap();
    let mut receiver = Receiver::<usize>::new(here);
    send_now(there.as_fd(), b"{\"type\":\"item\",\"id\":1,\"data\":1}\n", &[]).unwrap();
    assert!(receiver.recv().unwrap_err().to_string().contains("before hello"));
}

#[test]
fn a_line_that_does_not_end_is_not_kept_for_ever() {
    let (here, there) = UnixStream::pair().unwrap();
    let mut receiver = Receiver::<usize>::new(here);
    let writer = thread::spawn(move || while (&there).write_all(&[b'x'; 4096]).is_ok() {});
    assert!(receiver.recv().unwrap_err().to_string().contains("too long"));
    writer.join().unwrap();
}

#[test]
fn an_end_within_a_line_is_an_error() {
    let (mut receiver, peer, watched) = said("{\"type\":\"item\",\"id\":1,\"fds\":1,", 1);
    drop(peer);
    assert!(receiver.recv().unwrap_err().to_string().contains("within a line"));
    assert!((&watched[0]).write_all(b"x").is_err());
}

#[test]
fn what_a_later_version_says_is_passed_over() {
    let (mut receiver, _peer, watched) = said(
        "{\"type\":\"later\",\"id\":1,\"fds\":1}\n{\"type\":\"item\",\"id\":2,\"new\":{},\"data\":5}\n",
        1,
    );
    assert_eq!(receiver.recv().unwrap().unwrap().data, 5);
    assert!((&watched[0]).write_all(b"x").is_err(), "fds of an unknown line are closed");
}

#[test]
fn a_receiver_that_breaks_the_rules_ends_the_pipe_and_the_items_come_back() {
    let bad = [
        ("garbage\n", "not as it must be"),
        ("{\"type\":\"ack\",\"re\":1}\n", "before hello"),
        ("{\"type\":\"hello\",\"version\":1}\n", "no version or no credits"),
        ("{\"type\":\"hello\",\"version\":1,\"credits\":0}\n", "no version or no credits"),
        (
            "{\"type\":\"hello\",\"version\":1,\"credits\":1}\n{\"type\":\"hello\",\"version\":1,\"credits\":1}\n",
            "second hello",
        ),
    ];
    for (text, expected) in bad {
        let (here, there) = UnixStream::pair().unwrap();
        let mut sender = Sender::new(here);
        (&there).write_all(text.as_bytes()).unwrap();
        let refused = sender.send(item(0, 1)).unwrap_err();
        assert!(refused.to_string().contains(expected), "{text}: {refused}");
        assert_is(refused.item, 0, 1);
    }
}

#[test]
fn acknowledgements_of_what_was_not_sent_are_passed_over() {
    let (here, there) = UnixStream::pair().unwrap();
    let mut sender = Sender::new(here);
    let hello = "{\"type\":\"hello\",\"version\":7,\"credits\":1000000}\n{\"type\":\"ack\",\"re\":1}\n{\"type\":\"refused\",\"re\":2,\"error\":\"x\"}\n";
    (&there).write_all(hello.as_bytes()).unwrap();
    sender.send(item(0, 1)).unwrap();
    sender.send(item(1, 1)).unwrap();
    sender.tend().unwrap();
    assert_eq!((sender.in_flight(), sender.taken()), (2, 0));
    (&there).write_all(b"{\"type\":\"ack\",\"re\":2}\n{\"type\":\"ack\",\"re\":2}\n").unwrap();
    sender.tend().unwrap();
    assert_eq!((sender.in_flight(), sender.taken()), (1, 1));
    (&there).write_all(b"{\"type\":\"ack\",\"re\":0,\"to\":9007199254740991}\n").unwrap();
    sender.tend().unwrap();
    assert_eq!((sender.in_flight(), sender.taken()), (0, 2), "all that was sent, and nothing else");
    let mut sent = 2;
    while sender.try_send(item(sent, 0)).is_ok() {
        sent += 1;
    }
    assert_eq!(sender.in_flight(), CREDITS_MAX, "no receiver gets more credits than that");
}

#[test]
fn a_receiver_that_gives_up_says_why() {
    let (here, there) = UnixStream::pair().unwrap();
    let mut sender = Sender::new(here);
    let last = "{\"type\":\"hello\",\"version\":1,\"credits\":9}\n{\"type\":\"refused\",\"error\":\"fds_lost\",\"reason\":\"limit\"}\n";
    (&there).write_all(last.as_bytes()).unwrap();
    drop(there);
    let refused = sender.send(item(0, 1)).unwrap_err();
    let Unsent::Ended(End::Refused { error, reason }) = refused.why else { panic!("{refused}") };
    assert_eq!((error.as_str(), reason.as_str()), ("fds_lost", "limit"));
}
