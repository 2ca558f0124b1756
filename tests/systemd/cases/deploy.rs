//! Deploys under load: what works, what does not, and what systemd and the person at the terminal are told.

use super::{Case, case};
use crate::booted::Machine;
use crate::site::Site;
use crate::support::client::Failure;

pub const CASES: &[Case] = &[
    case("a reload under load loses nothing", reload),
    case("a reload of a broken program fails, says why, and changes nothing", broken_program),
    case("a reload of a broken configuration fails, says why, and changes nothing", broken_configuration),
    case("a reload while it starts waits for the start, and reloads nothing", reload_in_start),
    case("a restart under load refuses nobody", restart),
    case("a stop of the service alone lets the next connection start it again", stop_and_start),
    case("the status line is true before, during and after a rollout and a rollback", status_line),
];

fn reload(machine: &Machine) {
    let site = Site::new(machine, "reload").start();
    let load = site.load();
    for generation in 2..5 {
        site.script(&format!("serve\nready\nversion={generation}\n"));
        site.systemctl("reload").assert_code(0);
        load.wait_for(50);
    }
    site.settle();
    site.serves_generation(4);
    let tally = load.stop();
    tally.print(&format!("systemctl reload, systemd {}", machine.systemd));
    tally.assert_nothing_lost();
    site.assert_active();
    site.stop();
}

fn broken_program(machine: &Machine) {
    let site = Site::new(machine, "broken").start();
    let load = site.load();
    site.script("eprint=no such module: zebra\nexit=3\n");
    let output = site.systemctl("reload");
    output.assert_code(1);
    site.assert_active();
    load.wait_for(50);
    load.stop().assert_nothing_lost();
    assert_eq!(site.serves().generation(), 1);
    // Where `systemctl` sends the person who wants to know.
    output.assert_says("journalctl");
    // Daemon and client reach the journal by two ways: which lines are the last ten, the default, is not ours to say.
    let status = machine.shell("systemctl status -n 20 broken");
    for said in [site.journal(), status.clone()] {
        assert!(said.contains("rolled back after"), "{said}");
        assert!(said.contains("exited with status 3"), "{said}");
        assert!(said.contains("no such module: zebra"), "{said}");
    }
    assert!(status.contains("generation 2 was rolled back: worker 3"), "{status}");
    // The next one is not held against it.
    site.script("serve\nready\n");
    site.systemctl("reload").assert_code(0);
    site.serves_generation(3);
    site.stop();
}

fn broken_configuration(machine: &Machine) {
    let mut site = Site::new(machine, "mistyped").start();
    let load = site.load();
    site.change("pool.web", "wrokers", "3");
    site.configure();
    site.systemctl("reload").assert_code(1);
    site.assert_active();
    load.wait_for(50);
    load.stop().assert_nothing_lost();
    let journal = site.wait_for_journal("no such key");
    assert!(journal.contains("wrokers"), "{journal}");
    assert_eq!(site.show("StatusText"), "2 of 2 workers ready, generation 1");
    site.stop();
}

/// As systemd has it, for which the one job is a part of the other; the manual says so.
fn reload_in_start(machine: &Machine) {
    let site = Site::new(machine, "early").pool("workers", "1");
    site.put();
    // The worker waits for its script until somebody writes one.
    machine.succeed(&["rm", "/srv/early/script"]);
    machine.succeed(&["mkfifo", "/srv/early/script"]);
    site.open();
    let start = site.begin("start");
    site.wait_for_journal("worker started ");
    assert_eq!(site.show("ActiveState"), "activating");
    machine.succeed(&["systemctl", "--no-block", "reload", "early"]);
    std::fs::write(machine.path("/srv/early/script"), "serve\nready\n").expect("a worker that reads");
    start.finish().assert_code(0);
    site.script("serve\nready\n");
    assert_eq!(site.show("StatusText"), "1 of 1 workers ready, generation 1");
    assert!(!site.journal().contains("reload requested"), "{}", site.journal());
    site.systemctl("reload").assert_code(0);
    assert_eq!(site.show("StatusText"), "1 of 1 workers ready, generation 2");
    site.stop();
}

fn restart(machine: &Machine) {
    let site = Site::generated(machine, "restart").start();
    let before = site.main_pid();
    let load = site.load();
    for _ in 0..3 {
        site.systemctl("restart").assert_code(0);
        load.wait_for(50);
    }
    let tally = load.stop();
    tally.print(&format!("systemctl restart, systemd {}", machine.systemd));
    tally.assert_nothing_lost();
    assert_ne!(site.main_pid(), before);
    site.assert_active();
    site.stop();
}

fn stop_and_start(machine: &Machine) {
    let site = Site::generated(machine, "pause").start();
    let load = site.load();
    // The socket stays: a connection that comes while the service stops waits, and starts it again.
    site.systemctl("stop");
    load.wait_for(50);
    let tally = load.stop();
    assert!(tally.lost.iter().all(|lost| lost.failure != Failure::Refused), "{tally:#?}");
    tally.assert_nothing_lost();
    site.assert_active();
    site.stop();
    assert_eq!(site.get().map(|answer| answer.body), Err(Failure::Refused));
}

/// What `systemctl status` shows in its one line.
fn shown_status(machine: &Machine) -> String {
    let shown = machine.shell("systemctl status --full line");
    let line = shown.lines().find_map(|line| line.trim().strip_prefix("Status: \"")?.strip_suffix('"'));
    line.unwrap_or_else(|| panic!("no status line: {shown}")).to_owned()
}

fn status_line(machine: &Machine) {
    // Slow enough to be looked at.
    let mut site = Site::new(machine, "line");
    site.change("pool.web.rollout", "bake_time", "\"2s\"");
    let mut site = site.start();
    let before = "2 of 2 workers ready, generation 1";
    assert_eq!(site.wait_for_status("generation 1"), before);
    assert_eq!(shown_status(machine), before);

    let reload = site.begin("reload");
    site.wait_for_status("rolling out generation 2: ");
    assert_eq!(site.show("ActiveState"), "reloading");
    let during = shown_status(machine);
    assert!(during.contains(" workers ready, rolling out generation 2: "), "{during}");
    reload.finish().assert_code(0);
    assert_eq!(site.show("StatusText"), "2 of 2 workers ready, generation 2");

    // The canary stays, the second worker fails; what is rolled back to takes a while to be ready.
    machine.write("/srv/line/failing", "[slot=1] exit=4\nserve\nready\n");
    site.script("wait=2s\nserve\nready\n");
    site.change("pool.web", "environment", "{ WORKER_SCRIPT = \"/srv/line/failing\" }");
    site.configure();
    let reload = site.begin("reload");
    site.wait_for_status("rolling out generation 3");
    site.wait_for_status("rolling back generation 3");
    reload.finish().assert_code(1);
    let line = site.wait_for_status("was rolled back");
    assert!(line.starts_with("2 of 2 workers ready, generation 2; generation 3 was rolled back: "), "{line}");
    assert!(line.contains("exited with status 4"), "{line}");
    assert_eq!(shown_status(machine), line);
    assert_eq!(site.show("ActiveState"), "active");

    site.change("pool.web", "environment", "{ WORKER_SCRIPT = \"/srv/line/script\" }");
    site.configure();
    site.systemctl("reload").assert_code(0);
    assert_eq!(site.show("StatusText"), "2 of 2 workers ready, generation 4");
    site.stop();
}
