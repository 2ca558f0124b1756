//! Sockets that are no stream: datagrams over UDP and Unix, and sequenced packets. They are held and handed over alike.

use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use socket2::{Domain, SockAddr, Socket, Type};

use crate::support::reports::number;
use crate::support::scratch::Address;
use crate::support::service::{Plan, Service, quoted};
use crate::support::{PATIENCE, eventually, proc};

/// A service that listens on `address` besides.
fn also_on(address: &str) -> Plan {
    Plan::new().set("listener.other", "address", &quoted(address)).pool("listeners", "[\"http\", \"other\"]")
}

/// Asks on `client`, again and again while a rollout goes on; every question must be answered.
#[track_caller]
fn is_answered_across_a_rollout(service: &Service, mut ask: impl FnMut() -> String) {
    let socket = || proc::fds(service.ready()[0].pid).get(&4).cloned();
    let first = socket();
    assert_eq!(number(&ask(), "generation="), Some(1));
    let reload = service.daemon.begin(&["reload"]);
    eventually("the new worker answers", || (number(&ask(), "generation=") == Some(2)).then_some(()));
    reload.finish().assert_code(handover::exit::DONE);
    service.daemon.settle();
    (0..20).for_each(|_| assert_eq!(number(&ask(), "generation="), Some(2)));
    assert_eq!(socket(), first, "the same socket");
}

#[track_caller]
fn question(client: &Socket) -> String {
    let mut client: &Socket = client;
    let mut buffer = [0; 2048];
    client.write_all(b"?").expect("somebody has the socket");
    let length = client.read(&mut buffer).expect("an answer");
    String::from_utf8_lossy(&buffer[..length]).into_owned()
}

fn patient(client: Socket) -> Socket {
    client.set_read_timeout(Some(PATIENCE)).expect("our socket");
    client
}

#[test]
fn datagrams_over_udp_are_answered_across_a_rollout() {
    let Address::Tcp(to) = Address::tcp() else { panic!("tcp() gives a TCP address") };
    let service = also_on(&format!("udp://{to}")).start();
    let client = patient(Socket::new(Domain::IPV4, Type::DGRAM, None).expect("a socket"));
    client.connect(&SockAddr::from(to)).expect("an address");
    is_answered_across_a_rollout(&service, || question(&client));
    let status = service.daemon.status();
    let listener = status.listener("other").expect("it is shown");
    assert_eq!((&listener["kind"], &listener["queue_max"]), (&"datagram".into(), &serde_json::Value::Null));
    service.stop();
}

#[test]
fn datagrams_over_a_unix_socket_are_answered_across_a_rollout() {
    let plan = Plan::new();
    let path = plan.scratch.join("dgram");
    let plan = plan
        .set("listener.other", "address", &quoted(&format!("unix-dgram:{}", path.display())))
        .set("listener.other", "socket_mode", "\"0606\"")
        .set("listener.other", "socket_group", "\"daemon\"")
        .pool("listeners", "[\"http\", \"other\"]");
    let service = plan.start();
    let file = path.metadata().expect("a socket");
    assert_eq!((file.permissions().mode() & 0o777, file.gid()), (0o606, 1));
    let client = patient(Socket::new(Domain::UNIX, Type::DGRAM, None).expect("a socket"));
    let own = service.plan.scratch.join("client");
    client.bind(&SockAddr::unix(&own).expect("a short path")).expect("a free path");
    client.connect(&SockAddr::unix(&path).expect("a short path")).expect("somebody has it");
    is_answered_across_a_rollout(&service, || question(&client));
    service.stop();
    assert!(!path.exists(), "its file goes with it");
}

#[test]
fn sequenced_packets_are_accepted_across_a_rollout() {
    let plan = Plan::new();
    let path = plan.scratch.join("packets");
    let plan = plan
        .set("listener.other", "address", &quoted(&format!("unix-seqpacket:{}", path.display())))
        .set("listener.other", "backlog", "77")
        .pool("listeners", "[\"http\", \"other\"]");
    let service = plan.start();
    let to = SockAddr::unix(&path).expect("a short path");
    is_answered_across_a_rollout(&service, || {
        let client = patient(Socket::new(Domain::UNIX, Type::SEQPACKET, None).expect("a socket"));
        client.connect(&to).expect("it listens");
        client.send(b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n").expect("it is read");
        let mut buffer = [0; 2048];
        let length = (&client).read(&mut buffer).expect("an answer");
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    });
    let status = service.daemon.status();
    assert_eq!(status.listener("other").expect("it is shown")["kind"], "seqpacket");
    service.stop();
    assert!(!path.exists(), "its file goes with it");
}
