use std::path::Path;

use super::*;
use crate::config::{Believing, parse};

const POOL: &str = "[pool.web]\ncommand = ['/bin/true']\n";

fn known(name: &str) -> Option<u32> {
    match name {
        "root" => Some(0),
        "myapp" => Some(990),
        _ => None,
    }
}

/// What a job is called, and where its files are.
#[derive(Clone, Copy)]
struct Names<'a> {
    label: &'a str,
    program: &'a str,
    file: &'a str,
    log: &'a str,
}

const NAMES: Names<'_> = Names {
    label: "org.example.myapp",
    program: "/usr/local/bin/handover",
    file: "/usr/local/etc/handover/myapp.toml",
    log: "/var/log/myapp.log",
};

fn made(text: &str, names: Names<'_>) -> Result<PropertyList, JobError> {
    let config = parse("myapp.toml", text, "myapp", &Believing).unwrap_or_else(|faults| panic!("{faults}"));
    let Names { label, program, file, log } = names;
    let (program, file, log) = (Path::new(program), Path::new(file), Path::new(log));
    property_list(&Job { config: &config, label, program, file, log, uid: known, gid: known })
}

fn refused(names: Names<'_>) -> String {
    made(POOL, names).unwrap_err().to_string()
}

/// A pool that uses these listeners, each with its keys.
fn with(listeners: &[(&str, &str)]) -> PropertyList {
    let names: Vec<String> = listeners.iter().map(|(name, _)| format!("'{name}'")).collect();
    let sections: Vec<String> =
        listeners.iter().map(|(name, keys)| format!("[listener.'{name}']\n{keys}\n")).collect();
    let text = format!("{POOL}listeners = [{}]\n{}", names.join(", "), sections.concat());
    made(&text, NAMES).unwrap_or_else(|error| panic!("{error}"))
}

fn after<'a>(list: &'a PropertyList, key: &str) -> Vec<&'a str> {
    let key = format!("<key>{key}</key>");
    list.text.split(&key).skip(1).filter_map(|rest| rest.trim_start().lines().next()).collect()
}

#[test]
fn an_address_of_both_families_is_two_sockets_and_any_other_one() {
    let list = with(&[
        ("both", "address = 'tcp://[::]:80'"),
        ("four", "address = 'udp://0.0.0.0:53'"),
        ("local", "address = 'tcp://[fe80::1%2]:81'\nv6only = false"),
        ("six", "address = 'tcp://[::]:82'\nv6only = true"),
    ]);
    let text = |words: &[&str]| -> Vec<String> {
        words.iter().map(|word| format!("<string>{word}</string>")).collect()
    };
    assert_eq!(after(&list, "SockNodeName"), text(&["0.0.0.0", "::", "0.0.0.0", "fe80::1%2", "::"]));
    assert_eq!(after(&list, "SockFamily"), text(&["IPv4", "IPv6", "IPv4", "IPv6", "IPv6"]));
    assert_eq!(after(&list, "SockServiceName"), text(&["80", "80", "53", "81", "82"]));
    assert_eq!(after(&list, "SockType"), text(&["stream", "stream", "dgram", "stream", "stream"]));
    assert_eq!(after(&list, "both"), ["<array>"]);
    assert_eq!(after(&list, "six"), ["<dict>"]);
    assert_eq!(list.notes, [""; 0]);
}

#[test]
fn what_launchd_cannot_hold_is_left_to_handover_and_noted() {
    let long = format!("address = 'unix:///{}'", "x".repeat(103));
    let list = with(&[
        ("a", "address = 'tcp://127.0.0.1:0'"),
        ("b", ""),
        ("c", "address = \"unix:///run/\\u0001\""),
        ("d", "address = 'unix:@d'"),
        ("e", "address = 'unix-seqpacket:///run/e'"),
        ("g", &long),
        ("h", "address = 'tcp://127.0.0.1:8'"),
    ]);
    let notes = [
        "listener a is bound by handover, not by launchd: launchd knows no port 0",
        "listener b has no address: write its entry in Sockets yourself, under this name",
        "listener c is bound by handover, not by launchd: its path cannot stand in a property list",
        "listener d is left out, and handover refuses it there: macOS has no abstract sockets",
        "listener e is left out, and handover refuses it there: macOS has no unix-seqpacket sockets",
        "listener g is bound by handover, not by launchd: its path is longer than 103 bytes, which macOS does not take",
    ];
    assert_eq!(list.notes, notes);
    assert_eq!(list.text.matches("<key>SockType</key>").count(), 1);
    assert_eq!(after(&list, "h"), ["<dict>"]);
    for note in notes {
        assert!(list.text.contains(&format!("<!-- {note} -->")), "{note}");
    }
    let all_left = with(&[("a", "address = 'tcp://127.0.0.1:0'")]);
    assert!(!all_left.text.contains("Sockets</key>"));
}

