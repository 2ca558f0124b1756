//! A file in `/etc/handover` is a service: which units it gets, what it gets at boot, and what it costs others when it is wrong.

use super::{Case, alone, case};
use crate::booted::Machine;
use crate::site::Site;
use crate::support::client::{self, Failure};
use crate::support::eventually;
use crate::support::load::Load;

pub const CASES: &[Case] = &[
    case("a burst of connections to a service that always ends leaves its socket open", burst),
    case("a file that is wrong costs its own units only, and the journal says what is wrong", wrong_file),
    case("a name that is taken stays with who has it, and the journal says so", taken_name),
    case("one socket unit starts and stops sockets of every kind", every_kind),
    case("an address that somebody else has is taken as soon as it is free", taken_address),
    alone("what a file says of the start of the machine is what happens at a boot", boot),
];

/// What the generator has said of a file, once it has said anything.
#[track_caller]
fn reported(machine: &Machine, file: &str) -> String {
    eventually(&format!("the journal has a report on {file}"), || {
        let all = machine.shell("journalctl --no-pager -o cat -t handover-generator");
        let of_file: Vec<&str> = all.lines().filter(|line| line.contains(file)).collect();
        (!of_file.is_empty()).then(|| of_file.join("\n"))
    })
}

fn state(machine: &Machine, unit: &str) -> String {
    machine.shell(&format!("systemctl show --value -p LoadState -p ActiveState {unit}")).replace('\n', " ")
}

fn wrong_file(machine: &Machine) {
    let (good, mut wrong) = (Site::generated(machine, "beside"), Site::generated(machine, "wrong"));
    good.put();
    wrong.change("pool.web", "workers", "\"many\"");
    wrong.put();
    for (name, text) in [("two words", "name = \"two\"\n"), ("at@once", "name = \"once\"\n"), ("empty", "")] {
        let pool = "[pool.web]\ncommand = [\"/bin/true\"]\n";
        let text = if name == "empty" { String::new() } else { format!("{text}{pool}") };
        machine.write(&format!("/etc/handover/{name}.toml"), &text);
    }
    machine.write("/etc/handover/latin.toml", "name = \"\u{fffd}\n");
    good.open();
    good.serves();
    for (file, why) in [
        ("wrong.toml:", "pool.web.workers"),
        ("two words.toml", "cannot name a unit of systemd"),
        ("at@once.toml", "makes a template"),
        ("empty.toml", "no units are made"),
        ("latin.toml", "no units are made"),
    ] {
        let said = reported(machine, &format!("/etc/handover/{file}"));
        assert!(said.contains("no units are made: ") && said.contains(why), "{file}: {said}");
    }
    for unit in ["wrong.service", "wrong.socket", "empty.service", "latin.service", "two.service"] {
        assert_eq!(state(machine, unit), "not-found inactive ", "{unit}");
    }
    let errors = machine.shell("journalctl --no-pager -o cat -t handover-generator -p err");
    assert!(errors.contains("/etc/handover/wrong.toml"), "{errors}");
    // Mended, it is a service like the others.
    wrong.change("pool.web", "workers", "2");
    wrong.configure();
    wrong.open();
    wrong.serves();
    machine.shell("cd /etc/handover && rm 'two words.toml' at@once.toml empty.toml latin.toml");
    // A running service goes on while its file is broken, but nothing can be done with it but to stop it.
    wrong.change("pool.web", "workers", "\"many\"");
    wrong.configure();
    machine.succeed(&["systemctl", "daemon-reload"]);
    wrong.get().expect("it runs");
    wrong.systemctl("reload").assert_code(5).assert_says("not found");
    wrong.get().expect("it runs");
    for site in [&good, &wrong] {
        site.remove();
    }
}

fn taken_name(machine: &Machine) {
    let (site, stranger) = (Site::generated(machine, "nginx"), "/usr/lib/systemd/system/nginx.service");
    machine.write(stranger, "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true\n");
    site.put();
    machine.succeed(&["systemctl", "daemon-reload"]);
    let said = reported(machine, "/etc/handover/nginx.toml");
    // As `/lib`, which is the same directory.
    let why = "no units are made: nginx.service is there already: /";
    assert!(said.contains(why) && said.ends_with("lib/systemd/system/nginx.service"), "{said}");
    assert_eq!(state(machine, "nginx.socket"), "not-found inactive ");
    machine.succeed(&["systemctl", "start", "nginx"]);
    assert!(stranger.ends_with(&site.show("FragmentPath")));
    assert_eq!(site.get().map(|answer| answer.body), Err(Failure::Refused));
    // Who has had it is gone.
    machine.succeed(&["systemctl", "stop", "nginx"]);
    machine.succeed(&["rm", stranger]);
    site.open();
    site.serves();
    site.remove();
}

