use std::path::Path;

use super::*;
use crate::config::{Believing, listener_order, parse};

const POOL: &str = "[pool.web]\ncommand = ['/bin/true']\n";

fn units_of(file: &str, text: &str) -> Result<Units, UnitsError> {
    let config = parse(file, text, "myapp", &Believing).unwrap_or_else(|faults| panic!("{faults}"));
    let (file, program) = (Path::new(file), Path::new("/usr/bin/handover"));
    systemd(&Source { config: &config, order: &listener_order(text), file, program, user: false })
}

fn units(text: &str) -> Units {
    units_of("/etc/handover/myapp.toml", text).unwrap_or_else(|error| panic!("{error}"))
}

/// A pool that uses these listeners, and each with its keys.
fn with(listeners: &[(&str, &str)]) -> String {
    let names: Vec<&str> = listeners.iter().map(|(name, _)| *name).collect();
    let sections: Vec<String> =
        listeners.iter().map(|(name, keys)| format!("[listener.{name:?}]\n{keys}\n")).collect();
    format!("{POOL}listeners = {names:?}\n{}", sections.concat())
}

fn names(units: &Units) -> Vec<&str> {
    units.units.iter().map(|unit| unit.name.as_str()).collect()
}

/// The lines of a unit that set something.
fn settings<'a>(units: &'a Units, name: &str) -> Vec<&'a str> {
    let unit = units.units.iter().find(|unit| unit.name == name).expect("there is such a unit");
    unit.text.lines().filter(|line| line.contains('=') && !line.starts_with('#')).collect()
}

const TCP: &str = "address = 'tcp://127.0.0.1:80'";

#[test]
fn the_first_listener_of_the_file_has_the_name_of_the_service() {
    let units = units(&with(&[("z", TCP), ("a", "address = 'unix:@a'"), ("m y/", "address = 'unix:@m'")]));
    assert_eq!(
        names(&units),
        ["myapp.service", "myapp.socket", "myapp-a.socket", "myapp-m\\x20y\\x2f.socket"]
    );
    assert!(settings(&units, "myapp.socket").contains(&"FileDescriptorName=z"));
    assert!(settings(&units, "myapp.socket").contains(&"Wants=myapp-a.socket myapp-m\\x20y\\x2f.socket"));
    assert!(settings(&units, "myapp-a.socket").contains(&"PartOf=myapp.socket"));
    let service = settings(&units, "myapp.service");
    for setting in
        ["Sockets=myapp.socket myapp-a.socket", "Wants=myapp-m\\x20y\\x2f.socket", "PartOf=myapp.socket"]
    {
        assert!(service.contains(&setting), "{setting}: {service:#?}");
    }
}

#[test]
fn a_socket_with_an_owner_is_opened_after_those_without() {
    let owned = |name: &str| format!("address = 'unix:///run/{name}'\nsocket_group = 'daemon'");
    let units =
        units(&with(&[("a", TCP), ("b", &owned("b")), ("c", "address = 'unix:@c'"), ("d", &owned("d"))]));
    let after = |unit: &str| {
        settings(&units, unit).iter().find_map(|line| line.strip_prefix("After=")).map(str::to_owned)
    };
    // What has been started is open, with all others.
    assert_eq!(after("myapp.socket").as_deref(), Some("myapp-b.socket myapp-c.socket myapp-d.socket"));
    assert_eq!(after("myapp-b.socket").as_deref(), Some("myapp-c.socket"));
    assert_eq!(after("myapp-c.socket"), None);
    assert_eq!(after("myapp-d.socket").as_deref(), Some("myapp-c.socket myapp-b.socket"));
}

#[test]
fn units_for_a_users_own_systemd_want_nothing_that_only_root_can() {
    let text = with(&[("a", "address = 'unix:///run/user/7/a'\nsocket_group = 'daemon'")]);
    let config =
        parse("/home/x/myapp.toml", &(text.clone() + "[install]\nstart = 'service'"), "myapp", &Believing)
            .unwrap_or_else(|faults| panic!("{faults}"));
    let (file, program) = (Path::new("/home/x/myapp.toml"), Path::new("/usr/bin/handover"));
    let source = Source { config: &config, order: &listener_order(&text), file, program, user: true };
    let units = systemd(&source).unwrap_or_else(|error| panic!("{error}"));
    let all: String = units.units.iter().map(|unit| unit.text.as_str()).collect();
    for not in ["Protect", "Capability", "network.target", "multi-user", "SocketUser", "SocketGroup"] {
        assert!(!all.contains(not), "{not}: {all}");
    }
    assert!(settings(&units, "myapp.socket").contains(&"SocketMode=0666"));
    assert!(settings(&units, "myapp.service").contains(&"WantedBy=default.target"));
    assert_eq!(units.notes, ["listener a: socket_group is not set: only root gives a socket to somebody"]);
}

#[test]
fn the_machine_starts_what_the_file_says() {
    for (start, has_listener, link) in [
        ("", true, Some(("sockets.target", "myapp.socket"))),
        ("[install]\nstart = 'service'", true, Some(("multi-user.target", "myapp.service"))),
        ("[install]\nstart = 'none'", true, None),
        ("[install]\nstart = 'socket'", false, Some(("multi-user.target", "myapp.service"))),
    ] {
        let text = if has_listener { with(&[("a", TCP)]) } else { POOL.to_owned() };
        let units = units(&format!("{text}\n{start}"));
        let wanted = units.link.as_ref().map(|link| (link.target, link.unit.as_str()));
        assert_eq!(wanted, link, "{start}");
        let installs = |unit: &&Unit| unit.text.contains("\nWantedBy=");
        let installed: Vec<&str> =
            units.units.iter().filter(installs).map(|unit| unit.name.as_str()).collect();
        assert_eq!(installed, Vec::from_iter(link.map(|(_, unit)| unit)), "{start}");
    }
}

