//! The other ways to run under systemd: several sockets, templates, transient units, `notify-reload`.

use super::{Case, case};
use crate::booted::{Machine, WORKER};
use crate::site::{Site, shipped};

pub const CASES: &[Case] = &[
    case("sockets of every kind are taken, by name and by address", every_kind),
    case("an instance of the template unit serves and reloads", template),
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
    site.serves_generation(2);
    site.script("exit=3\n");
    machine.run(&["systemctl", "reload", unit]).assert_code(1);
    assert_eq!(machine.succeed(&["systemctl", "is-active", unit]), "active");
    machine.succeed(&["systemctl", "stop", unit]);
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
    site.serves_generation(2);
    site.script("exit=3\n");
    site.systemctl("reload").assert_code(1);
    site.assert_active();
    site.stop();
}
