//! Both ends in one process; two processes are in `tests/pipe`.

mod asynchronous;
mod peers;

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::task::Poll;
use std::thread;

use super::*;

/// An fd with something of its own in it: a pipe's reading end, from which `mark` can be read.
fn marked(mark: &str) -> OwnedFd {
    let (reader, mut writer) = std::io::pipe().unwrap();
    writer.write_all(mark.as_bytes()).unwrap();
    reader.into()
}

/// What is in such an fd.
fn mark(fd: OwnedFd) -> String {
    let mut text = String::new();
    std::fs::File::from(fd).read_to_string(&mut text).unwrap();
    text
}

/// Item `number` with so many fds, each marked with its place.
fn item(number: usize, fds: usize) -> Item<usize> {
    Item { data: number, fds: (0..fds).map(|at| marked(&format!("{number}.{at}"))).collect() }
}

/// Whether an item is as [`item`] made it.
#[track_caller]
fn assert_is(item: Item<usize>, number: usize, fds: usize) {
    assert_eq!((item.data, item.fds.len()), (number, fds));
    for (at, fd) in item.fds.into_iter().enumerate() {
        assert_eq!(mark(fd), format!("{number}.{at}"));
    }
}

#[test]
fn items_arrive_in_order_with_their_own_fds() {
    let (mut sender, mut receiver) = pair().unwrap();
    for (number, fds) in [1, 0, 3, 64, 0, 2].into_iter().enumerate() {
        assert_eq!(sender.send(item(number, fds)).unwrap().get(), number as u64 + 1);
    }
    assert_eq!(sender.in_flight(), 6);
    for (number, fds) in [1, 0, 3, 64, 0, 2].into_iter().enumerate() {
        assert_is(receiver.recv().unwrap().unwrap(), number, fds);
    }
    sender.settle().unwrap();
    assert_eq!((sender.in_flight(), sender.taken()), (0, 6));
    assert!(sender.close().unwrap().is_empty());
    assert!(receiver.recv().unwrap().is_none());
}

#[test]
fn many_items_travel_together_and_none_gets_the_fds_of_another() {
    let (mut sender, mut receiver) = pair().unwrap();
    let counts: Vec<usize> = (0..300).map(|number| number * 7 % 5).collect();
    let mut items: VecDeque<_> = counts.iter().enumerate().map(|(number, fds)| item(number, *fds)).collect();
    let expected = counts.clone();
    let thread = thread::spawn(move || {
        let mut number = 0;
        let mut got = Vec::new();
        while receiver.recv_many(50, &mut got).unwrap() > 0 {
            for item in got.drain(..) {
                assert_is(item, number, expected[number]);
                number += 1;
            }
        }
        number
    });
    assert_eq!(sender.send_all(&mut items).unwrap().get(), 300);
    assert!(items.is_empty());
    assert!(sender.close().unwrap().is_empty());
    assert_eq!(thread.join().unwrap(), 300);
}

#[test]
fn what_is_read_in_small_pieces_is_put_together() {
    // Forty items leave in one message; this reader takes 7 bytes at a time.
    let (here, there) = UnixStream::pair().unwrap();
    let (relay, end) = UnixStream::pair().unwrap();
    let mut sender = sending::Sending::new(here.as_fd());
    let mut receiver = Receiver::<usize>::new(end);
    (&there).write_all(b"{\"type\":\"hello\",\"version\":1,\"credits\":100}\n").unwrap();
    let mut items: VecDeque<_> = (0..40).map(|number| item(number, number % 4)).collect();
    sender.offer(here.as_fd(), &mut items).unwrap();
    assert!(items.is_empty());
    here.shutdown(std::net::Shutdown::Write).unwrap();
    let relaying = thread::spawn(move || {
        loop {
            let mut buffer = [0; 7];
            let got = crate::os::passing::receive(there.as_fd(), &mut buffer).unwrap();
            if got.length == 0 {
                return relay;
            }
            let fds: Vec<_> = got.fds.iter().map(AsFd::as_fd).collect();
            let sent = crate::os::passing::send_now(relay.as_fd(), &buffer[..got.length], &fds).unwrap();
            assert_eq!(sent, got.length);
        }
    });
    for number in 0..40 {
        assert_is(receiver.recv().unwrap().unwrap(), number, number % 4);
    }
    drop(relaying.join().unwrap());
    assert!(receiver.recv().unwrap().is_none());
}

