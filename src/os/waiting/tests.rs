//! This process looks at itself: threads of it wait in each of the ways.

use std::collections::BTreeSet;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use super::super::clock::monotonic;
use super::{Awaited, Looker, Sight, Target};

const PATIENCE: Duration = Duration::from_secs(20);

fn look(socket: impl AsFd) -> Sight {
    let sockets = vec![Awaited::of(socket).unwrap()];
    look_at(&Target { leader: std::process::id(), sockets, inherited: BTreeSet::new() })
}

fn look_at(target: &Target) -> Sight {
    // A new one each time: the tables of connections are looked at, too.
    let mut looker = Looker::default();
    looker.begin_round();
    looker.look(target)
}

/// Begins with a socket that nobody waits on, and ends when it is seen that somebody does.
fn is_seen_once<S: AsFd + Sync>(socket: &S, wait: impl FnOnce(&S) + Send, end: impl FnOnce()) {
    assert_eq!(look(socket).waited_on, [false]);
    thread::scope(|scope| {
        let waiting = scope.spawn(|| wait(socket));
        let begun = monotonic();
        while look(socket).waited_on != [true] {
            assert!(monotonic() - begun < PATIENCE, "never seen: {:?}", look(socket));
            thread::park_timeout(Duration::from_millis(5));
        }
        end();
        waiting.join().unwrap();
    });
}

fn tcp() -> (TcpListener, impl FnOnce()) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, move || drop(TcpStream::connect(address).unwrap()))
}

fn poll(socket: &impl AsFd) {
    let mut fds = [libc::pollfd { fd: socket.as_fd().as_raw_fd(), events: libc::POLLIN, revents: 0 }];
    // SAFETY: one entry, and the count says so.
    assert_eq!(unsafe { libc::poll(fds.as_mut_ptr(), 1, -1) }, 1);
}

fn select(socket: &impl AsFd) {
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: all bytes zero are a valid set, and the fd is below FD_SETSIZE in this test.
    let mut set: libc::fd_set = unsafe { std::mem::zeroed() };
    // SAFETY: as said, and the set is ours.
    unsafe { libc::FD_SET(fd, &mut set) };
    let null = std::ptr::null_mut();
    // SAFETY: the set outlives the call, and null means that nothing else is asked.
    assert_eq!(unsafe { libc::select(fd + 1, &raw mut set, null, null, null.cast()) }, 1);
}

#[test]
fn a_thread_in_accept_is_seen() {
    let (listener, connect) = tcp();
    is_seen_once(&listener, |listener| drop(listener.accept().unwrap()), connect);
}

#[test]
fn a_thread_in_poll_is_seen() {
    let (listener, connect) = tcp();
    is_seen_once(&listener, poll, connect);
}

#[test]
fn a_thread_in_select_is_seen() {
    let (listener, connect) = tcp();
    is_seen_once(&listener, select, connect);
}

#[test]
fn an_epoll_with_it_is_seen_though_no_thread_waits_there() {
    let (listener, connect) = tcp();
    let add = |listener: &TcpListener| {
        // SAFETY: a flag.
        let epoll = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        let mut event = libc::epoll_event { events: 1, u64: 0 };
        // SAFETY: both fds are open, and the event outlives the call.
        let added =
            unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, listener.as_raw_fd(), &raw mut event) };
        assert_eq!(added, 0);
        poll(listener);
        // SAFETY: the fd is ours, and not used after.
        unsafe { libc::close(epoll) };
    };
    is_seen_once(&listener, add, connect);
}

#[test]
fn a_connection_that_was_accepted_is_seen() {
    let (listener, connect) = tcp();
    connect();
    assert_eq!(look(&listener).waited_on, [false], "it waits in the queue");
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let accepted = [listener.accept().unwrap(), listener.accept().unwrap()];
    assert_eq!(look(&listener).waited_on, [true]);
    drop((accepted, client));
    assert_eq!(look(&listener).waited_on, [false]);
}

#[test]
fn a_connection_that_was_there_before_is_not_its_own() {
    let (listener, _) = tcp();
    let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (accepted, _) = listener.accept().unwrap();
    let inherited = [Awaited::of(&accepted).unwrap().inode].into();
    let sockets = vec![Awaited::of(&listener).unwrap()];
    let target = Target { leader: std::process::id(), sockets, inherited };
    assert_eq!(look_at(&target).waited_on, [false]);
}

#[test]
fn nobody_accepts_on_a_datagram_socket_and_it_is_seen_all_the_same() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let send = move || assert_eq!(UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"x", address).unwrap(), 1);
    is_seen_once(&socket, |socket| assert_eq!(socket.recv_from(&mut [0; 8]).unwrap().0, 1), send);
    is_seen_once(&socket, poll, send);
}

#[test]
fn a_unix_socket_is_like_any_other() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("s");
    let listener = UnixListener::bind(&path).unwrap();
    let connect = || drop(std::os::unix::net::UnixStream::connect(&path).unwrap());
    is_seen_once(&listener, |listener| drop(listener.accept().unwrap()), connect);
}

#[test]
fn a_process_that_descends_from_the_leader_is_looked_at() {
    let (listener, _) = tcp();
    let socket = listener.try_clone().unwrap();
    // The socket is its standard input; a child of it, in a session of its own, accepts from there.
    let accept = "import os, socket, time\n\
        os.fork() and time.sleep(60)\nos.setsid()\nsocket.socket(fileno=0).accept()";
    let mut child = Command::new("python3")
        .args(["-c", accept])
        .stdin(Stdio::from(std::os::fd::OwnedFd::from(socket)))
        .spawn()
        .unwrap();
    let target = |leader| Target {
        leader,
        sockets: vec![Awaited::of(&listener).unwrap()],
        inherited: BTreeSet::new(),
    };
    let begun = monotonic();
    while look_at(&target(child.id())).waited_on != [true] {
        assert!(monotonic() - begun < PATIENCE, "never seen");
        thread::park_timeout(Duration::from_millis(20));
    }
    drop(TcpStream::connect(listener.local_addr().unwrap()).unwrap());
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn an_io_uring_is_an_obstacle_and_so_is_a_process_that_is_not_there() {
    let (listener, _) = tcp();
    let gone = Target {
        leader: i32::MAX.unsigned_abs(),
        sockets: vec![Awaited::of(&listener).unwrap()],
        inherited: BTreeSet::new(),
    };
    let sight = look_at(&gone);
    assert!(sight.obstacle.unwrap().contains("does not show process"));
    let mut parameters = [0_u8; 120];
    // SAFETY: struct io_uring_params has 120 bytes, all of them zero is what it may be.
    let ring = unsafe { libc::syscall(libc::SYS_io_uring_setup, 4, parameters.as_mut_ptr()) };
    let Ok(ring) = i32::try_from(ring) else { panic!("an fd") };
    if ring < 0 {
        eprintln!("skipped: io_uring is switched off here");
        return;
    }
    let sight = look(&listener);
    // SAFETY: the fd is ours.
    unsafe { libc::close(ring) };
    assert!(sight.obstacle.unwrap().contains("io_uring"));
}
