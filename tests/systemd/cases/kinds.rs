//! The other ways to run under systemd: several sockets, templates, users' own managers, transient units, `notify-reload`.

use super::{Case, case};
use crate::booted::{Machine, WORKER};
use crate::site::{Site, shipped};
use crate::support::eventually;

pub const CASES: &[Case] = &[
    case("sockets of every kind are taken, by name and by address", every_kind),
    case("an instance of the template unit serves and reloads", template),
    case("it serves under a user's own systemd", user_unit),
    case("it serves in a transient unit, with and without a socket", transient),
    case("a unit that systemd expects nothing of serves and reloads all the same", plain_exec),
];

fn every_kind(machine: &Machine) {
    let mut site = Site::new(machine, "kinds");
    let udp = site.address.to_string().replace("tcp://", "udp://");
    let others = [
        ("named", "unix-seqpacket:///run/kinds-named"),
        ("datagrams", &udp),
        ("unix", "unix:///run/kinds-unix"),
        ("abstract", "unix:@kinds-abstract"),
        ("packets", "unix-seqpacket:///run/kinds-packets"),
        ("letters", "unix-dgram:///run/kinds-letters"),
    ];
    for (name, address) in others {
        site.change(&format!("listener.{name}"), "address", &format!("\"{address}\""));
    }
    site.change(
        "pool.web",
        "listeners",
        "[\"letters\", \"http\", \"named\", \"datagrams\", \"unix\", \"abstract\", \"packets\"]",
    );
    site.put();
    let service = site.unit("myapp.service");
    let (more, named) = ("kinds-more.socket", "kinds-named.socket");
    let service = service.replace("Requires=kinds.socket", &format!("Requires=kinds.socket {more} {named}"));
    site.write_unit(
        "kinds.service",
        &service.replace("[Service]\n", &format!("[Service]\nSockets=kinds.socket {more} {named}\n")),
    );
    let udp = udp.replace("udp://", "");
    // No name that handover knows: by address.
    let listen = format!(
        "ListenDatagram={udp}\nListenStream=/run/kinds-unix\nListenStream=@kinds-abstract\n\
         ListenSequentialPacket=/run/kinds-packets\nListenDatagram=/run/kinds-letters\n"
    );
    site.write_unit(more, &format!("[Socket]\n{listen}Service=kinds.service\n"));
    site.write_unit(named, "[Socket]\nFileDescriptorName=named\nListenSequentialPacket=/run/kinds-named\nService=kinds.service\n");
    site.open();
    machine.succeed(&["systemctl", "start", more, named]);
    site.serves();
    let status = site.status();
    for (name, _) in others.into_iter().chain([("http", "")]) {
        let listener = status.listener(name).unwrap_or_else(|| panic!("no {name}: {status:#?}"));
        assert_eq!(listener["origin"], "inherited", "{name}: {listener}");
    }
    site.systemctl("reload").assert_code(0);
    let said = machine.shell("curl -s --unix-socket /run/kinds-unix http://x/ && curl -s --abstract-unix-socket kinds-abstract http://x/");
    assert_eq!(said.matches("generation=2").count(), 2, "{said}");
    machine.succeed(&["systemctl", "stop", more, named, "kinds.socket", "kinds.service"]);
}

fn template(machine: &Machine) {
    let site = Site::new(machine, "from-template");
    site.configure();
    site.script("serve\nready\n");
    machine.write("/etc/systemd/system/handover@.service", &shipped("handover@.service"));
    machine.succeed(&["systemctl", "daemon-reload"]);
    let unit = "handover@from-template.service";
    machine.succeed(&["systemctl", "start", unit]);
    let load = site.load();
    machine.succeed(&["systemctl", "reload", unit]);
    load.wait_for(50);
    load.stop().assert_nothing_lost();
    assert_eq!(site.serves().generation(), 2);
    site.script("exit=3\n");
    machine.run(&["systemctl", "reload", unit]).assert_code(1);
    assert_eq!(machine.succeed(&["systemctl", "is-active", unit]), "active");
    machine.succeed(&["systemctl", "stop", unit]);
}