#[test]
fn a_sender_without_credits_waits_for_the_receiver() {
    let (here, there) = UnixStream::pair().unwrap();
    let (mut sender, mut receiver) = (Sender::new(here), Receiver::with_credits(there, 2));
    sender.try_send(item(0, 1)).unwrap();
    sender.try_send(item(1, 1)).unwrap();
    let refused = sender.try_send(item(2, 1)).unwrap_err();
    assert!(matches!(refused.why, Unsent::WouldBlock));
    assert_is(refused.item, 2, 1);
    let thread = thread::spawn(move || {
        sender.send(item(2, 1)).unwrap();
        sender
    });
    for number in 0..3 {
        assert_is(receiver.recv().unwrap().unwrap(), number, 1);
    }
    let mut sender = thread.join().unwrap();
    sender.settle().unwrap();
    assert_eq!(sender.taken(), 3);
}

#[test]
fn a_sender_waits_for_a_receiver_that_has_not_said_hello() {
    let (here, there) = UnixStream::pair().unwrap();
    let mut sender = Sender::new(here);
    assert!(matches!(sender.try_send(item(0, 1)).unwrap_err().why, Unsent::WouldBlock));
    let mut receiver = Receiver::new(there);
    sender.try_send(item(0, 1)).unwrap();
    assert_is(receiver.recv().unwrap().unwrap(), 0, 1);
}

#[test]
fn a_line_that_the_socket_takes_in_parts_arrives_whole() {
    let (mut sender, mut receiver) = pair::<String>().unwrap();
    let large = "x".repeat(DATA_MAX - 2);
    let also = large.clone();
    let thread = thread::spawn(move || {
        for at in 0..5 {
            sender.send(Item::with_fd(also.clone(), marked(&at.to_string()))).unwrap();
        }
        sender.close().unwrap().len()
    });
    for at in 0..5 {
        let (data, fd) = receiver.recv().unwrap().unwrap().into_fd().unwrap();
        assert_eq!(data, large);
        assert_eq!(mark(fd), at.to_string());
    }
    assert!(receiver.recv().unwrap().is_none());
    assert_eq!(thread.join().unwrap(), 0);
}

#[test]
fn where_the_socket_is_full_the_rest_is_written_later() {
    let (mut sender, mut receiver) = pair::<String>().unwrap();
    let large = "x".repeat(900_000);
    sender.try_send(Item::with_fd(large.clone(), marked("0"))).unwrap();
    assert!(sender.wants_write(), "no socket takes so much at once");
    let refused = sender.try_send(Item::with_fd("small".to_owned(), marked("1"))).unwrap_err();
    assert!(matches!(refused.why, Unsent::WouldBlock));
    let first = loop {
        match receiver.try_recv() {
            Poll::Ready(item) => break item.unwrap().unwrap(),
            Poll::Pending => sender.tend().unwrap(),
        }
    };
    assert_eq!(first.data, large);
    assert!(!sender.wants_write());
    sender.try_send(refused.item).unwrap();
    let (data, fd) = receiver.recv().unwrap().unwrap().into_fd().unwrap();
    assert_eq!((data.as_str(), mark(fd).as_str()), ("small", "1"));
}

