//! Sockets that the service manager passes: matched by name, then by address, and taken as they are.

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;

use socket2::Socket;

use crate::support::load::Load;
use crate::support::machine::{skipped, succeeds};
use crate::support::proc;
use crate::support::scratch::Address;
use crate::support::service::{Plan, Service};

/// A listening socket at `address`, as a service manager makes one.
fn listening(address: &Address) -> OwnedFd {
    match address {
        Address::Tcp(to) => TcpListener::bind(to).expect("a free address").into(),
        Address::Unix(path) => std::os::unix::net::UnixListener::bind(path).expect("a free path").into(),
    }
}

fn inode(fd: &OwnedFd) -> String {
    use std::os::fd::AsRawFd;
    std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).expect("our fd").display().to_string()
}

/// Starts `plan` with `sockets` under `names`.
fn begin(plan: Plan, sockets: Vec<OwnedFd>, names: &str) -> Service {
    let setup = plan.setup().pass(sockets, names);
    plan.begin_with(setup)
}

#[track_caller]
fn serves_with(plan: Plan, names: &str) {
    let socket = listening(&plan.address);
    let inode = inode(&socket);
    let service = begin(plan, vec![socket], names);
    service.manager().wait_for("READY=1");
    service.get("/").expect("an answer");
    assert_eq!(proc::fds(service.ready()[0].pid).get(&3), Some(&inode));
    let load = Load::open(service.address(), 200).start();
    service.reload_well();
    load.stop().assert_nothing_lost();
    assert_eq!(proc::fds(service.ready()[0].pid).get(&3), Some(&inode));
    service.stop();
}

#[test]
fn a_socket_is_taken_by_its_name() {
    serves_with(Plan::new(), "http");
}

#[test]
fn a_listener_without_an_address_is_inherited_by_name() {
    let plan = Plan::new().inherited();
    serves_with(plan, "http");
}

#[test]
fn a_socket_whose_name_says_nothing_is_taken_by_its_address() {
    for names in ["myapp.socket", "unknown", "LISTEN_FD_3", ""] {
        serves_with(Plan::new(), names);
    }
}

#[test]
fn a_unix_socket_of_the_manager_is_left_in_place_at_the_end() {
    let plan = Plan::on(|scratch| Address::unix(scratch, "http"));
    let path = plan.scratch.join("http");
    let socket = listening(&plan.address);
    let file = path.metadata().expect("a socket").ino();
    let service = begin(plan, vec![socket.try_clone().expect("a free fd")], "http");
    service.manager().wait_for("READY=1");
    let (scratch, mut daemon) = (service.plan.scratch.clone(), service.daemon);
    daemon.stop();
    assert_eq!(path.metadata().expect("only its owner removes it").ino(), file);
    drop((scratch, socket));
}

#[test]
fn what_the_owner_has_set_on_a_socket_stays_set() {
    let plan = Plan::new().set("listener.http", "backlog", "100").set("listener.http", "keepalive", "true");
    let socket = Socket::from(listening(&plan.address));
    socket.set_recv_buffer_size(300_000).expect("our socket");
    socket.set_nonblocking(true).expect("our socket");
    let before = (socket.recv_buffer_size().expect("ours"), socket.keepalive().expect("ours"));
    let service = begin(plan, vec![OwnedFd::from(socket.try_clone().expect("a free fd"))], "http");
    service.manager().wait_for("READY=1");
    service.reload_well();
    service.get("/").expect("an answer");
    assert_eq!((socket.recv_buffer_size().expect("ours"), socket.keepalive().expect("ours")), before);
    assert!(socket.nonblocking().expect("ours"), "O_NONBLOCK of a shared description is never changed");
    service.stop();
}

#[test]
fn a_socket_is_made_nonblocking_only_where_the_configuration_says_so() {
    let plan = Plan::new().set("listener.http", "nonblocking", "true");
    let other = Address::tcp();
    let Address::Tcp(to) = other else { panic!("tcp() gives a TCP address") };
    let plan = plan.set("listener.other", "address", &format!("\"tcp://{to}\""));
    let plan = plan.pool("listeners", "[\"http\", \"other\"]");
    let sockets = [listening(&plan.address), listening(&other)].map(Socket::from);
    let passed = sockets.iter().map(|socket| socket.try_clone().expect("a free fd").into()).collect();
    let service = begin(plan, passed, "http:other");
    service.manager().wait_for("READY=1");
    let nonblocking = sockets.each_ref().map(|socket| socket.nonblocking().expect("ours"));
    assert_eq!(nonblocking, [true, false]);
    assert!(!service.daemon.log.text().contains("drift"), "it is as it should be");
    service.stop();
}

#[track_caller]
fn refused(mut service: Service, texts: &[&str]) {
    let (code, log) = service.ended();
    assert_eq!(code, Some(1), "{log}");
    for text in texts {
        assert!(log.contains(text), "nothing of {text:?} in:\n{log}");
    }
}

#[test]
fn a_socket_that_nobody_wants_is_an_error() {
    let plan = Plan::new();
    let sockets = vec![listening(&plan.address), listening(&Address::tcp())];
    refused(begin(plan, sockets, "http:stray"), &["stray"]);
}

