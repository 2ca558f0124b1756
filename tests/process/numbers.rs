//! Users and groups that are numbers, and nothing else: no entry in the user database, as in a container.

use std::os::unix::fs::MetadataExt;

use crate::given::Dump;
use crate::support::daemon::{Running, command};
use crate::support::machine::{cannot_be_nobody, skipped, succeeds};
use crate::support::scratch::Address;
use crate::support::service::{Plan, Service};
use crate::support::status::Status;

const UID: u32 = 1_000_770_001;

/// As OpenShift and `docker run --user` start a container: a number, and the group root.
const AS_A_NUMBER: [&str; 5] = ["setpriv", "--reuid=1000770001", "--regid=0", "--groups=0,1000770000", "--"];

fn cannot_be_a_number() -> bool {
    let tried: Vec<&str> = AS_A_NUMBER.into_iter().chain(["true"]).collect();
    cannot_be_nobody() || skipped("a user without an entry", !succeeds(&tried))
}

fn status_line(service: &Service, key: &str) -> String {
    let pid = service.ready()[0].pid;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it lives");
    let line = status.lines().find_map(|line| line.strip_prefix(key)).expect("a line");
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn workers_and_sockets_are_given_to_numbers_that_the_database_knows_nothing_of() {
    if cannot_be_a_number() {
        return;
    }
    let plan = Plan::on(|scratch| Address::unix(scratch, "http"))
        .set("listener.http", "socket_user", "1000770001")
        .set("listener.http", "socket_group", "\"1000770002\"")
        .top("control_group", "1000770003")
        .pool("user", "\"1000770001\"")
        .pool("group", "1000770002")
        .pool("supplementary_groups", "[1000770004]");
    plan.open_to_all();
    let socket = plan.scratch.join("http");
    let service = plan.start();
    let found = socket.metadata().expect("a socket");
    assert_eq!((found.uid(), found.gid()), (UID, UID + 1));
    assert_eq!(service.daemon.socket().metadata().expect("a socket").gid(), UID + 2);
    assert_eq!(status_line(&service, "Uid:"), [UID.to_string().as_str(); 4].join(" "));
    assert_eq!(status_line(&service, "Gid:"), ["1000770002"; 4].join(" "));
    assert_eq!(status_line(&service, "Groups:"), "1000770004");
    let dump = Dump::of(&service);
    let variables = ["HOME", "USER", "LOGNAME", "SHELL"].map(|key| dump.variable(key));
    assert_eq!(variables, [Some("/"), Some("1000770001"), Some("1000770001"), Some("/bin/sh")]);
    service.reload_well();
    // Who is in the group may look, and no more.
    let member = ["setpriv", "--reuid=1000770009", "--regid=1000770003", "--clear-groups", "--"];
    service.daemon.cli_under(&member, &["status"]).assert_code(0);
    let refused = service.daemon.cli_under(&member, &["reload"]);
    assert_ne!(refused.code, Some(0), "{refused:?}");
    service.stop();
}

#[test]
fn a_number_without_an_entry_needs_a_group_and_is_not_given_roots() {
    let mut service = Plan::new().pool("user", "1000770001").begin();
    let (code, log) = service.ended();
    assert_eq!(code, Some(2), "{log}");
    assert!(log.contains("hint: add `group`, for example group = 1000770001"), "{log}");
}

#[test]
fn a_daemon_whose_own_user_is_a_number_starts_and_is_found_by_it() {
    if cannot_be_a_number() {
        return;
    }
    let plan = Plan::new().pool("user", "1000770001");
    plan.open_to_all();
    let home = plan.scratch.join("home");
    std::fs::create_dir(&home).expect("our directory");
    std::os::unix::fs::chown(&home, Some(UID), Some(0)).expect("we are root");
    let setup = plan.setup().under(AS_A_NUMBER).env("XDG_RUNTIME_DIR", &home).env("RUNTIME_DIRECTORY", "");
    let service = plan.begin_with(setup);
    service.manager().wait_for("READY=1");
    service.get("/").expect("an answer");
    let client = |words: &[&str]| {
        let ours = command(words);
        let mut client = std::process::Command::new(AS_A_NUMBER[0]);
        client.args(&AS_A_NUMBER[1..]).arg(ours.get_program()).args(ours.get_args());
        Running::start(client.env("XDG_RUNTIME_DIR", &home).env_remove("RUNTIME_DIRECTORY")).finish()
    };
    for words in [&["status", "--name", "test"][..], &["status"], &["reload", "--name", "test"]] {
        client(words).assert_code(0);
    }
    let status = client(&["status", "--json"]).stdout;
    let pid = Status(serde_json::from_str(&status).expect("JSON")).ready("web")[0].pid;
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it lives");
    assert!(
        text.contains("Uid:\t1000770001\t1000770001") && text.contains("Groups:\t0 1000770000"),
        "{text}"
    );
    let control = home.join("handover/test/control.sock").metadata().expect("its socket");
    assert_eq!((control.uid(), control.mode() & 0o777), (UID, 0o600));
}
