//! Fds a second through a pipe, beside a bare loop of `sendmsg` and `recvmsg` on the same kind of socket, in the same run, as
//! a ratio: `cargo bench --bench pipe`, with `-- --quick` for a run that only shows that it can be made.
//!
//! One thread sends, another one receives and closes. The bare loop neither counts, checks, acknowledges nor keeps a copy; what that costs is the figure.

#![allow(clippy::disallowed_methods, reason = "it measures time")]
#![allow(clippy::cast_precision_loss, reason = "measured numbers are small")]

use std::collections::VecDeque;
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Instant;

use handover::os::passing::{receive, send_now};
use handover::os::stream::{Until, wait};
use handover::pipe::{Item, pair};

/// The data of an item, and the bytes that the bare loop sends with each fd.
const DATA: &str = "{\"peer\":\"192.0.2.1:50000\",\"local\":\"192.0.2.2:443\",\"name\":\"web\"}";

/// How many fds travel together where they do.
const BATCH: usize = 32;

fn main() {
    let quick = std::env::args().any(|argument| argument == "--quick");
    let (rounds, count) = if quick { (1, 3_200) } else { (7, 192_000) };
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let fd = OwnedFd::from(listener);
    let mut figures: Vec<[f64; 4]> = Vec::new();
    for _ in 0..rounds {
        figures.push([
            bare(&fd, count, 1),
            piped(&fd, count, 1),
            bare(&fd, count, BATCH),
            piped(&fd, count, BATCH),
        ]);
    }
    let median = |pick: &dyn Fn(&[f64; 4]) -> f64| {
        let mut values: Vec<f64> = figures.iter().map(pick).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    println!("fds a second, median of {rounds} rounds of {count}");
    for (at, name) in
        ["bare, one by one", "pipe, one by one", "bare, 32 together", "pipe, 32 together"].iter().enumerate()
    {
        println!("  {name:18} {:>9.0}", median(&|round| round[at]));
    }
    println!("ratio");
    println!("  one by one         {:.2}", median(&|round| round[1] / round[0]));
    println!("  32 together        {:.2}", median(&|round| round[3] / round[2]));
    println!("  32 together, beside bare one by one {:.2}", median(&|round| round[3] / round[0]));
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
        let mut rest = send(&here, bytes.as_bytes(), &fds);
        while rest < bytes.len() {
            rest += send(&here, &bytes.as_bytes()[rest..], &[]);
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

/// The same work through a pipe.
fn piped(fd: &OwnedFd, count: usize, batch: usize) -> f64 {
    let (mut sender, mut receiver) = pair::<String>().expect("a pair");
    let begun = Instant::now();
    let thread = thread::spawn(move || {
        let (mut got, mut items) = (0, Vec::new());
        while got < count {
            got += receiver.recv_many(batch, &mut items).expect("items");
            items.clear();
        }
    });
    let mut items = VecDeque::with_capacity(batch);
    for _ in 0..count / batch {
        items
            .extend((0..batch).map(|_| Item::with_fd(DATA.to_owned(), fd.try_clone().expect("a duplicate"))));
        sender.send_all(&mut items).expect("it takes them");
    }
    sender.settle().expect("it took them");
    thread.join().expect("it received them");
    rate(count, begun)
}
