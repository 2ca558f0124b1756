//! What takes longer than systemd would wait by itself. All of it at once and beside no other case: a `daemon-reload` makes systemd
//! forget that it has granted more time (systemd issue 43000), and other cases need theirs.

use super::{Case, alone};
use crate::booted::Machine;
use crate::site::Site;

pub const CASES: &[Case] = &[
    alone(
        "a start, a rollout and a stop may outlast systemd's timeouts, and end with their true result",
        outlast,
    ),
    alone("a daemon-reload in the middle of a rollout takes no time away from it", daemon_reload),
];

fn outlast(machine: &Machine) {
    let new = |name, script| {
        let site = Site::new(machine, name).pool("start_timeout", "\"30s\"").pool("stop_timeout", "\"20s\"");
        site.put();
        site.add("[Service]\nTimeoutStartSec=2s\nTimeoutStopSec=2s\n");
        site.script(script);
        site
    };
    let start = new("slow-start", "wait=5s\nserve\nready\n");
    let rollout = new("slow-roll", "serve\nready\n");
    let stop = new("slow-stop", "serve\nready\nend-takes=5s\n");
    let signalled = new("slow-signalled", "serve\nready\n");
    signalled.write_unit("slow-signalled.service", &signalled.unit("myapp-notify-reload.service"));
    machine.succeed(&["systemctl", "daemon-reload"]);
    std::thread::scope(|scope| {
        scope.spawn(|| long_start(&start));
        scope.spawn(|| long_rollout(&rollout));
        scope.spawn(|| long_stop(&stop));
        if machine.systemd >= 253 {
            scope.spawn(|| notify_reload(&signalled));
        }
    });
}

fn daemon_reload(machine: &Machine) {
    let site = Site::new(machine, "reread").pool("start_timeout", "\"30s\"").pool("workers", "1");
    site.put();
    site.add("[Service]\nTimeoutStartSec=8s\nWatchdogSec=4s\n");
    site.open();
    site.serves();
    site.script("wait=11s\nserve\nready\n");
    let reload = site.begin("reload");
    site.wait_for_status("rolling out generation 2");
    machine.succeed(&["systemctl", "daemon-reload"]);
    site.wait_for_status("1 of 1 workers ready, generation 2");
    reload.finish().assert_code(0);
    site.stop();
}

fn long_start(site: &Site<'_>) {
    site.systemctl("start").assert_code(0);
    assert_eq!(site.show("NRestarts"), "0");
    site.get().expect("an answer");
    site.stop();
}

fn long_rollout(site: &Site<'_>) {
    site.systemctl("start").assert_code(0);
    let load = site.load();
    site.script("wait=5s\nserve\nready\n");
    site.systemctl("reload").assert_code(0);
    assert_eq!(site.show("StatusText"), "2 of 2 workers ready, generation 2");

    site.script("wait=5s\nexit=6\n");
    site.systemctl("reload").assert_code(1);
    site.wait_for_journal("exited with status 6");
    load.stop().assert_nothing_lost();
    site.assert_active();
    assert_eq!(site.show("NRestarts"), "0");
    site.stop();
}

fn long_stop(site: &Site<'_>) {
    site.systemctl("start").assert_code(0);
    site.stop();
    assert_eq!(
        (site.show("Result"), site.show("ActiveState")),
        ("success".to_owned(), "inactive".to_owned())
    );
    let journal = site.journal();
    assert!(!journal.contains("Killing process"), "{journal}");
}

/// In a notify-reload unit systemd waits for the rollout by itself, and only the status line says how that ended.
fn notify_reload(site: &Site<'_>) {
    site.systemctl("start").assert_code(0);
    let load = site.load();
    site.script("wait=5s\nserve\nready\n");
    site.systemctl("reload").assert_code(0);
    assert_eq!(site.show("StatusText"), "2 of 2 workers ready, generation 2");
    site.script("eprint=no such module: zebra\nwait=5s\nexit=3\n");
    site.systemctl("reload").assert_code(0);
    let line = site.show("StatusText");
    assert!(
        line.contains("generation 3 was rolled back: ") && line.contains("exited with status 3"),
        "{line}"
    );
    load.wait_for(50);
    load.stop().assert_nothing_lost();
    site.assert_active();
    site.stop();
}
