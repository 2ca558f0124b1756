//! What the figures were measured on: the kind of machine, never its name.

use std::process::Command;

/// Facts of the machine and of the programs, each with its name.
pub struct Machine(Vec<(&'static str, String)>);

impl Machine {
    /// Asks this machine.
    pub fn this() -> Self {
        let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
        let facts = [
            ("date", said("date", &["-u", "+%Y-%m-%d"])),
            ("processor", format!("{}, {cores} cores", processor())),
            ("memory", memory()),
            ("kernel", kernel()),
            ("load before the run", load()),
            ("handover", format!("{}, release build", env!("CARGO_PKG_VERSION"))),
        ];
        Self(facts.into_iter().collect())
    }

    /// Adds a program that is compared with.
    pub fn add(&mut self, name: &'static str, version: String) {
        self.0.push((name, version));
    }

    /// All of them.
    pub fn facts(&self) -> Vec<(&'static str, String)> {
        self.0.clone()
    }
}

/// The first line that a command says.
pub fn said(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let text = output.map(|output| [output.stdout, output.stderr].concat()).unwrap_or_default();
    String::from_utf8_lossy(&text).lines().next().unwrap_or("unknown").trim().to_owned()
}

/// What follows `name` and a colon in a file of `/proc`.
fn field(path: &str, name: &str) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.trim_start().strip_prefix(':'));
    value.map(|value| value.trim().to_owned())
}

fn processor() -> String {
    let hypervisor = std::fs::read_to_string("/proc/cpuinfo").is_ok_and(|text| text.contains(" hypervisor"));
    let model = field("/proc/cpuinfo", "model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    if hypervisor { format!("{model} (virtual machine)") } else { model }
}

/// Its number; what a distribution or a provider adds to it names the machine more than the kernel.
fn kernel() -> String {
    let release = said("uname", &["-r"]);
    format!("Linux {}", release.split('-').next().unwrap_or_default())
}

fn memory() -> String {
    let kib = field("/proc/meminfo", "MemTotal").and_then(|text| text.split(' ').next()?.parse::<f64>().ok());
    kib.map_or_else(|| "unknown".to_owned(), |kib| format!("{:.0} GB", kib * 1024.0 / 1e9))
}

/// The load averages: a machine that was not quiet says so.
fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').take(3).collect::<Vec<_>>().join(" ")
}
