//! What must hold for either end of a pipe, whatever the other one writes.
//!
//! An input is as in `bodies.rs`; each of the fds is the end of one kernel pipe, so that a copy which stays open is found out. Before a read
//! that begins with the byte 14 the sender sends an item.

use std::io::{PipeReader, PipeWriter, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::task::Poll;
use std::time::Duration;

use handover::os::passing::{receive_now, send_now};
use handover::os::poll::{Entry, poll};
use handover::pipe::{Item, Receiver, Sender};
use serde_json::Value;

use crate::bodies::reads;

/// An end that is fuzzed, and what its peer has.
struct Stand {
    ours: UnixStream,
    theirs: Option<UnixStream>,
    held: PipeWriter,
    open: PipeReader,
}

impl Stand {
    fn new() -> Self {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        let (open, held) = std::io::pipe().expect("a pipe");
        Self { ours, theirs: Some(theirs), held, open }
    }

    fn fd(&self) -> OwnedFd {
        self.held.try_clone().expect("a duplicate").into()
    }

    /// Writes what there is room for.
    fn write(&self, bytes: &[u8], fds: usize) {
        let fds: Vec<BorrowedFd<'_>> = (0..fds).map(|_| self.held.as_fd()).collect();
        if !bytes.is_empty() {
            let _ = send_now(self.ours.as_fd(), bytes, &fds);
        }
    }

    /// Everything that the fuzzed end has written.
    fn read(&self) -> Vec<u8> {
        let (mut all, mut buffer) = (Vec::new(), [0; 4096]);
        while let Ok(received) = receive_now(self.ours.as_fd(), &mut buffer) {
            if received.length == 0 {
                break;
            }
            all.extend_from_slice(&buffer[..received.length]);
        }
        all
    }

    /// Nobody has a copy any more.
    fn close(self) {
        let Self { ours, theirs, held, mut open } = self;
        drop((ours, theirs, held));
        let is_over =
            poll(&mut [Entry::readable(open.as_fd())], Some(Duration::ZERO)).expect("it can be watched");
        assert!(is_over, "a copy of an fd stayed open");
        assert_eq!(open.read(&mut [0]).expect("it is ours"), 0, "nothing is ever written");
    }
}

/// What a receiver gives out is acknowledged, each once, and after the end nothing comes.
pub fn receiver(input: &[u8]) {
    let mut stand = Stand::new();
    let mut receiver: Receiver<Value> = Receiver::new(stand.theirs.take().expect("once"));
    let (mut given, mut has_ended, mut answers) = (0, false, Vec::new());
    for (bytes, fds) in reads(input) {
        stand.write(bytes, fds.len());
        loop {
            match receiver.try_recv() {
                Poll::Ready(Ok(Some(_))) => {
                    assert!(!has_ended, "an item came after the end");
                    given += 1;
                }
                Poll::Ready(Err(error)) => has_ended |= error.is_end(),
                Poll::Ready(Ok(None)) => {
                    has_ended = true;
                    break;
                }
                Poll::Pending => break,
            }
        }
        answers.extend(stand.read());
    }
    let mut acknowledged = 0;
    for line in answers.split_inclusive(|byte| *byte == b'\n') {
        let line: Value = serde_json::from_slice(line).expect("a line of JSON");
        if line["type"] == "ack" {
            let re = line["re"].as_u64().expect("a number");
            acknowledged += line["to"].as_u64().unwrap_or(re) - re + 1;
        }
    }
    assert_eq!(acknowledged, given, "what is acknowledged is given out");
    drop(receiver);
    stand.close();
}

/// Each item that was sent is taken, refused, or comes back: one of them, once.
pub fn sender(input: &[u8]) {
    let mut stand = Stand::new();
    let mut sender: Sender<u64> = Sender::new(stand.theirs.take().expect("once"));
    let (mut sent, mut refused) = (0_u64, 0_u64);
    for (bytes, _) in reads(input) {
        let bytes = match bytes.split_first() {
            Some((14, rest)) => {
                sent += u64::from(sender.try_send(Item::with_fd(sent, stand.fd())).is_ok());
                rest
            }
            _ => bytes,
        };
        stand.write(bytes, 0);
        let _ = sender.tend();
        while let Some(one) = sender.next_refused() {
            assert!(one.item.data < sent && one.item.fds.len() == 1);
            refused += 1;
        }
        stand.read();
    }
    let under_way: Vec<_> = sender.in_flight_ids().collect();
    assert_eq!(under_way.len(), sender.in_flight());
    assert_eq!(sender.taken() + refused + under_way.len() as u64, sent);
    // Of these, what the last look at the socket shows was taken does not come back.
    let untaken = sender.into_untaken();
    assert!(untaken.iter().all(|(id, item)| under_way.contains(id) && item.fds.len() == 1));
    drop(untaken);
    stand.close();
}
