//! Units and configurations that do not fit each other, and a journal that is away.

use super::{Case, alone, case};
use crate::booted::Machine;
use crate::site::Site;
use crate::support::client::Failure;

pub const CASES: &[Case] = &[
    case("a socket that no listener wants is refused with its name and address", unwanted),
    case("a second socket of a listener's name must be what the listener is", same_name),
    case("a socket that no listener wants is closed where the configuration says so", closed),
    case("a socket of the right name and another address is refused", another_address),
    case("a socket of another kind is refused", another_kind),
    case("a listener without an address that no socket bears the name of is refused", missing),
    case("sockets that are meant for another process are left alone, and it says so", another_process),
    case("a notify unit without NotifyAccess is told all the same", no_notify_access),
    alone("a journal that is away stops nothing", no_journal),
];

/// Starts a service that cannot start, and gives its journal; the socket has to outlive it.
#[track_caller]
fn refused(site: &Site<'_>, reason: &str) {
    site.open();
    let mut service = site.begin("start");
    let journal = site.wait_for_journal(reason);
    assert_eq!(site.show_of("socket", "ActiveState"), "active", "{journal}");
    service.child().signal(libc::SIGTERM);
    site.stop();
}

/// Writes a second socket unit, for `/run/NAME`, and gives its name.
fn second_socket(site: &Site<'_>) -> String {
    let (name, second) = (&site.name, format!("{}-second.socket", site.name));
    site.write_unit(&second, &format!("[Socket]\nListenStream=/run/{name}\nService={name}.service\n"));
    let sockets = format!("Requires={name}.socket {second}");
    let service = site.unit("myapp.service").replace(&format!("Requires={name}.socket"), &sockets);
    let service = service.replace("[Service]\n", &format!("[Service]\nSockets={name}.socket {second}\n"));
    site.write_unit(&format!("{name}.service"), &service);
    second
}

fn unwanted(machine: &Machine) {
    let site = Site::new(machine, "unwanted");
    site.put();
    let second = second_socket(&site);
    refused(&site, "no listener takes it over, so its clients would hang");
    machine.succeed(&["systemctl", "stop", &second]);
    assert!(site.journal().contains("unix:///run/unwanted"));
}

fn same_name(machine: &Machine) {
    let site = Site::new(machine, "namesake");
    site.put();
    let socket = site.unit("myapp.socket").replace("Backlog=", "ListenStream=/run/namesake\nBacklog=");
    site.write_unit("namesake.socket", &socket);
    refused(&site, "/run/namesake, not tcp://");
}

fn closed(machine: &Machine) {
    let site = Site::new(machine, "closed").set("", "unused_sockets", "\"close\"");
    site.put();
    let second = second_socket(&site);
    site.open();
    site.serves();
    site.wait_for_journal("closed-second.socket (unix:///run/closed)");
    site.assert_active();
    site.stop();
    machine.succeed(&["systemctl", "stop", &second]);
}

fn another_address(machine: &Machine) {
    let site = Site::new(machine, "elsewhere");
    site.put();
    let other = site.address.to_string().replace("tcp://", "").replace(":8080", ":8081");
    site.write_unit(
        "elsewhere.socket",
        &site.unit("myapp.socket").replace(&other.replace(":8081", ":8080"), &other),
    );
    refused(&site, &other);
}

fn another_kind(machine: &Machine) {
    let site = Site::new(machine, "otherwise");
    site.put();
    site.write_unit(
        "otherwise.socket",
        &site.unit("myapp.socket").replace("ListenStream=", "ListenDatagram="),
    );
    refused(&site, "inherited under this name is udp://");
}

fn missing(machine: &Machine) {
    let site = Site::new(machine, "missing").set("listener.admin", "backlog", "64");
    site.put();
    refused(&site, "admin");
}

/// A shell that does not execute handover but starts it has the sockets and the number that they are meant for.
fn another_process(machine: &Machine) {
    let site = Site::new(machine, "wrapped");
    site.put();
    let wrapped = "ExecStart=/bin/sh -c '/usr/bin/handover run /etc/handover/wrapped.toml; exit $?'";
    let service = site.unit("myapp.service").replace("Type=notify", "Type=exec");
    let service = service.replace("ExecStart=/usr/bin/handover run /etc/handover/wrapped.toml", wrapped);
    site.write_unit("wrapped.service", &service);
    refused(&site, "), and this is process ");
    let journal = site.journal();
    assert!(journal.contains("address already in use"), "{journal}");
    // With `exec` it is the same process, and all is well.
    site.write_unit("wrapped.service", &service.replace("; exit $?", "").replace("-c '", "-c 'exec "));
    site.open();
    site.serves();
    assert!(site.handover(&["status"]).stdout.contains("inherited"));
    site.stop();
}

fn no_notify_access(machine: &Machine) {
    let site = Site::new(machine, "unsaid");
    site.put();
    site.write_unit("unsaid.service", &site.unit("myapp.service").replace("NotifyAccess=main\n", ""));
    site.open();
    site.systemctl("start").assert_code(0);
    site.wait_for_status("2 of 2 workers ready");
    assert_eq!(site.show("NotifyAccess"), "main");
    site.stop();
}

fn no_journal(machine: &Machine) {
    let site = Site::new(machine, "unheard").start();
    let load = site.load();
    let units = [
        "systemd-journald.socket",
        "systemd-journald-dev-log.socket",
        "systemd-journald-audit.socket",
        "systemd-journald.service",
    ];
    machine.run(&[&["systemctl", "stop"], &units[..]].concat());
    assert_ne!(machine.shell("systemctl is-active systemd-journald.service").trim(), "active");
    site.script("print=nobody reads this\nserve\nready\nprint=nor this\n");
    for _ in 0..2 {
        site.handover(&["reload"]).assert_code(0);
    }
    load.wait_for(50);
    site.systemctl("restart").assert_code(0);
    load.wait_for(50);
    machine.succeed(&[&["systemctl", "start"], &units[..]].concat());
    site.handover(&["reload"]).assert_code(0);
    load.stop().assert_nothing_lost();
    site.assert_active();
    site.stop();
    assert_eq!(site.get().map(|answer| answer.body), Err(Failure::Refused));
}
