//! Pipes between processes: what arrives in another one, what comes back from one that ends, what happens at limits, and
//! that both examples and both programs of docs/pipes.md do what they say.
//!
//! This binary is its own other process: `child` holds what it does then.

#![cfg(target_os = "linux")]
#![allow(unreachable_pub, reason = "a test program")]
#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod child;
mod examples;
mod limits;

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::time::Duration;

use handover::pipe::{End, Item, Sender};
use serde::Serialize;

use child::{Child, page, python};

/// How long a client waits. Far above what is expected.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A connection, and its client.
pub fn connection() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    (listener.accept().unwrap().0, client)
}

/// Everything that a client gets.
pub fn all(mut client: TcpStream) -> String {
    let mut text = String::new();
    client.read_to_string(&mut text).unwrap();
    text
}

#[derive(Serialize)]
struct Client {
    peer: String,
}

#[test]
fn connections_are_served_by_another_process() {
    let (socket, mut child) = Child::with_pipe("serve", "exec");
    let mut sender = Sender::new(socket);
    for number in 0..3 {
        let (connection, client) = connection();
        sender.send(Item::with_fd(number, connection)).unwrap();
        sender.settle().unwrap();
        assert_eq!(all(client), format!("{number} by {}", child.pid()));
    }
    assert!(sender.close().unwrap().is_empty());
    child.ends_well();
}

#[test]
fn what_a_killed_process_did_not_take_comes_back() {
    let (socket, mut child) = Child::with_pipe("take_one_and_wait", "exec");
    let mut sender = Sender::new(socket);
    let (mut items, clients): (VecDeque<_>, Vec<_>) = (0..4).map(connection_item).unzip();
    sender.send_all(&mut items).unwrap();
    child.says("one");
    child.kill();
    assert_eq!(sender.settle().unwrap_err(), End::Closed);
    let untaken = sender.into_untaken();
    assert_eq!(untaken.iter().map(|(id, _)| id.get()).collect::<Vec<_>>(), [2, 3, 4]);
    let mut clients = clients.into_iter();
    assert_eq!(all(clients.next().unwrap()), "", "the first one was the child's, and ended with it");
    for ((_, item), client) in untaken.into_iter().zip(clients) {
        let (number, mut connection) = item.into_tcp_stream().unwrap();
        write!(connection, "{number}, after all").unwrap();
        drop(connection);
        assert_eq!(all(client), format!("{number}, after all"));
    }
}

fn connection_item(number: u32) -> (Item<u32>, TcpStream) {
    let (connection, client) = connection();
    (Item::with_fd(number, connection), client)
}

#[test]
fn after_all_that_can_go_wrong_no_fd_is_left_over() {
    Child::run("count_fds", "exec").ends_well();
}

#[test]
fn the_python_receiver_of_the_page_takes_connections() {
    let Some(mut python) = python() else { return };
    let (here, there) = UnixStream::pair().unwrap();
    python.arg("-c").arg(page("receiver")).stdin(Stdio::from(OwnedFd::from(there)));
    let mut child = Child::of(python);
    let mut sender = Sender::new(here);
    // Enough for several of them to travel in one message.
    let (mut items, clients): (VecDeque<_>, Vec<_>) = (0..100)
        .map(|number| {
            let (connection, client) = connection();
            (Item::with_fd(Client { peer: number.to_string() }, connection), client)
        })
        .unzip();
    sender.send_all(&mut items).unwrap();
    assert!(sender.close().unwrap().is_empty());
    for (number, client) in clients.into_iter().enumerate() {
        assert_eq!(all(client), format!("hello {number}\n"));
    }
    child.ends_well();
}

#[test]
fn the_python_sender_of_the_page_gives_connections() {
    let Some(mut python) = python() else { return };
    let (here, there) = UnixStream::pair().unwrap();
    let names: Vec<String> = (0..20).map(|number| format!("name{number}")).collect();
    python.arg("-c").arg(page("sender")).args(&names).stdout(Stdio::from(OwnedFd::from(there)));
    let mut child = Child::of(python);
    let receiver = handover::pipe::Receiver::<serde_json::Value>::with_credits(here, 4);
    let mut got = Vec::new();
    for item in receiver {
        let (data, mut stream) = item.unwrap().into_unix_stream().unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        assert_eq!(data["name"], *text);
        got.push(text);
    }
    assert_eq!(got, names);
    child.ends_well();
}
