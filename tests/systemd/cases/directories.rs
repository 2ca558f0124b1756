//! The runtime directories that systemd makes: for a user that exists only while the service runs, and more than one.

use super::{Case, case};
use crate::booted::Machine;
use crate::site::{Site, shipped};
use crate::support::client;
use crate::support::eventually;

pub const CASES: &[Case] = &[
    case("a service with DynamicUser= and its one directory serves, reloads and answers root", dynamic_user),
    case("a generated service with DynamicUser= and a second directory serves and reloads", generated),
    case("a second runtime directory goes to the workers, and reload and clients are not confused", second),
    case("a runtime directory with a link beside it is found under both names", alias),
    case("a service of the template reloads whatever its name and its directories are", template),
];

/// It serves, and goes on to serve over a reload and a restart.
#[track_caller]
fn lives(site: &Site<'_>) {
    let load = site.load();
    assert_eq!(site.systemctl("reload").code, Some(0), "{}", site.journal());
    load.stop().assert_nothing_lost();
    site.serves_generation(2);
    site.handover(&["status"]).assert_code(0).assert_says(&site.name);
    site.handover(&["reload"]).assert_code(0);
    assert_eq!(site.systemctl("restart").code, Some(0), "{}", site.journal());
    site.serves();
    site.assert_active();
}

/// What a worker has for `$RUNTIME_DIRECTORY`.
fn directories_of_worker(site: &Site<'_>) -> Option<String> {
    let dump = eventually("an answer", || client::get(&site.address, "/dump").ok()).body;
    dump.lines().find_map(|line| line.strip_prefix("RUNTIME_DIRECTORY=")).map(str::to_owned)
}

fn dynamic_user(machine: &Machine) {
    let site = Site::new(machine, "dynamic");
    site.put();
    site.add("[Service]\nDynamicUser=yes\n");
    site.open();
    site.serves();
    // Of the process: since systemd 257 the directory belongs to `nobody` outside, and to the user inside only.
    let owner = machine.shell("stat --format=%u /proc/$(systemctl show --value --property MainPID dynamic)");
    assert!((61184..=65519).contains(&owner.trim().parse::<u32>().expect("a number")), "{owner}");
    lives(&site);
    assert_eq!(directories_of_worker(&site), None);
    site.stop();
}

fn generated(machine: &Machine) {
    let site = Site::generated(machine, "dynamic-made");
    site.put();
    site.add("[Service]\nDynamicUser=yes\nRuntimeDirectory=aaa-made\n");
    site.open();
    site.serves();
    lives(&site);
    assert_eq!(directories_of_worker(&site).as_deref(), Some("/run/aaa-made"));
    site.stop();
}

fn second(machine: &Machine) {
    let site = Site::new(machine, "second-directory");
    site.put();
    site.add("[Service]\nRuntimeDirectory=aaa-second zzz-second\n");
    site.open();
    site.serves();
    lives(&site);
    assert_eq!(directories_of_worker(&site).as_deref(), Some("/run/aaa-second:/run/zzz-second"));
    assert_eq!(machine.shell("ls /run/aaa-second"), "", "nothing of ours is in it");
    site.stop();
}

fn alias(machine: &Machine) {
    let site = Site::new(machine, "alias");
    site.put();
    let directories = "RuntimeDirectory=\nRuntimeDirectory=alias-real:handover/alias\n";
    site.add(&format!("[Service]\n{directories}"));
    site.open();
    site.serves();
    lives(&site);
    machine.succeed(&["handover", "status", "--socket", "/run/alias-real/control.sock"]);
    site.stop();
}

fn template(machine: &Machine) {
    let site = Site::new(machine, "template").set("", "name", "\"otherwise\"");
    site.configure();
    site.script("serve\nready\n");
    site.write_unit("handover@.service", &shipped("handover@.service"));
    site.write_unit("handover@template.service.d/a.conf", "[Service]\nRuntimeDirectory=aaa-template\n");
    machine.succeed(&["systemctl", "daemon-reload"]);
    machine.succeed(&["systemctl", "start", "handover@template"]);
    site.serves_generation(1);
    machine.succeed(&["systemctl", "reload", "handover@template"]);
    site.serves_generation(2);
    assert_eq!(directories_of_worker(&site).as_deref(), Some("/run/aaa-template"));
    // By the name of its directory, from anywhere.
    machine.succeed(&["handover", "status", "--name", "template"]);
    machine.succeed(&["systemctl", "stop", "handover@template"]);
}
