//! The harness, tested without a daemon: the scripted worker, the clients, the stand-in for systemd.

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Command, Stdio};

use sendfd::SendWithFd;

use crate::support::child::OwnedChild;
use crate::support::client::{self, Connection, Failure};
use crate::support::load::Load;
use crate::support::manager::NotifySocket;
use crate::support::reports::Reports;
use crate::support::scratch::{Address, Scratch};
use crate::support::{deadline, eventually, proc, scripted_worker};

/// Scripted workers on one socket, without a supervisor.
struct Stage {
    scratch: Scratch,
    manager: NotifySocket,
    reports: Reports,
    address: Address,
    socket: OwnedFd,
}

impl Stage {
    fn tcp() -> Self {
        let (scratch, address) = (Scratch::new(), Address::tcp());
        let Address::Tcp(to) = address else { panic!("tcp() gives a TCP address") };
        let socket = TcpListener::bind(to).expect("a free address").into();
        Self::new(scratch, address, socket)
    }

    fn unix() -> Self {
        let scratch = Scratch::new();
        let path = scratch.join("http");
        let socket = UnixListener::bind(&path).expect("a free path").into();
        Self::new(scratch, Address::Unix(path), socket)
    }

    fn new(scratch: Scratch, address: Address, socket: OwnedFd) -> Self {
        let (manager, reports) = (NotifySocket::new(&scratch), Reports::new(&scratch));
        Self { scratch, manager, reports, address, socket }
    }

    fn mark(&self) -> &str {
        self.scratch.path().to_str().expect("a path in /tmp")
    }

    fn worker(&self, steps: &[&str]) -> OwnedChild {
        use std::os::fd::AsRawFd;
        let (ours, theirs) = UnixStream::pair().expect("a socket pair");
        let mut command = Command::new(scripted_worker());
        command.arg("activate").arg(scripted_worker()).args(steps);
        command.env(proc::MARK, self.mark()).env("NOTIFY_SOCKET", self.manager.path());
        command.env("WORKER_REPORT", self.reports.path());
        let child = OwnedChild::spawn(command.stdin(OwnedFd::from(theirs)).stdout(Stdio::null()));
        ours.send_with_fd(b"http\n", &[self.socket.as_raw_fd()]).expect("the other end waits");
        child
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        proc::end_marked(self.mark());
    }
}

#[test]
fn the_worker_gets_exactly_the_sockets_that_are_passed() {
    let stage = Stage::tcp();
    let _worker = stage.worker(&["serve", "ready"]);
    stage.manager.wait_for("READY=1");
    let dump = client::get(&stage.address, "/dump").expect("an answer").body;
    let fds: Vec<&str> = dump.lines().skip(1).take_while(|line| !line.starts_with('[')).collect();
    assert!(fds[3].starts_with("3 socket:["), "{dump}");
    assert!(!fds.iter().any(|fd| fd.starts_with("4 ")), "{dump}");
}

#[test]
fn five_hundred_new_connections_a_second_are_answered_with_ease() {
    for stage in [Stage::tcp(), Stage::unix()] {
        let _workers = [stage.worker(&["serve", "ready"]), stage.worker(&["serve", "ready"])];
        stage.manager.wait_for("READY=1");
        let load = Load::open(&stage.address, 600).start();
        load.wait_for(600);
        let tally = load.stop();
        tally.assert_nothing_lost();
        tally.print("without a supervisor");
        assert!(tally.connections >= 600, "{tally:#?}");
        let load = Load::closed(&stage.address, 4).start();
        load.wait_for(500);
        load.stop().assert_nothing_lost();
    }
}

#[test]
fn workers_that_follow_one_another_lose_no_connection() {
    let stage = Stage::tcp();
    let mut old = stage.worker(&["serve", "ready"]);
    stage.reports.wait_for("ready");
    let open = Load::open(&stage.address, 300).start();
    let kept = Load::closed(&stage.address, 2).keep_alive().start();
    for _ in 0..20 {
        let new = stage.worker(&["serve", "ready"]);
        stage.reports.wait_for("ready");
        old.signal(libc::SIGTERM);
        assert_eq!(old.wait(deadline()).and_then(|status| status.code()), Some(0));
        old = new;
    }
    open.stop().assert_nothing_lost();
    kept.stop().assert_nothing_lost();
}

#[test]
fn a_worker_answers_what_it_accepted_before_it_ends() {
    let stage = Stage::tcp();
    let mut worker = stage.worker(&["serve", "ready"]);
    stage.reports.wait_for("ready");
    let mut slow = Connection::open(&stage.address).expect("a connection");
    slow.ask("/slow/100", true).expect("a request");
    client::get(&stage.address, "/").expect("the slow connection was accepted before this one");
    worker.signal(libc::SIGTERM);
    let answer = slow.answer().expect("an answer in spite of SIGTERM");
    assert!(answer.closing, "{answer:?}");
    assert_eq!(worker.wait(deadline()).and_then(|status| status.code()), Some(0));
}

#[test]
fn each_way_to_lose_a_request_is_told_from_the_others() {
    let stage = Stage::tcp();
    let connect = || Connection::open(&stage.address).expect("a connection");
    let refused = Connection::open(&Address::tcp()).map(drop);
    assert_eq!(refused, Err(Failure::Refused));
    let missing = Connection::open(&Address::Unix(stage.scratch.join("nothing"))).map(drop);
    assert_eq!(missing, Err(Failure::Refused));

    let mut worker = stage.worker(&["serve", "ready"]);
    stage.reports.wait_for("ready");
    let (mut cut, mut empty, mut crossed) = (connect(), connect(), connect());
    crossed.get("/", true).expect("an answer");
    cut.ask("/drip/100000", true).expect("a request");
    empty.ask("/slow/20000", false).expect("a request");
    cut.wait_for_answer();
    client::get(&stage.address, "/").expect("the three were accepted before this one");
    worker.signal(libc::SIGKILL);
    worker.wait(deadline());
    assert_eq!(cut.answer().map(drop), Err(Failure::Cut));
    assert!(matches!(empty.answer().map(drop), Err(Failure::Empty | Failure::Reset)));
    assert_eq!(crossed.get("/", true).map(drop), Err(Failure::Crossed));
}

#[test]
fn a_step_can_be_for_one_worker_only() {
    let stage = Stage::tcp();
    let mut worker = stage.worker(&["[slot=7] exit=1", "[slot=-] exit=3"]);
    assert_eq!(worker.wait(deadline()).and_then(|status| status.code()), Some(3));
}

#[test]
fn what_a_test_started_is_found_by_its_mark_and_ended() {
    let stage = Stage::tcp();
    let mut worker = stage.worker(&["fork=setsid ignore-term", "exit=0"]);
    let child = stage.reports.wait("a forked child", |report| report.what.starts_with("forked")).child();
    worker.wait(deadline());
    let child = child.expect("its pid");
    eventually("the child is marked", || proc::marked(stage.mark()).contains(&child).then_some(()));
    proc::end_marked(stage.mark());
    assert!(!proc::is_alive(child));
}
