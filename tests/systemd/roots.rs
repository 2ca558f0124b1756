//! Root directories of Debian, made once and kept under the target directory. They are only ever read: a machine that is booted
//! from one writes to memory.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use crate::ability::target;
use crate::package::succeed;

/// What is installed beside the minimum.
const PACKAGES: &str =
    "systemd,systemd-sysv,dbus,dbus-user-session,libpam-systemd,python3,curl,iproute2,procps";
const MIRROR: &str = "http://deb.debian.org/debian";
/// Which packages a root has, so that one with others is made anew.
const STAMP: &str = "etc/handover-lab";

/// One at a time makes what several tests need: Debian 12 is booted by one, and the container of another is made of it.
static BOOKWORM: Mutex<()> = Mutex::new(());
static OTHERS: Mutex<()> = Mutex::new(());

/// The root directory of a release of Debian; made where there is none, in a minute.
pub fn debian(release: &str) -> PathBuf {
    let lock = if release == "bookworm" { &BOOKWORM } else { &OTHERS };
    // Who panicked has left a draft, which is made anew.
    let _making = lock.lock().unwrap_or_else(PoisonError::into_inner);
    let directory = target().join("systemd-lab");
    let root = directory.join(release);
    if fs::read_to_string(root.join(STAMP)).is_ok_and(|stamp| stamp == PACKAGES) {
        return root;
    }
    let draft = directory.join(format!("{release}.draft"));
    for old in [&root, &draft] {
        if old.exists() {
            fs::remove_dir_all(old).expect("our directory");
        }
    }
    fs::create_dir_all(&directory).expect("our directory");
    let _ = writeln!(std::io::stderr(), "systemd lab: installing Debian {release} into {}", root.display());
    let mut command = Command::new("debootstrap");
    command.arg("--variant=minbase").arg(format!("--include={PACKAGES}"));
    succeed(command.arg(release).arg(&draft).arg(MIRROR));
    fs::write(draft.join(STAMP), PACKAGES).expect("our file");
    fs::rename(&draft, &root).expect("our directory");
    root
}