fn every_kind(machine: &Machine) {
    let mut site = Site::generated(machine, "all");
    let udp = site.address.to_string().replace("tcp://", "udp://");
    let others = [
        ("local", "unix:///run/all/stream", "/run/all/stream"),
        ("letters", "unix-dgram:///run/all/letters", "/run/all/letters"),
        ("packets", "unix-seqpacket:///run/all/packets", "/run/all/packets"),
        ("named", "unix:@all-abstract", "@all-abstract"),
        ("datagrams", &udp, udp.trim_start_matches("udp://")),
    ];
    for (name, address, _) in others {
        site.change(&format!("listener.{name}"), "address", &format!("\"{address}\""));
    }
    for (key, value) in [("socket_user", "games"), ("socket_group", "daemon"), ("socket_mode", "0620")] {
        site.change("listener.local", key, &format!("\"{value}\""));
    }
    let all = ["http", "local", "letters", "packets", "named", "datagrams"];
    site.change("pool.web", "listeners", &format!("{all:?}"));
    site.put();
    machine.succeed(&["systemctl", "daemon-reload"]);
    let open = |open: bool| {
        let sockets = machine.shell("ss --no-header --listening --tcp --udp --unix");
        let tcp = site.address.to_string().replace("tcp://", "");
        for address in others.into_iter().map(|(_, _, shown)| shown).chain([tcp.as_str()]) {
            let is_open = sockets.split_whitespace().any(|word| word == address);
            assert_eq!(is_open, open, "{address}: {sockets}");
        }
    };
    open(false);
    machine.succeed(&["systemctl", "start", "all.socket"]);
    open(true);
    assert_eq!(machine.shell("stat -c '%U:%G %a' /run/all/stream"), "games:daemon 620\n");
    assert_eq!(state(machine, "all.service"), "loaded inactive ");
    // Whichever socket is used first starts the service, with all of them.
    let said = machine.shell("curl -s --unix-socket /run/all/stream http://x/");
    assert!(said.contains("generation=1"), "{said}");
    site.serves();
    let status = site.status();
    for name in all {
        let listener = status.listener(name).unwrap_or_else(|| panic!("no {name}: {status:#?}"));
        assert_eq!(listener["origin"], "inherited", "{name}: {listener}");
    }
    for (name, kind) in [("letters", "SOCK_DGRAM"), ("packets", "SOCK_SEQPACKET")] {
        let script = format!(
            "import socket; s = socket.socket(socket.AF_UNIX, socket.{kind}); s.connect('/run/all/{name}'); \
             s.send(b'x'); print('sent')"
        );
        assert_eq!(machine.run(&["python3", "-c", &script]).stdout, "sent\n");
    }
    machine.succeed(&["systemctl", "restart", "all.socket"]);
    open(true);
    site.serves();
    site.systemctl("reload").assert_code(0);
    machine.succeed(&["systemctl", "stop", "all.socket"]);
    eventually("all have stopped", || {
        let all = machine.shell("systemctl is-active all.service 'all*.socket'");
        all.lines().all(|state| state == "inactive").then_some(())
    });
    open(false);
    assert_eq!(machine.shell("ls /run/all"), "", "no path is left");
    site.remove();
}

/// A service that ends at once without having accepted anything, and is not started again, is triggered by its socket again and
/// again: far beyond what systemd allows by itself (20 times in 2 s).
fn burst(machine: &Machine) {
    let site = Site::generated(machine, "burst").set("pool.web.restart", "burst", "1");
    site.put();
    site.add("[Service]\nRestart=no\n");
    site.script("eprint=not today\nexit=3\n");
    site.open();
    let waiting: Vec<_> = (0..300).map_while(|_| client::Connection::open(&site.address).ok()).collect();
    assert_eq!(waiting.len(), 300, "none is refused");
    eventually("it was triggered far too often", || {
        (site.journal().matches("not today").count() > 40).then_some(())
    });
    assert_eq!(site.show_of("socket", "Result"), "success");
    assert_eq!(site.show_of("socket", "ActiveState"), "active");
    site.script("serve\nready\n");
    for mut connection in waiting {
        connection.get("/", false).expect("who waited is answered");
    }
    site.assert_active();
    // And a burst at a service that serves.
    let load = Load::closed(&site.address, 50).start();
    load.wait_for(2000);
    load.stop().assert_nothing_lost();
    site.assert_active();
    site.remove();
}

