//! The other package, in a root directory of its own that is gone afterwards: what is in it, what its scripts do, and what is left of it.
//! No machine of its kind is booted; the root directory is Debian's.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::ability;
use crate::package::succeed;
use crate::roots;
use crate::support::handover;
use crate::support::scratch::Scratch;

/// Carries out a line of shell in which `$ROOT` is a copy of a root directory, in memory, and `rpm` works in there.
const IN_A_COPY: &str = "\
mount -t tmpfs -o mode=755 none \"$1\" && mkdir \"$1/upper\" \"$1/work\" \"$1/root\" &&
mount -t overlay -o \"lowerdir=$2,upperdir=$1/upper,workdir=$1/work\" none \"$1/root\" || exit
ROOT=$1/root PACKAGE=$3
rpm() { command rpm --root \"$ROOT\" --nodeps --force-debian \"$@\" 2>&1; }
eval \"$4\"";

/// The package of the daemon under test. Without what it is linked to, which takes a while to find and is a matter of where it is built.
fn build(scratch: &Scratch, tool: &Path) -> PathBuf {
    let (target, package) = (scratch.join("target"), scratch.join("handover.rpm"));
    std::fs::create_dir_all(target.join("release")).expect("our directory");
    succeed(Command::new("strip").arg("-o").args([&target.join("release/handover"), handover()]));
    let mut command = Command::new(tool);
    command.args(["generate-rpm", "--payload-compress", "none", "--auto-req", "no", "--target-dir"]);
    command.arg(target).arg("--output").arg(&package).current_dir(env!("CARGO_MANIFEST_DIR"));
    succeed(&mut command);
    package
}

#[test]
fn the_other_package_brings_the_same_and_leaves_nothing_but_configurations() {
    if ability::is_absent() {
        return;
    }
    let Some(tool) = ability::rpm() else { return };
    let scratch = Scratch::new();
    let package = build(&scratch, &tool);
    let root = roots::debian("bookworm");
    std::fs::create_dir(scratch.join("copy")).expect("our directory");
    let run = |line: &str| {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--", "sh", "-c", IN_A_COPY, "sh"]);
        succeed(command.args([&scratch.join("copy"), &root, &package]).arg(line))
    };

    let listed = run("command rpm --query --list --package $PACKAGE");
    let files: BTreeSet<&str> = listed.lines().collect();
    for file in [
        "/usr/bin/handover",
        "/usr/share/bash-completion/completions/handover",
        "/usr/share/doc/handover/README.md",
        "/usr/share/doc/handover/docs/systemd.md",
        "/usr/share/doc/handover/examples/systemd/myapp.service",
        "/usr/share/handover/handover.schema.json",
        "/usr/share/licenses/handover/LICENSE-MIT",
        "/usr/share/man/man1/handover.1",
        "/usr/share/man/man5/handover.toml.5",
        "/usr/share/zsh/site-functions/_handover",
    ] {
        assert!(files.contains(file), "no {file}: {listed}");
    }
    // No unit is installed: nothing starts by itself.
    assert!(!files.iter().any(|file| file.starts_with("/usr/lib/systemd/system/")), "{listed}");

    let link = "usr/lib/systemd/system-generators/handover-generator";
    let life = format!(
        "rpm --install $PACKAGE && rpm --verify handover && chroot $ROOT handover --version
         echo; readlink $ROOT/{link}; ls -A $ROOT/etc/handover
         rpm --upgrade --force $PACKAGE && readlink $ROOT/{link} && ls -d $ROOT/etc/handover
         touch $ROOT/etc/handover/mine.toml; rpm --erase handover
         ls $ROOT/etc/handover; find $ROOT -name '*handover*' | sed s,^$ROOT,,"
    );
    let version = env!("CARGO_PKG_VERSION");
    let said = run(&life).replace(&scratch.join("copy/root").display().to_string(), "");
    let expected = format!(
        "handover {version}\n\n../../../bin/handover\n../../../bin/handover\n/etc/handover\nmine.toml\n\
         /etc/handover-lab\n/etc/handover\n"
    );
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<BTreeSet<_>>();
    assert_eq!(lines(&said), lines(&expected), "{said}");
    let emptied = run("rpm --install $PACKAGE && rpm --erase handover; ls $ROOT/etc/handover 2>&1 || true");
    assert!(emptied.contains("No such file"), "{emptied}");
}