#[test]
fn what_systemd_cannot_hold_is_left_to_handover_and_noted() {
    let units = units(&with(&[
        ("any", "address = 'tcp://127.0.0.1:0'"),
        ("given", ""),
        ("line", "address = \"unix:@a\\nExecStart=/bin/sh\""),
        ("end", "address = 'unix:@a\\'"),
        ("good", TCP),
    ]));
    assert_eq!(names(&units), ["myapp.service", "myapp.socket"]);
    assert!(settings(&units, "myapp.socket").contains(&"FileDescriptorName=good"));
    assert_eq!(units.notes.len(), 4, "{:#?}", units.notes);
    for (note, listener) in units.notes.iter().zip(["any", "given", "line", "end"]) {
        assert!(note.starts_with(&format!("listener {listener} ")), "{note}");
        assert!(units.units[0].text.contains(&format!("# {note}\n")), "{note}");
    }
}

#[test]
fn options_that_systemd_has_not_are_noted_and_the_socket_is_held() {
    let mark = i64::from(i32::MAX) + 1;
    let units = units(&with(&[
        ("a", &format!("{TCP}\nfast_open = 5\nmark = {mark}\nnonblocking = true")),
        ("b", "address = 'unix:///run/b'\nsocket_user = \"b\\n\""),
    ]));
    let keys: Vec<&str> = units.notes.iter().filter_map(|note| note.split(": ").nth(1)).collect();
    assert_eq!(
        keys,
        ["fast_open is not set", "mark is not set", "socket_user is not set"],
        "nonblocking is set by handover where not all sockets want it"
    );
    let all: String = units.units.iter().map(|unit| unit.text.as_str()).collect();
    assert!(!all.contains("\nMark=") && !all.contains("\nNonBlocking=") && !all.contains("\nSocketUser="));
}

#[test]
fn all_sockets_are_non_blocking_or_none() {
    let yes = format!("{TCP}\nnonblocking = true");
    let all = units(&with(&[("a", &yes), ("b", "address = 'unix:@b'\nnonblocking = true")]));
    assert!(settings(&all, "myapp.service").contains(&"NonBlocking=yes"));
    assert_eq!(all.notes, [""; 0]);
    assert!(!settings(&units(&with(&[("a", TCP)])), "myapp.service").contains(&"NonBlocking=yes"));
}

#[test]
fn what_systemd_would_read_as_something_else_is_escaped() {
    let text =
        with(&[("a%n", "address = 'unix:///run/%i \"x\"'"), ("b", "address = 'udp://[fe80::1%2]:53'")]);
    let units = units_of("/etc/my dir %s $HOME/myapp.toml", &text).unwrap();
    let service = settings(&units, "myapp.service");
    assert!(
        service.contains(&"ExecStart=/usr/bin/handover run \"/etc/my dir %%s $$HOME/myapp.toml\""),
        "{service:#?}"
    );
    assert!(service.contains(&"SourcePath=/etc/my dir %%s $HOME/myapp.toml"));
    let socket = settings(&units, "myapp.socket");
    assert!(socket.contains(&"ListenStream=/run/%%i \"x\""), "{socket:#?}");
    assert!(socket.contains(&"FileDescriptorName=a%%n"));
    assert!(settings(&units, "myapp-b.socket").contains(&"ListenDatagram=[fe80::1]:53%%2"));
}

#[test]
fn a_stop_has_longer_than_the_workers_and_a_reload_longer_than_its_rollout() {
    let timeouts = |keys: &str| {
        let units = units(&format!("{POOL}{keys}"));
        let service = settings(&units, "myapp.service");
        let of =
            |key: &str| service.iter().find_map(|line| line.strip_prefix(key)).expect("it is set").to_owned();
        (of("TimeoutStartSec="), of("TimeoutStopSec="))
    };
    assert_eq!(timeouts(""), ("600s".into(), "45s".into()));
    assert_eq!(timeouts("stop_timeout = '1500ms'\nrollout.deadline = '1h'"), ("7200s".into(), "17s".into()));
    assert_eq!(
        timeouts("stop_timeout = 'infinity'\nstart_timeout = 'infinity'"),
        ("infinity".into(), "infinity".into())
    );
}

#[test]
fn a_name_that_no_unit_can_have_is_refused() {
    let long = format!("/etc/handover/{}.toml", "x".repeat(248));
    for (file, why) in [
        ("/etc/handover/my app.toml", "characters"),
        ("/etc/handover/a\\b.toml", "characters"),
        ("/etc/handover/ü.toml", "characters"),
        ("/etc/handover/a@b.toml", "template"),
        ("/etc/handover/a@.toml", "template"),
        ("/etc/handover/.toml", "NAME.toml"),
        ("/etc/handover/.a.toml", "NAME.toml"),
        ("/etc/handover/a.conf", "NAME.toml"),
        (&long, "255 bytes"),
        ("etc/a.toml", "not absolute"),
        ("/etc\n/a.toml", "control character"),
    ] {
        let refused = units_of(file, POOL).unwrap_err().to_string();
        assert!(refused.contains(why), "{file}: {refused}");
    }
    let long = format!("/etc/handover/{}.toml", "x".repeat(247));
    assert_eq!(units_of(&long, POOL).unwrap().units[0].name.len(), 255);
    // Its own name fits, and that with a listener's does not.
    let text = with(&[("a", TCP), ("long-long", "address = 'unix:@b'")]);
    assert!(units_of(&long, &text).unwrap_err().to_string().contains("255 bytes"));
}