fn taken_address(machine: &Machine) {
    let site = Site::generated(machine, "late");
    site.put();
    let crate::support::scratch::Address::Tcp(address) = &site.address else { panic!("tcp() gives one") };
    let holder = format!(
        "import socket, time; s = socket.create_server(('{}', {})); time.sleep(600)",
        address.ip(),
        address.port()
    );
    machine.succeed(&["systemd-run", "--quiet", "--collect", "--unit=squatter", "python3", "-c", &holder]);
    eventually("the address is taken", || client::Connection::open(&site.address).ok());
    machine.succeed(&["systemctl", "daemon-reload"]);
    machine.run(&["systemctl", "start", "late.socket"]).assert_code(1);
    assert_eq!(site.show_of("socket", "ActiveState"), "failed");
    // The service says who it is, and tries again, and the socket with it.
    let mut start = site.begin("start");
    let journal = site.wait_for_journal("address already in use by ");
    assert!(journal.contains("python3"), "{journal}");
    machine.succeed(&["systemctl", "stop", "squatter"]);
    site.serves();
    // Whoever tries first after that has it: systemd's socket, or handover, which then binds the address itself.
    assert_eq!(site.show_of("service", "ActiveState"), "active");
    let origin = site.status().listener("http").map(|listener| listener["origin"].clone());
    let by_socket = site.show_of("socket", "ActiveState") == "active";
    assert_eq!(origin, Some(if by_socket { "inherited" } else { "bound" }.into()));
    start.child().signal(libc::SIGTERM);
    site.remove();
}

fn boot(machine: &Machine) {
    // Of the other cases.
    machine.shell("rm -f /etc/handover/*.toml");
    let sites = ["socket", "service", "none"].map(|start| {
        let value = format!("\"{start}\"");
        Site::generated(machine, &format!("at-{start}")).set("install", "start", &value)
    });
    for site in &sites {
        site.put();
    }
    // What is wrong stands in the way of no boot.
    machine.write("/etc/handover/wrong.toml", "[pool.web]\nworkers = \"many\"\n");
    machine.write("/etc/handover/two words.toml", "");
    machine.write("/etc/handover/dbus.toml", "[pool.web]\ncommand = [\"/bin/true\"]\n");
    machine.succeed(&["systemctl", "daemon-reload"]);
    for (unit, wanted) in [("at-socket.socket", "sockets"), ("at-service.service", "multi-user")] {
        let wants = machine.shell(&format!("systemctl list-dependencies --plain {wanted}.target"));
        assert!(wants.contains(unit), "{wants}");
        assert!(!wants.contains("at-none"), "{wants}");
        assert_eq!(machine.shell(&format!("systemctl is-enabled {unit}")), "generated\n");
    }
    machine.reboot();
    machine.enter_network();
    let [socket, service, none] = &sites;
    eventually("the service is up", || (service.show("ActiveState") == "active").then_some(()));
    assert_eq!(service.show("StatusText"), "2 of 2 workers ready, generation 1");
    assert_eq!(service.show_of("socket", "ActiveState"), "active");
    assert_eq!(
        (socket.show_of("socket", "ActiveState"), socket.show("ActiveState")),
        ("active".into(), "inactive".into())
    );
    socket.serves();
    assert_eq!(
        (none.show_of("socket", "ActiveState"), none.show("ActiveState")),
        ("inactive".into(), "inactive".into())
    );
    assert_eq!(none.get().map(|answer| answer.body), Err(Failure::Refused));
    assert_eq!(state(machine, "wrong.service"), "not-found inactive ");
    assert_eq!(state(machine, "dbus.service"), "loaded active ");
    none.open();
    none.serves();
    // A container has no kernel's log to keep what was said before the journal ran; reading the files again says it again.
    for file in ["wrong.toml", "two words.toml", "dbus.toml"] {
        eventually(&format!("the journal of this boot has a report on {file}"), || {
            let said = machine.shell("journalctl --boot --no-pager -o cat -t handover-generator");
            said.contains(&format!("/etc/handover/{file}: no units are made: ")).then_some(())
        });
    }
    for site in &sites {
        site.remove();
    }
    machine.shell("rm -f /etc/handover/*.toml");
}