fn user_unit(machine: &Machine) {
    let site = Site::new(machine, "homely");
    site.put();
    machine.succeed(&["useradd", "--create-home", "--shell", "/bin/bash", "somebody"]);
    let uid = machine.succeed(&["id", "-u", "somebody"]);
    let manager = format!("user@{uid}.service");
    machine.succeed(&["systemctl", "start", &manager]);
    let own = |line: &str| {
        machine.shell(&format!("runuser -u somebody -- env XDG_RUNTIME_DIR=/run/user/{uid} {line}"))
    };
    let state = || own("systemctl --user is-system-running --wait");
    eventually("the user's systemd is up", || {
        ["running", "degraded"].contains(&state().trim()).then_some(())
    });
    // The same pair; only paths differ. `%E` is ~/.config there.
    let home = "/home/somebody/.config";
    let service =
        site.unit("myapp.service").replace("/etc/handover", "%E/handover").replace("multi-user", "default");
    machine.write(&format!("{home}/systemd/user/homely.service"), &service.replace("network.target ", ""));
    machine.write(&format!("{home}/systemd/user/homely.socket"), &site.unit("myapp.socket"));
    let configuration =
        std::fs::read_to_string(machine.path("/etc/handover/homely.toml")).expect("just written");
    machine.write(&format!("{home}/handover/homely.toml"), &configuration);
    machine.succeed(&["chown", "--recursive", "somebody:", home]);
    let verified = own(&format!("systemd-analyze --user verify {home}/systemd/user/homely.service"));
    assert_eq!(verified, "");
    assert_eq!(own("systemctl --user daemon-reload && echo done"), "done\n");
    assert_eq!(own("systemctl --user start homely.socket && echo done"), "done\n");
    site.serves();
    assert_eq!(own("systemctl --user reload homely && echo done"), "done\n");
    assert_eq!(site.serves().generation(), 2);
    assert!(own("systemctl --user status homely").contains("Status: \"2 of 2 workers ready, generation 2\""));
    site.script("exit=3\n");
    assert!(own("systemctl --user reload homely || echo refused").contains("refused"));
    assert!(own("handover status").contains("homely"), "the user's client finds the user's daemon");
    assert_eq!(own("systemctl --user stop homely.socket homely.service && echo done"), "done\n");
    machine.succeed(&["systemctl", "stop", &manager]);
}

fn transient(machine: &Machine) {
    let site = Site::new(machine, "passing");
    let address = site.address.to_string();
    let run = ["systemd-run", "--quiet", "--collect", "--property=Type=notify", "--unit=passing"];
    let daemon = ["handover", "run", "-l", &address, "-n", "2", "--ready", "notify", "--", WORKER];
    machine.succeed(&[&run[..], &daemon].concat());
    site.get().expect("systemd-run returns when it is ready");
    assert_eq!(
        machine.succeed(&["systemctl", "show", "--value", "-p", "StatusText", "passing"]),
        "2 of 2 workers ready, generation 1"
    );
    machine.succeed(&["systemctl", "stop", "passing.service"]);

    let socket = format!("--socket-property=ListenStream={}", address.replace("tcp://", ""));
    let run =
        ["systemd-run", "--quiet", "--collect", "--property=Type=notify", "--unit=passing-too", &socket];
    machine.succeed(&[&run[..], &daemon].concat());
    site.serves();
    let status = machine.succeed(&["handover", "status", "--name", "scripted_worker"]);
    assert!(status.contains("inherited"), "{status}");
    machine.succeed(&["systemctl", "stop", "passing-too.socket", "passing-too.service"]);
}

fn plain_exec(machine: &Machine) {
    let site = Site::new(machine, "silent");
    site.put();
    let service = site
        .unit("myapp.service")
        .replace("Type=notify", "Type=exec")
        .replace("NotifyAccess=main", "NotifyAccess=none");
    site.write_unit("silent.service", &service.replace("WatchdogSec=30s\n", ""));
    site.open();
    site.serves();
    site.systemctl("reload").assert_code(0);
    assert_eq!(site.serves().generation(), 2);
    site.script("exit=3\n");
    site.systemctl("reload").assert_code(1);
    site.assert_active();
    site.stop();
}