#[test]
fn a_socket_that_nobody_wants_is_closed_with_a_warning_where_that_is_configured() {
    let plan = Plan::new().top("unused_sockets", "\"close\"");
    let stray = Address::tcp();
    let sockets = vec![listening(&plan.address), listening(&stray)];
    let service = begin(plan, sockets, "http:stray");
    service.manager().wait_for("READY=1");
    service.daemon.log.wait_for("a warning", |line| line.text.contains("stray"));
    assert!(crate::support::client::get(&stray, "/").is_err());
    service.stop();
}

#[test]
fn a_socket_that_is_wanted_but_not_passed_is_an_error() {
    let plan = Plan::new().inherited();
    refused(plan.begin(), &["http"]);
}

#[test]
fn a_socket_of_another_address_than_its_listener_is_an_error() {
    let plan = Plan::new();
    let Address::Tcp(wanted) = plan.address else { panic!("Plan::new is on TCP") };
    let socket = listening(&Address::tcp());
    refused(begin(plan, vec![socket], "http"), &["http", &wanted.to_string()]);
}

#[test]
fn a_socket_of_another_type_than_its_listener_is_an_error() {
    let plan = Plan::new();
    let Address::Tcp(to) = plan.address else { panic!("Plan::new is on TCP") };
    let socket = std::net::UdpSocket::bind(to).expect("a free address");
    refused(begin(plan, vec![socket.into()], "http"), &["http"]);
}

#[test]
fn several_sockets_of_one_name_are_one_listener() {
    let plan = Plan::new().inherited();
    let second = Address::tcp();
    let sockets = vec![listening(&plan.address), listening(&second)];
    let service = begin(plan, sockets, "http:http");
    service.manager().wait_for("READY=1");
    let dump = service.get("/dump").expect("an answer").body;
    assert!(dump.contains("LISTEN_FDNAMES=http:http"), "{dump}");
    crate::support::client::get(&second, "/").expect("the second serves, too");
    service.stop();
}

#[test]
fn variables_for_another_process_are_not_for_us() {
    let plan = Plan::new();
    let setup = plan.setup().env("LISTEN_PID", "1").env("LISTEN_FDS", "1").env("LISTEN_FDNAMES", "http");
    let service = plan.start_with(setup);
    service.get("/").expect("handover bound the address itself");
    service.stop();
}

#[test]
fn who_misses_a_socket_is_told_that_it_went_to_another_process() {
    // A shell between the service manager and handover: `LISTEN_PID` is the shell's.
    let wrapper = ["sh", "-c", "LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=http \"$0\" \"$@\"; exit $?"];
    let plan = Plan::new().inherited();
    let setup = plan.setup().under(wrapper);
    let texts = ["listener http: it has no address", "LISTEN_PID=", "hint: ", "exec"];
    refused(plan.begin_with(setup), &texts);
    // The same where it has an address, which whoever passed the socket holds.
    let plan = Plan::new();
    let _held = listening(&plan.address);
    let setup = plan.setup().under(wrapper);
    refused(plan.begin_with(setup), &["address already in use", "LISTEN_PID=", "hint: ", "exec"]);
}

#[test]
fn an_environment_that_cannot_be_so_is_refused() {
    for (environment, text) in [
        ("LISTEN_PID=$$ LISTEN_FDS=many", "LISTEN_FDS=\"many\" is not a number of fds"),
        ("LISTEN_PID=me LISTEN_FDS=1", "LISTEN_PID=\"me\" is not the number of a process"),
        ("LISTEN_PID=$$ LISTEN_FDS=60", "is not open"),
        ("LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=a:b", "LISTEN_FDNAMES has 2 names for 1 fds"),
        ("LISTEN_PID=$$ LISTEN_FDS=1", "inherited fd 3 (\"unknown\"): not a socket"),
    ] {
        let plan = Plan::new();
        let command = format!("exec 3</dev/null; {environment} exec \"$0\" \"$@\"");
        let setup = plan.setup().under(["sh", "-c", &command]);
        refused(plan.begin_with(setup), &[text]);
    }
}

#[test]
fn systemds_own_tool_starts_it_with_the_first_connection() {
    if skipped("systemd-socket-activate", !succeeds(&["systemd-socket-activate", "--version"])) {
        return;
    }
    let plan = Plan::new();
    let Address::Tcp(to) = plan.address else { panic!("Plan::new is on TCP") };
    let (to, notify) = (to.to_string(), format!("--setenv=NOTIFY_SOCKET={}", plan.manager.path().display()));
    let setup = plan.setup();
    let wrapper = ["systemd-socket-activate", "-l", &to, "--fdname=http", &notify];
    let passed = ["--setenv=RUNTIME_DIRECTORY", "--setenv=TEST_OF_HANDOVER"];
    let service = plan.begin_with(setup.under(wrapper.iter().chain(&passed)));
    crate::support::eventually("it listens", || {
        crate::support::client::Connection::open(service.address()).ok()
    });
    service.manager().wait_for("READY=1");
    service.get("/").expect("an answer");
    let listener = service.daemon.status().listener("http").cloned().expect("it is shown");
    assert_eq!(listener["origin"], "inherited");
    let load = Load::open(service.address(), 200).start();
    service.reload_well();
    load.stop().assert_nothing_lost();
    service.stop();
}
