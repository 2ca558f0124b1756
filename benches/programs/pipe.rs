//! Fds a second through a pipe, beside a bare loop of `sendmsg` and `recvmsg` on the same kind of socket: `pipe ROUNDS COUNT` prints a line for
//! each round, with five numbers in the order of `main`.
//!
//! One thread sends, another one receives and closes. The bare loop neither counts, checks, acknowledges nor keeps a copy; what that costs is the
//! figure.

use std::collections::VecDeque;
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Instant;

use handover::os::passing::{receive, send_now};
use handover::os::stream::{Until, wait};
use handover::pipe::{Item, pair};
use serde_json::value::RawValue;

/// The data of an item, and the bytes that the bare loop sends with each fd. Neither looks into it.
const DATA: &str = "{\"peer\":\"192.0.2.1:50000\",\"local\":\"192.0.2.2:443\",\"name\":\"web\"}";

/// How many fds travel together where they do.
const BATCH: usize = 32;

fn main() {
    let mut numbers = std::env::args().skip(1).map(|word| word.parse::<usize>().expect("a number"));
    let (rounds, count) = (numbers.next().expect("ROUNDS"), numbers.next().expect("COUNT"));
    let fd = OwnedFd::from(TcpListener::bind("127.0.0.1:0").expect("a listener"));
    for _ in 0..rounds {
        let rates = [
            bare(&fd, count, 1),
            piped(&fd, count, 1, BATCH),
            piped(&fd, count, 1, 1),
            bare(&fd, count * 4, BATCH),
            piped(&fd, count * 4, BATCH, BATCH),
        ];
        println!("{}", rates.map(|rate| format!("{rate:.0}")).join(" "));
    }
}

/// A second's worth, as measured.
fn rate(count: usize, begun: Instant) -> f64 {
    count as f64 / begun.elapsed().as_secs_f64()
}

/// Duplicates, sends, closes; on the other side receives and closes. That is all.
fn bare(fd: &OwnedFd, count: usize, batch: usize) -> f64 {
    let (here, there) = UnixStream::pair().expect("a pair");
    let begun = Instant::now();
    let receiver = thread::spawn(move || {
        let (mut got, mut buffer) = (0, vec![0; 64 << 10]);
        while got < count {
            got += receive(there.as_fd(), &mut buffer).expect("fds").fds.len();
        }
    });
    let bytes = DATA.repeat(batch);
    for _ in 0..count / batch {
        let copies: Vec<OwnedFd> = (0..batch).map(|_| fd.try_clone().expect("a duplicate")).collect();
        let fds: Vec<BorrowedFd<'_>> = copies.iter().map(AsFd::as_fd).collect();
        let mut sent = send(&here, bytes.as_bytes(), &fds);
        while sent < bytes.len() {
            sent += send(&here, &bytes.as_bytes()[sent..], &[]);
        }
    }
    receiver.join().expect("it received them");
    rate(count, begun)
}

fn send(socket: &UnixStream, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> usize {
    loop {
        match send_now(socket.as_fd(), bytes, fds) {
            Ok(sent) => return sent,
            Err(_full) => wait(socket.as_fd(), Until::Writable).expect("it can be waited for"),
        }
    }
}

/// The same work through a pipe: `batch` are sent at once, and at most `take` are taken at once.
fn piped(fd: &OwnedFd, count: usize, batch: usize, take: usize) -> f64 {
    let (mut sender, mut receiver) = pair::<Box<RawValue>>().expect("a pair");
    let data: Box<RawValue> = RawValue::from_string(DATA.to_owned()).expect("JSON");
    let begun = Instant::now();
    let thread = thread::spawn(move || {
        let (mut got, mut items) = (0, Vec::new());
        while got < count {
            got += receiver.recv_many(take, &mut items).expect("items");
            items.clear();
        }
    });
    let mut items = VecDeque::with_capacity(batch);
    for _ in 0..count / batch {
        items.extend((0..batch).map(|_| Item::with_fd(data.clone(), fd.try_clone().expect("a duplicate"))));
        sender.send_all(&mut items).expect("it takes them");
    }
    sender.settle().expect("it took them");
    thread.join().expect("it received them");
    rate(count, begun)
}
