//! Failures that end without anybody's help.

use super::{Case, case};
use crate::booted::Machine;
use crate::site::Site;
use crate::support::client::{self, Failure};
use crate::support::eventually;
use crate::support::load::Load;

pub const CASES: &[Case] = &[
    case("a handover that hangs in the middle of a rollout is found out as soon", watchdog_in_rollout),
    case("a handover that hangs is killed by the watchdog, started again, and serves", watchdog),
    case("a program that always fails leaves the socket open, and answers once it is mended", always_failing),
    case(
        "a configuration that is refused leaves the socket open, and is answered for once it is mended",
        always_refused,
    ),
    case("a service waits for its user, and serves once that exists", no_user_yet),
    case("a killed handover is started again while connections wait", killed),
];

fn watchdog(machine: &Machine) {
    let site = Site::generated(machine, "hang");
    site.put();
    site.add("[Service]\nWatchdogSec=2s\n");
    site.open();
    site.serves();
    let load = Load::closed(&site.address, 4).start();
    machine.succeed(&["kill", "-STOP", &site.main_pid().to_string()]);
    eventually("systemd starts it again", || (site.restarts() > 0).then_some(()));
    load.wait_for(50);
    let refused = load.stop().lost.iter().filter(|lost| lost.failure == Failure::Refused).count();
    assert_eq!(refused, 0, "the socket unit goes on queueing");
    site.wait_for_journal("Watchdog timeout");
    eventually("it is active again", || (site.show("SubState") == "running").then_some(()));
    site.assert_active();
    assert_eq!(site.journal().matches("starting name=").count(), 2, "{}", site.journal());
    site.stop();
}

/// systemd moves the watchdog's deadline with the others when a rollout asks for time.
fn watchdog_in_rollout(machine: &Machine) {
    let site = Site::new(machine, "hang-rolling").set("pool.web.rollout", "bake_time", "\"1min\"");
    site.put();
    site.add("[Service]\nWatchdogSec=2s\n");
    site.open();
    site.serves();
    let mut reload = site.begin("reload");
    site.wait_for_status("rolling out generation 2");
    machine.succeed(&["kill", "-STOP", &site.main_pid().to_string()]);
    eventually("systemd starts it again", || (site.restarts() > 0).then_some(()));
    site.serves();
    reload.child().signal(libc::SIGTERM);
    site.stop();
}

fn killed(machine: &Machine) {
    let site = Site::new(machine, "killed").start();
    let load = Load::closed(&site.address, 4).start();
    machine.succeed(&["kill", "-KILL", &site.main_pid().to_string()]);
    eventually("systemd starts it again", || (site.restarts() > 0).then_some(()));
    load.wait_for(50);
    let refused = load.stop().lost.iter().filter(|lost| lost.failure == Failure::Refused).count();
    assert_eq!(refused, 0, "the socket unit goes on queueing");
    site.stop();
}

/// More restarts than any limit of systemd's would allow, and the socket is still there; `mend`, and it answers.
#[track_caller]
fn outlives_failures(site: &Site<'_>, mend: impl FnOnce()) {
    site.hurry();
    site.open();
    // A client that comes in between waits, and one that gives up does no harm.
    let waiting = client::Connection::open(&site.address).expect("systemd listens");
    eventually("many starts have failed", || (site.restarts() > 25).then_some(()));
    drop(waiting);
    assert_eq!(site.show_of("socket", "Result"), "success");
    assert_eq!(site.show_of("socket", "ActiveState"), "active");
    let mut waiting = client::Connection::open(&site.address).expect("systemd listens");
    mend();
    site.serves();
    waiting.get("/", false).expect("who waited is answered, too");
    site.assert_active();
    site.stop();
}

fn always_failing(machine: &Machine) {
    let site = Site::generated(machine, "failing").set("pool.web.restart", "burst", "1");
    site.put();
    site.script("eprint=not today\nexit=3\n");
    outlives_failures(&site, || site.script("serve\nready\n"));
    assert!(site.journal().contains("not today"));
}

fn always_refused(machine: &Machine) {
    let mut site = Site::new(machine, "refused");
    site.change("pool.web", "wrokers", "3");
    site.put();
    let right =
        Site::new(machine, "refused").set("listener.http", "address", &format!("\"{}\"", site.address));
    outlives_failures(&site, || right.configure());
    assert!(site.journal().contains("wrokers"));
}

fn no_user_yet(machine: &Machine) {
    let site = Site::new(machine, "lonely").pool("user", "\"late\"");
    site.put();
    outlives_failures(&site, || {
        machine.succeed(&["useradd", "--system", "late"]);
    });
    let journal = site.journal();
    assert!(journal.contains("late"), "{journal}");
}
