//! Sockets that handover binds: their kinds, their files, and that they stay.

use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixListener;

use crate::support::client;
use crate::support::load::Load;
use crate::support::machine::{AS_NOBODY, cannot_be_nobody};
use crate::support::proc;
use crate::support::scratch::Address;
use crate::support::service::{Plan, Service, quoted};

/// The socket (by inode) that a service's worker listens on.
fn socket_of_worker(service: &Service) -> String {
    proc::fds(service.ready()[0].pid).get(&3).expect("fd 3").clone()
}

#[test]
fn the_same_socket_serves_over_rollouts_deaths_and_reloads() {
    for plan in [Plan::new(), Plan::on(|scratch| Address::unix(scratch, "http"))] {
        let service = plan.start();
        let first = socket_of_worker(&service);
        for _ in 0..3 {
            service.reload_well();
            assert_eq!(socket_of_worker(&service), first);
        }
        service.stop();
    }
}

#[test]
fn a_unix_socket_has_its_mode_and_owner_and_is_gone_at_the_end() {
    let plan = Plan::on(|scratch| Address::unix(scratch, "http"));
    let path = plan.scratch.join("http");
    let plan = plan.set("listener.http", "socket_mode", "\"0620\"").set(
        "listener.http",
        "socket_user",
        "\"nobody\"",
    );
    let service = plan.start();
    let file = path.metadata().expect("a socket");
    assert!(file.file_type().is_socket());
    assert_eq!((file.mode() & 0o777, file.uid()), (0o620, 65534));
    service.get("/").expect("an answer");
    service.stop();
    assert!(!path.exists());
}

#[test]
fn what_a_dead_process_left_at_a_unix_path_is_replaced() {
    let plan = Plan::on(|scratch| Address::unix(scratch, "http"));
    drop(UnixListener::bind(plan.scratch.join("http")).expect("a free path"));
    let service = plan.start();
    service.get("/").expect("an answer");
    service.stop();
}

/// Starts a service whose address cannot be had.
#[track_caller]
fn refused(plan: Plan, codes: &[i32], texts: &[&str]) {
    let mut service = plan.begin();
    let (code, log) = service.ended();
    assert!(codes.contains(&code.unwrap_or(-1)), "{code:?}: {log}");
    for text in texts {
        assert!(log.contains(text), "nothing of {text:?} in:\n{log}");
    }
    assert_eq!(service.reports().count("started"), 0, "no worker is started before all listeners are bound");
}

#[test]
fn a_file_at_a_unix_path_is_not_touched() {
    let plan = Plan::on(|scratch| Address::unix(scratch, "http"));
    let path = plan.scratch.write("http", "precious");
    let scratch = plan.scratch.clone();
    refused(plan, &[1], &["listener", "http", &path.display().to_string()]);
    assert_eq!(std::fs::read_to_string(scratch.join("http")).expect("it is there"), "precious");
}

#[test]
fn a_living_socket_at_a_unix_path_is_not_touched() {
    let plan = Plan::on(|scratch| Address::unix(scratch, "http"));
    let path = plan.scratch.join("http");
    let _other = UnixListener::bind(&path).expect("a free path");
    let scratch = plan.scratch.clone();
    let inode = path.metadata().expect("a socket").ino();
    refused(plan, &[1], &["listener", "http", "in use"]);
    assert_eq!(path.metadata().expect("a socket").ino(), inode);
    drop(scratch);
}

#[test]
fn a_unix_path_that_is_too_long_is_a_fault_of_the_configuration() {
    let plan = Plan::on(|scratch| Address::Unix(scratch.join(&"x".repeat(100))));
    refused(plan, &[2], &["107"]);
}

#[test]
fn an_address_that_somebody_has_is_refused() {
    let plan = Plan::new();
    let Address::Tcp(to) = plan.address else { panic!("Plan::new is on TCP") };
    let _other = std::net::TcpListener::bind(to).expect("a free address");
    refused(plan, &[1], &["listener", "http", &to.to_string(), "in use"]);
}

#[test]
fn an_address_that_is_not_ours_is_refused() {
    let plan = Plan::new().set("listener.http", "address", "\"tcp://192.0.2.1:8080\"");
    refused(plan, &[1], &["192.0.2.1:8080", "hint:"]);
}