#[test]
fn what_is_too_large_is_refused_before_anything_is_sent() {
    let (mut sender, mut receiver) = pair::<String>().unwrap();
    let large = Item::with_fd("x".repeat(DATA_MAX - 1), marked("large"));
    let refused = sender.send(large).unwrap_err();
    assert!(matches!(refused.why, Unsent::TooLarge { bytes } if bytes == DATA_MAX + 1), "{refused}");
    assert_eq!(mark(refused.item.into_fd().unwrap().1), "large");
    let many = Item { data: String::new(), fds: (0..65).map(|_| marked("")).collect() };
    assert!(matches!(sender.send(many).unwrap_err().why, Unsent::TooManyFds { fds: 65 }));
    assert_eq!(sender.in_flight(), 0);
    let mut mixed = VecDeque::from([
        Item::without_fds("first".to_owned()),
        Item::without_fds("x".repeat(DATA_MAX)),
        Item::without_fds("third".to_owned()),
    ]);
    assert!(matches!(sender.send_all(&mut mixed).unwrap_err(), Unsent::TooLarge { .. }));
    assert_eq!(mixed.len(), 2, "the one that is too large is in front");
    mixed.pop_front();
    sender.send_all(&mut mixed).unwrap();
    for expected in ["first", "third"] {
        assert_eq!(receiver.recv().unwrap().unwrap().data, expected);
    }
}

#[test]
fn what_cannot_be_json_is_refused_before_anything_is_sent() {
    let (mut sender, _receiver) = pair().unwrap();
    let no_json = std::collections::BTreeMap::from([((1, 2), 3)]);
    assert!(matches!(sender.send(Item::without_fds(no_json)).unwrap_err().why, Unsent::NotJson(_)));
    assert_eq!(sender.in_flight(), 0);
}

#[test]
fn data_with_line_breaks_between_its_tokens_stays_in_one_line() {
    let raw = serde_json::value::RawValue::from_string("[1,\n\"\\n\"]".to_owned()).unwrap();
    let (here, there) = UnixStream::pair().unwrap();
    let (mut sender, mut receiver) = (Sender::new(here), Receiver::<(u8, String)>::new(there));
    sender.send(Item::without_fds(raw)).unwrap();
    assert_eq!(receiver.recv().unwrap().unwrap().data, (1, "\n".to_owned()));
}

#[test]
fn an_item_belongs_to_the_sender_until_it_is_acknowledged() {
    let (mut sender, mut receiver) = pair().unwrap();
    for number in 0..4 {
        sender.send(item(number, 1)).unwrap();
    }
    assert_is(receiver.recv().unwrap().unwrap(), 0, 1);
    assert_is(receiver.recv().unwrap().unwrap(), 1, 1);
    let untaken = sender.into_untaken();
    let ids: Vec<u64> = untaken.iter().map(|(id, _)| id.get()).collect();
    assert_eq!(ids, [3, 4]);
    // The receiver gets one of them, and may not have it any more; then it is at its end.
    assert!(receiver.recv().unwrap().is_none());
    assert_eq!(receiver.dropped(), 1);
    for (number, (_, item)) in (2..).zip(untaken) {
        assert_is(item, number, 1);
    }
}

#[test]
fn a_receiver_that_goes_leaves_what_it_did_not_take() {
    let (mut sender, mut receiver) = pair().unwrap();
    for number in 0..3 {
        sender.send(item(number, 2)).unwrap();
    }
    assert_is(receiver.recv().unwrap().unwrap(), 0, 2);
    drop(receiver);
    assert_eq!(sender.settle().unwrap_err(), End::Closed);
    let refused = sender.send(item(3, 1)).unwrap_err();
    assert!(matches!(refused.why, Unsent::Ended(End::Closed)), "{refused}");
    assert_is(refused.item, 3, 1);
    assert_eq!(sender.in_flight_ids().map(ItemId::get).collect::<Vec<_>>(), [2, 3]);
    let untaken = sender.close().unwrap();
    assert_eq!(untaken.len(), 2);
    for (number, (_, item)) in (1..).zip(untaken) {
        assert_is(item, number, 2);
    }
}

