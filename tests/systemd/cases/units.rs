//! The shipped units themselves.

use super::{Case, case};
use crate::booted::Machine;
use crate::site::shipped;

pub const CASES: &[Case] = &[case("systemd has nothing to say of the shipped units", verify)];

/// `systemd-analyze verify` ends with 0 on a setting that it does not know, and only says so.
fn verify(machine: &Machine) {
    let mut units = vec!["myapp.socket", "myapp.service", "handover@.service"];
    if machine.systemd >= 253 {
        units.push("myapp-notify-reload.service");
    }
    for unit in units {
        let name =
            unit.replace("myapp", "verified").replace("-notify-reload", "").replace("@.", "@verified.");
        let directory = format!("/tmp/verify-{unit}");
        for (name, unit) in
            [("verified.socket", "myapp.socket"), ("verified.service", "myapp.service"), (&name, unit)]
        {
            machine.write(&format!("{directory}/{name}"), &shipped(unit).replace("myapp", "verified"));
        }
        let said = machine.shell(&format!("cd {directory} && systemd-analyze verify ./{name}"));
        assert_eq!(said, "", "{unit} on systemd {}", machine.systemd);
    }
}
