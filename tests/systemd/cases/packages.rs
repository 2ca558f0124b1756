//! Installing, upgrading and removing the package beside services that run.

use super::{Case, alone};
use crate::booted::Machine;
use crate::package::{CRASHING, MENDED, NEWER};
use crate::site::Site;
use crate::support::client::Failure;
use crate::support::eventually;
use crate::support::load::Load;

/// In this order.
pub const CASES: &[Case] = &[
    alone("an upgrade of the package under load loses nothing", upgrade),
    alone("an upgrade to a program that crashes stops no service, and the next version mends it", crashing),
    alone("a purge removes what the package installed, and nothing else", purge),
];

fn version(machine: &Machine) -> String {
    machine.succeed(&["dpkg-query", "--show", "--showformat=${Version}", "handover"])
}

fn program(machine: &Machine, pid: u32) -> String {
    machine.succeed(&["readlink", &format!("/proc/{pid}/exe")])
}

fn upgrade(machine: &Machine) {
    let site = Site::new(machine, "upgraded").start();
    let pid = site.main_pid();
    let load = site.load();
    machine.install("newer.deb");
    assert_eq!(version(machine), NEWER);
    load.wait_for(50);
    // The old program goes on: it starts workers by itself, whatever lies at its path, and the new client talks to it.
    assert_eq!((site.main_pid(), site.show("ActiveState")), (pid, "active".to_owned()));
    assert!(program(machine, pid).ends_with("(deleted)"));
    for _ in 0..2 {
        site.systemctl("reload").assert_code(0);
        load.wait_for(50);
    }
    site.serves_generation(3);
    // Its time to be replaced is the administrator's to choose.
    site.systemctl("restart").assert_code(0);
    load.wait_for(50);
    let tally = load.stop();
    tally.print(&format!("package upgrade, systemd {}", machine.systemd));
    tally.assert_nothing_lost();
    assert_eq!(program(machine, site.main_pid()), "/usr/bin/handover");
    site.stop();
}

fn crashing(machine: &Machine) {
    let site = Site::new(machine, "unlucky").start();
    let load = Load::closed(&site.address, 4).start();
    machine.install("crashing.deb");
    assert_eq!(version(machine), CRASHING);
    // A worker that dies is followed by another, and a reload fails for want of a client.
    let worker = site.serves().pid();
    machine.succeed(&["kill", "-KILL", &worker.to_string()]);
    eventually("another worker serves", || {
        (site.status().is_settled() && site.serves().pid() != worker).then_some(())
    });
    site.systemctl("reload").assert_code(1);
    site.assert_active();
    // Now it crashes at each start; clients wait.
    let mut restart = site.begin("restart");
    eventually("it was tried several times", || {
        (site.show("NRestarts").parse::<u32>().expect("a number") > 2).then_some(())
    });
    restart.child().signal(libc::SIGTERM);
    assert_eq!(site.show_of("socket", "ActiveState"), "active");
    machine.install("mended.deb");
    assert_eq!(version(machine), MENDED);
    load.wait_for(50);
    let refused = load.stop().lost.iter().filter(|lost| lost.failure == Failure::Refused).count();
    assert_eq!(refused, 0);
    site.serves();
    site.assert_active();
    site.stop();
}

fn purge(machine: &Machine) {
    let site = Site::generated(machine, "left").start();
    let load = site.load();
    let files = machine.succeed(&["dpkg", "--listfiles", "handover"]);
    // Directories are shared with others.
    let files: Vec<&str> = files.lines().filter(|file| !machine.path(file).is_dir()).collect();
    assert!(files.contains(&"/usr/lib/systemd/system-generators/handover-generator"), "{files:?}");
    machine.succeed(&["dpkg", "--purge", "handover"]);
    load.wait_for(50);
    load.stop().assert_nothing_lost();
    for file in files.into_iter().chain(["/usr/share/doc/handover", "/usr/share/handover"]) {
        let found = machine.path(file).symlink_metadata();
        assert!(found.is_err(), "{file} is left");
    }
    assert_eq!(machine.shell("ls /etc/handover/left.toml"), "/etc/handover/left.toml\n");
    // It serves on, and can be stopped; systemd does not know it any more then.
    machine.succeed(&["systemctl", "daemon-reload"]);
    site.get().expect("it runs");
    site.stop();
    assert_eq!(machine.shell("systemctl show --value -p LoadState left.socket"), "not-found\n");

    // Nothing of the administrator's in there: nothing is left.
    machine.install("handover.deb");
    machine.shell("rm -rf /etc/handover/*");
    machine.succeed(&["dpkg", "--remove", "handover"]);
    assert_eq!(machine.shell("ls -d /etc/handover"), "/etc/handover\n", "removal is not purge");
    machine.succeed(&["dpkg", "--purge", "handover"]);
    assert!(machine.shell("ls -d /etc/handover").contains("No such file"));
    assert_eq!(
        machine.shell("dpkg --listfiles handover").trim(),
        "dpkg-query: package 'handover' is not installed\nUse dpkg --contents (= dpkg-deb --contents) to list archive files contents."
    );
}
