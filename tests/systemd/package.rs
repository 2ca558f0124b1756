//! The package of the daemon under test, as `cargo deb` makes it, and others derived from it: a newer version, and one whose
//! program does nothing but crash.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::ability::{cargo_deb, target};
use crate::support::scratch::Scratch;

/// Packages in a directory of their own.
pub struct Packages(Scratch);

/// The version of the derived packages.
pub const NEWER: &str = "99.1-1";
/// The version of the package that crashes.
pub const CRASHING: &str = "99.2-1";
/// The version that mends it.
pub const MENDED: &str = "99.3-1";

impl Packages {
    /// Makes all of them.
    pub fn make() -> Self {
        let packages = Self(Scratch::new());
        let first = packages.path("handover.deb");
        match std::env::var_os("HANDOVER_DEB") {
            Some(made) => {
                fs::copy(&made, &first)
                    .unwrap_or_else(|error| panic!("HANDOVER_DEB {}: {error}", made.display()));
            }
            None => build(&first),
        }
        packages.derive("newer.deb", NEWER, |_| {});
        packages.derive("crashing.deb", CRASHING, |root| {
            let program = "#!/bin/sh\necho 'this version crashes' >&2\nkill -SEGV $$\n";
            fs::write(root.join("usr/bin/handover"), program).expect("our file");
        });
        packages.derive("mended.deb", MENDED, |_| {});
        packages
    }

    /// Where they are.
    pub fn directory(&self) -> &Path {
        self.0.path()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The package with another version and `change` made to its files.
    fn derive(&self, name: &str, version: &str, change: impl FnOnce(&Path)) {
        let root = self.path("root");
        succeed(
            Command::new("dpkg-deb").arg("--raw-extract").args([self.path("handover.deb"), root.clone()]),
        );
        let control = root.join("DEBIAN/control");
        let text = fs::read_to_string(&control).expect("each package has one");
        let lines = text.lines().map(|line| match line.starts_with("Version:") {
            true => format!("Version: {version}\n"),
            false => format!("{line}\n"),
        });
        fs::write(&control, lines.collect::<String>()).expect("our file");
        change(&root);
        succeed(Command::new("dpkg-deb").args(["-Zgzip", "-z1", "--build"]).args([&root, &self.path(name)]));
        fs::remove_dir_all(&root).expect("our directory");
    }
}

/// Packs what `cargo test` built.
fn build(to: &Path) {
    let mut command = Command::new(cargo_deb().expect("looked for before"));
    command.args(["--no-build", "--profile", "dev", "--fast", "--strip", "--quiet", "--output"]).arg(to);
    command.current_dir(env!("CARGO_MANIFEST_DIR")).env("CARGO_TARGET_DIR", target());
    succeed(&mut command);
}

/// # Panics
///
/// Where it fails.
#[track_caller]
pub fn succeed(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{command:?}: {}\n{said}", output.status);
    said
}

/// What `cargo deb` calls the package of this version.
pub fn file_name() -> String {
    let machine = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    format!("handover_{}-1_{machine}.deb", env!("CARGO_PKG_VERSION"))
}