#[test]
fn a_port_that_we_may_not_bind_is_refused() {
    if cannot_be_nobody() {
        return;
    }
    let Address::Tcp(mut to) = Address::tcp() else { panic!("tcp() gives a TCP address") };
    to.set_port(81);
    let plan = Plan::new().set("listener.http", "address", &quoted(&format!("tcp://{to}")));
    plan.open_to_all();
    let setup = plan.setup().under(AS_NOBODY);
    let mut service = plan.begin_with(setup);
    let (code, log) = service.ended();
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains("permission denied") || log.contains("Permission denied"), "{log}");
}

#[test]
fn an_abstract_unix_socket_works_like_any_other() {
    use std::os::linux::net::SocketAddrExt;
    let name = format!("handover-test-{}", std::process::id());
    let plan = Plan::new().set("listener.http", "address", &quoted(&format!("unix:@{name}")));
    let service = plan.start();
    let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).expect("a short name");
    std::os::unix::net::UnixStream::connect_addr(&address).expect("somebody listens");
    service.stop();
}

#[test]
fn listeners_come_and_go_while_the_others_serve() {
    let mut service = Plan::new().workers(2).start();
    let (extra, path) = (Address::unix(&service.plan.scratch, "extra"), service.plan.scratch.join("extra"));
    let load = Load::open(service.address(), 200).start();
    service.configure("listener.extra", "address", Some(&quoted(&extra.to_string())));
    service.configure("pool.web", "listeners", Some("[\"http\", \"extra\"]"));
    service.reload_well();
    client::get(&extra, "/").expect("the new listener serves");
    service.configure("listener.extra", "address", None);
    service.configure("pool.web", "listeners", Some("[\"http\"]"));
    service.reload_well();
    crate::support::eventually("the removed listener's file is gone", || (!path.exists()).then_some(()));
    load.stop().assert_nothing_lost();
    service.stop();
}

#[test]
fn a_renamed_listener_is_the_same_socket() {
    let mut service = Plan::new().start();
    let first = socket_of_worker(&service);
    let load = Load::open(service.address(), 200).start();
    let address = quoted(&service.address().to_string());
    service.configure("listener.http", "address", None);
    service.configure("listener.web", "address", Some(&address));
    service.configure("pool.web", "listeners", Some("[\"web\"]"));
    service.reload_well();
    assert_eq!(socket_of_worker(&service), first);
    load.stop().assert_nothing_lost();
    service.stop();
}

#[test]
fn a_reload_that_cannot_bind_changes_nothing() {
    let mut service = Plan::new().start();
    let taken = service.plan.scratch.write("taken", "precious");
    service.configure("listener.extra", "address", Some(&quoted(&format!("unix:{}", taken.display()))));
    service.configure("pool.web", "listeners", Some("[\"http\", \"extra\"]"));
    let output = service.reload();
    assert!(matches!(output.code, Some(1 | 2)), "{output:?}");
    output.assert_says("taken");
    assert_eq!(service.reports().count("started"), 1);
    assert_eq!(std::fs::read_to_string(taken).expect("it is there"), "precious");
    service.get("/").expect("an answer");
    service.stop();
}

#[test]
fn an_address_that_overlaps_a_held_one_needs_a_restart() {
    let mut service = Plan::new().start();
    let Address::Tcp(to) = *service.address() else { panic!("Plan::new is on TCP") };
    let all = format!("tcp://0.0.0.0:{}", to.port());
    service.configure("listener.http", "address", Some(&quoted(&all)));
    service.reload().assert_code(handover::exit::USAGE).assert_says("needs a restart");
    service.get("/").expect("an answer");
    service.stop();
}

#[test]
fn a_second_daemon_of_the_same_name_is_refused() {
    let service = Plan::new().start();
    let again =
        crate::support::daemon::Setup::new(&service.plan.scratch, [service.plan.scratch.join("c.toml")]);
    let mut second = again.start();
    assert_eq!(second.wait().code(), Some(1));
    service.get("/").expect("the first still serves");
    assert_eq!(service.ready().len(), 1);
}
