//! What this machine must have and allow for a lab, and what it gets where something is missing.
//!
//! A program that is not installed is a skip that `HANDOVER_TEST_ALL=1` turns into a failure. What the machine itself refuses
//! (root, namespaces, cgroup v2) stays a skip even then: nobody can install that.

use std::io::Write;
use std::path::{Path, PathBuf};

use crate::support::machine::succeeds;

/// Programs without which there is no lab.
const PROGRAMS: [&str; 5] = ["systemd-nspawn", "debootstrap", "dpkg-deb", "nsenter", "setpriv"];

/// What stands in the way, first what nobody can install.
enum Obstacle {
    Machine(&'static str),
    Missing(String),
}

/// Whether there is no lab here; says so.
///
/// # Panics
///
/// Where only a program is missing and nothing may be skipped.
pub fn is_absent() -> bool {
    let why = match obstacle() {
        None => return false,
        Some(Obstacle::Machine(why)) => why.to_owned(),
        Some(Obstacle::Missing(program)) => {
            let all = std::env::var_os("HANDOVER_TEST_ALL").is_some_and(|all| all == "1");
            assert!(!all, "{program} is not installed");
            format!("no {program}")
        }
    };
    // Not `eprintln`, which is swallowed where a test passes.
    let needs = "needs root, systemd-nspawn, debootstrap, cargo-deb";
    let _ = writeln!(std::io::stderr(), "skipped: systemd lab ({needs}): {why}");
    true
}

fn obstacle() -> Option<Obstacle> {
    // SAFETY: takes nothing.
    #[allow(unsafe_code, reason = "no safe call tells it")]
    if unsafe { libc::geteuid() } != 0 {
        return Some(Obstacle::Machine("not root"));
    }
    if cgroup().is_none() {
        return Some(Obstacle::Machine("no cgroup v2 hierarchy that can be written"));
    }
    if !succeeds(&["unshare", "--mount", "--pid", "--net", "--uts", "--ipc", "--fork", "true"]) {
        return Some(Obstacle::Machine("no namespaces"));
    }
    let missing = PROGRAMS.into_iter().find(|program| program_at(program).is_none()).map(str::to_owned);
    let missing = missing.or_else(|| cargo_deb().is_none().then(|| "cargo-deb".to_owned()));
    missing.map(Obstacle::Missing)
}

/// Where `name` is installed.
fn program_at(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/usr/bin"].map(PathBuf::from);
    std::env::split_paths(&path)
        .chain(system)
        .map(|directory| directory.join(name))
        .find(|path| path.exists())
}

/// The target directory.
pub fn target() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("it lies in the target directory")
}

/// `cargo-deb`, installed for the user or in `tools` of the target directory.
pub fn cargo_deb() -> Option<PathBuf> {
    let ours = target().join("tools/bin/cargo-deb");
    if ours.exists() { Some(ours) } else { program_at("cargo-deb") }
}

/// `cargo-generate-rpm`, where there is `rpm`, too. Says what is missing.
///
/// # Panics
///
/// Where something is missing and nothing may be skipped.
pub fn rpm() -> Option<PathBuf> {
    let ours = target().join("tools/bin/cargo-generate-rpm");
    let tool = if ours.exists() { Some(ours) } else { program_at("cargo-generate-rpm") };
    let missing = ["rpm", "strip"].into_iter().find(|program| program_at(program).is_none());
    let missing = missing.or_else(|| tool.is_none().then_some("cargo-generate-rpm"));
    let Some(missing) = missing else { return tool };
    let all = std::env::var_os("HANDOVER_TEST_ALL").is_some_and(|all| all == "1");
    assert!(!all, "{missing} is not installed");
    let _ = writeln!(
        std::io::stderr(),
        "skipped: the other package (needs rpm, strip, cargo-generate-rpm): no {missing}"
    );
    None
}

/// Our own cgroup in the v2 hierarchy, wherever that is mounted, if cgroups can be made in it.
pub fn cgroup() -> Option<PathBuf> {
    let mounts = std::fs::read_to_string("/proc/self/mounts").ok()?;
    let mount = mounts.lines().find_map(|line| {
        let mut fields = line.split(' ');
        let (path, kind) = (fields.nth(1)?, fields.next()?);
        (kind == "cgroup2").then(|| PathBuf::from(path))
    })?;
    let ours = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let ours = ours.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let path = mount.join(ours);
    let probe = path.join(format!("handover-probe-{}-{:?}", std::process::id(), std::thread::current().id()));
    std::fs::create_dir(&probe).ok()?;
    std::fs::remove_dir(&probe).ok()?;
    Some(path)
}