#[test]
fn options_that_launchd_has_not_are_noted_and_the_socket_is_held() {
    let all = "address = 'tcp://127.0.0.1:80'\nbacklog = 5\nfree_bind = true\ndefer_accept = '5s'\nfast_open = 5\n\
        keepalive = true\nnodelay = false\nreceive_buffer = '64K'\nsend_buffer = '64K'\ndevice = 'en0'\nmark = 1\n\
        nonblocking = true";
    let list = with(&[("a", all)]);
    let keys: Vec<&str> = list.notes.iter().filter_map(|note| note.split(": ").nth(1)).collect();
    let expected = [
        "backlog",
        "free_bind",
        "defer_accept",
        "fast_open",
        "keepalive",
        "nodelay",
        "receive_buffer",
        "send_buffer",
        "device",
        "mark",
    ];
    assert_eq!(keys, expected.map(|key| format!("{key} is not set")));
    assert_eq!(after(&list, "a"), ["<dict>"]);
}

#[test]
fn owners_are_numbers_and_who_is_not_known_is_noted() {
    let list = with(&[
        (
            "a",
            "address = 'unix:///run/a'\nsocket_user = 'myapp'\nsocket_group = 'root'\nsocket_mode = '0660'",
        ),
        ("b", "address = 'unix:///run/b'\nsocket_user = 'nobody-here'\nsocket_group = 'nobody-there'"),
    ]);
    assert_eq!(after(&list, "SockPathOwner"), ["<integer>990</integer>"]);
    assert_eq!(after(&list, "SockPathGroup"), ["<integer>0</integer>"]);
    assert_eq!(after(&list, "SockPathMode"), ["<integer>432</integer>", "<integer>438</integer>"]);
    let keys: Vec<&str> = list.notes.iter().filter_map(|note| note.split(": ").nth(1)).collect();
    assert_eq!(keys, ["socket_user is not set", "socket_group is not set"]);
}

#[test]
fn a_stop_has_longer_than_the_workers() {
    let timeout = |keys: &str| {
        let list = made(&format!("{POOL}{keys}"), NAMES).unwrap();
        after(&list, "ExitTimeOut").concat()
    };
    assert_eq!(timeout("stop_timeout = '30s'"), "<integer>35</integer>");
    assert_eq!(timeout("stop_timeout = '1500ms'"), "<integer>7</integer>");
    assert_eq!(timeout("stop_timeout = 'infinity'"), "<integer>0</integer>", "endless");
}

#[test]
fn what_cannot_be_a_job_is_refused() {
    for label in ["", ".hidden", "-x", "a/b", "a b", "ä", &"x".repeat(250)] {
        let refused = refused(Names { label, ..NAMES });
        assert!(refused.contains("cannot be a label"), "{refused}");
    }
    let longest = "x".repeat(249);
    assert_eq!(made(POOL, Names { label: &longest, ..NAMES }).unwrap().name.len(), 255);
    let program = refused(Names { program: "bin/handover", ..NAMES });
    assert_eq!(program, "\"bin/handover\" cannot stand in a property list: it is not absolute");
    let log = refused(Names { log: "/var/log/\u{1}", ..NAMES });
    assert!(log.ends_with("it has a character that XML has no place for"), "{log}");
}

#[test]
fn a_list_is_known_by_the_file_that_it_was_made_from() {
    for file in ["/etc/handover/a--b---.toml", "/etc/<a> & b-", "/a"] {
        let list = made(POOL, Names { file, ..NAMES }).unwrap();
        let file = Path::new(file);
        assert!(is_made_from(&list.text, file), "{}", list.text);
        assert!(!is_made_from(&list.text, Path::new("/etc/handover/b.toml")));
        let head = list.text.lines().nth(2).unwrap();
        let inner = head.strip_prefix("<!--").and_then(|rest| rest.strip_suffix("-->")).unwrap();
        assert!(!inner.contains("--"), "{inner}");
        // Somebody else's comment further down does not make it ours.
        let quoted = format!("<?xml?>\n<plist>\n<dict>\n<key>a</key>\n{head}\n");
        assert!(!is_made_from(&quoted, file));
    }
}

#[test]
fn nothing_at_boot_is_more_than_a_property_list_can_say() {
    let list = made(&format!("{POOL}[install]\nstart = 'none'"), NAMES).unwrap();
    assert_eq!(list.notes.len(), 1);
    assert!(list.notes[0].starts_with("[install] start = \"none\" is not done"), "{:?}", list.notes);
}