#[test]
fn the_end_is_found_out_by_sending_too() {
    let (mut sender, receiver) = pair().unwrap();
    drop(receiver);
    let refused = sender.send(item(0, 1)).unwrap_err();
    assert!(matches!(refused.why, Unsent::Ended(End::Closed)));
    assert_is(refused.item, 0, 1);
    assert_eq!(sender.ended(), Some(&End::Closed));
}

#[test]
fn data_of_another_type_is_refused_and_the_pipe_goes_on() {
    let (here, there) = UnixStream::pair().unwrap();
    let mut sender = Sender::<serde_json::Value>::new(here);
    let mut receiver = Receiver::<usize>::with_credits(there, 2);
    let mut items =
        VecDeque::from([Item::with_fd(1.into(), marked("1.0")), Item::with_fd("two".into(), marked("2.0"))]);
    sender.send_all(&mut items).unwrap();
    let mut got = Vec::new();
    assert_eq!(receiver.recv_many(10, &mut got).unwrap(), 1, "those before the error come first");
    let error = receiver.recv_many(10, &mut got).unwrap_err();
    assert!(matches!(&error, ReceiveError::Data { id: ItemId(2), .. }) && !error.is_end(), "{error}");
    sender.settle().unwrap();
    assert_eq!(sender.taken(), 1);
    let refused = sender.next_refused().unwrap();
    assert_eq!((refused.id.get(), refused.error.as_str()), (2, "bad_request"));
    assert_eq!(mark(refused.item.into_fd().unwrap().1), "2.0");
    sender.send(Item::without_fds(3.into())).unwrap();
    assert_eq!(receiver.recv().unwrap().unwrap().data, 3);
}

#[test]
fn refused_items_that_nobody_fetches_do_not_pile_up() {
    let (here, there) = UnixStream::pair().unwrap();
    let mut sender = Sender::new(here);
    let mut receiver = Receiver::<usize>::with_credits(there, 1);
    sender.send(Item::without_fds("no number")).unwrap();
    receiver.recv().unwrap_err();
    sender.settle().unwrap();
    assert!(matches!(sender.send(Item::without_fds("more")).unwrap_err().why, Unsent::RefusedWaiting));
    assert_eq!(sender.into_untaken().len(), 1, "it comes back with the others");
}

#[test]
fn items_that_were_sent_one_by_one_are_taken_and_acknowledged_together() {
    let (here, there) = UnixStream::pair().unwrap();
    let (mut sender, mut receiver) = (Sender::new(here), Receiver::new(there.try_clone().unwrap()));
    for number in 0..5 {
        sender.send(item(number, 1)).unwrap();
    }
    let mut got = Vec::new();
    assert_eq!(receiver.recv_many(4, &mut got).unwrap(), 4, "not one more than wanted");
    for (number, item) in got.drain(..).enumerate() {
        assert_is(item, number, 1);
    }
    let mut said = [0; 100];
    let length = sender.as_fd().try_clone_to_owned().map(UnixStream::from).unwrap().read(&mut said).unwrap();
    let said = std::str::from_utf8(&said[..length]).unwrap();
    assert_eq!(said, "{\"type\":\"ack\",\"re\":1,\"to\":4}\n");
    assert_eq!(receiver.recv_many(4, &mut got).unwrap(), 1);
}

#[test]
fn an_acknowledgement_between_refusals_is_for_no_more_than_was_taken() {
    let (here, there) = UnixStream::pair().unwrap();
    let mut sender = Sender::<serde_json::Value>::new(here);
    let mut receiver = Receiver::<usize>::new(there);
    let data = [1.into(), 2.into(), "three".into(), 4.into(), 5.into()];
    sender.send_all(&mut data.map(Item::without_fds).into()).unwrap();
    let mut got = Vec::new();
    assert_eq!(receiver.recv_many(10, &mut got).unwrap(), 2);
    sender.settle().unwrap();
    assert_eq!(sender.taken(), 4);
    assert_eq!(sender.next_refused().map(|refused| refused.id.get()), Some(3));
}
