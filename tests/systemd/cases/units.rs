//! The units themselves, shipped and generated: what systemd has to say of them.

use super::{Case, case};
use crate::booted::Machine;
use crate::site::shipped;

pub const CASES: &[Case] = &[
    case("systemd has nothing to say of the shipped units", verify),
    case("systemd has nothing to say of generated units", verify_generated),
    case("the manual says how much systemd takes away from a service", security),
];

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

/// Writes the units of a configuration of `tests/golden/units` into a directory of their own.
fn generate(machine: &Machine, name: &str, options: &[&str]) -> String {
    let path = format!("{}/tests/golden/units/{name}.toml", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let file = format!("/tmp/generated/{name}.toml");
    // An interface that is there: from 255 on, systemd looks for it as it reads the unit.
    machine.write(&file, &text.replace("fe80::1%2", "fe80::1%1"));
    let directory = format!("/tmp/generated/{}{name}", options.join(""));
    machine.succeed(&["mkdir", "-p", &directory]);
    let command = ["handover", "generate", "systemd", &file, "--directory", &directory];
    machine.succeed(&[&command[..], options].concat());
    directory
}

fn verify_generated(machine: &Machine) {
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/units");
    let files = std::fs::read_dir(golden).expect("our directory");
    let files = files.map(|file| file.expect("a file").file_name().to_string_lossy().into_owned());
    let names: Vec<String> = files.filter_map(|file| file.strip_suffix(".toml").map(str::to_owned)).collect();
    assert!(names.len() >= 5, "{names:?}");
    for name in names {
        let directory = generate(machine, &name, &[]);
        let verify = "systemd-analyze verify ./*.service ./*.socket";
        let said = machine.shell(&format!("shopt -s nullglob; cd {directory} && {verify}"));
        assert_eq!(said, "", "{name} on systemd {}", machine.systemd);
    }
}

fn security(machine: &Machine) {
    let directory = generate(machine, "one", &[]);
    let said =
        machine.shell(&format!("systemd-analyze security --offline=true --no-pager {directory}/one.service"));
    let level = said.lines().find_map(|line| line.split("exposure level for one.service: ").nth(1));
    let level = level.and_then(|rest| rest.split(' ').next()).unwrap_or_else(|| panic!("no level: {said}"));
    let page =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/systemd.md")).expect("a page");
    let told = format!("{level} with systemd {}", machine.systemd);
    assert!(page.contains(&told), "the manual does not say: {told}");
}
