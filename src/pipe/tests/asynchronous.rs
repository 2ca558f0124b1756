//! The same with tokio: what waits is woken, and what is dropped while it waits loses nothing.
#![cfg(feature = "tokio")]

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Waker};

use super::*;
use crate::pipe::tokio as asynchronous;

fn run<F: Future>(future: F) -> F::Output {
    ::tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap().block_on(future)
}

/// Whether a future is ready at once; it is then dropped.
fn once<F: Future>(future: F) -> Poll<F::Output> {
    pin!(future).poll(&mut Context::from_waker(Waker::noop()))
}

#[test]
fn items_go_through_while_both_ends_wait_for_each_other() {
    run(async {
        let (here, there) = ::tokio::net::UnixStream::pair().unwrap();
        let mut sender = asynchronous::Sender::new(here);
        let mut receiver = asynchronous::Receiver::with_credits(there, 3);
        let send = async {
            for number in 0..50 {
                sender.send(item(number, number % 3)).await.unwrap();
            }
            let mut items: VecDeque<_> = (50..100).map(|number| item(number, number % 3)).collect();
            sender.send_all(&mut items).await.unwrap();
            sender.close().await.unwrap().len()
        };
        let receive = async {
            for number in 0..100 {
                assert_is(receiver.recv().await.unwrap().unwrap(), number, number % 3);
            }
            assert!(receiver.recv().await.unwrap().is_none());
        };
        assert_eq!(::tokio::join!(send, receive).0, 0);
    });
}

#[test]
fn large_items_go_through_in_parts() {
    run(async {
        let (mut sender, mut receiver) = asynchronous::pair::<String>().unwrap();
        let large = "x".repeat(900_000);
        let send = async {
            for at in 0..4 {
                sender.send(Item::with_fd(large.clone(), marked(&at.to_string()))).await.unwrap();
            }
            sender.settle().await.unwrap();
        };
        let receive = async {
            for at in 0..4 {
                let (data, fd) = receiver.recv().await.unwrap().unwrap().into_fd().unwrap();
                assert_eq!((data.len(), mark(fd)), (large.len(), at.to_string()));
            }
        };
        ::tokio::join!(send, receive);
    });
}

#[test]
fn a_future_that_is_dropped_loses_no_item() {
    run(async {
        let (here, there) = ::tokio::net::UnixStream::pair().unwrap();
        let mut sender = asynchronous::Sender::new(here);
        let mut receiver = asynchronous::Receiver::with_credits(there, 1);
        assert!(once(receiver.recv()).is_pending());
        sender.ready().await.unwrap();
        sender.try_send(item(0, 1)).unwrap();
        assert!(once(sender.ready()).is_pending());
        assert!(once(sender.settle()).is_pending());
        assert!(once(sender.tended()).is_pending());
        let mut waiting = VecDeque::from([item(1, 1)]);
        assert!(once(sender.send_all(&mut waiting)).is_pending());
        assert_eq!(waiting.len(), 1);
        assert_is(receiver.recv().await.unwrap().unwrap(), 0, 1);
        sender.ready().await.unwrap();
        assert_eq!(sender.taken(), 1);
        sender.send_all(&mut waiting).await.unwrap();
        let mut got = Vec::new();
        assert_eq!(receiver.recv_many(10, &mut got).await.unwrap(), 1);
        assert_is(got.remove(0), 1, 1);
        drop(receiver);
        assert_eq!(sender.tended().await, End::Closed);
        assert!(sender.into_untaken().is_empty());
    });
}

#[test]
fn acknowledgements_close_the_copies_while_nothing_is_sent() {
    run(async {
        let (mut sender, mut receiver) = asynchronous::pair::<usize>().unwrap();
        let (reader, writer) = std::io::pipe().unwrap();
        sender.send(Item::with_fd(0, writer)).await.unwrap();
        drop(receiver.recv().await.unwrap());
        let closed = ::tokio::task::spawn_blocking(move || (&reader).read(&mut [0]).unwrap());
        // The end of the pipe comes when the last copy is closed, and the sender has one.
        ::tokio::select! {
            end = sender.tended() => panic!("{end}"),
            read = closed => assert_eq!(read.unwrap(), 0),
        }
        assert_eq!(sender.in_flight(), 0);
    });
}

#[test]
fn connections_are_changed_between_tokio_and_std() {
    run(async {
        let listener = ::tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let client = ::tokio::net::TcpStream::connect(address).await.unwrap();
        let item = Item::with_tokio_tcp_stream(1, client).unwrap();
        let (_, stream) = item.into_tcp_stream().unwrap();
        assert_eq!(stream.peer_addr().unwrap(), address);
        let (_, stream) = Item::with_fd(1, stream).into_tokio_tcp_stream().unwrap();
        assert_eq!(stream.peer_addr().unwrap(), address);
        let (unix, _other) = ::tokio::net::UnixStream::pair().unwrap();
        let item = Item::with_tokio_unix_stream(1, unix).unwrap();
        let item = item.into_tcp_stream().unwrap_err();
        let (_, mut unix) = item.into_unix_stream().unwrap();
        let (_, other) = Item::with_tokio_unix_stream(1, _other).unwrap().into_unix_stream().unwrap();
        (&other).write_all(b"x").unwrap();
        assert_eq!(unix.read(&mut [0]).unwrap(), 1);
        assert!(Item::with_fd(1, unix).into_tokio_tcp_stream().is_err());
    });
}
