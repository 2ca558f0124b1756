//! What a program pays that uses handover as a library and nothing else: crates and time to compile. Each program is a package of its own outside
//! this workspace, under the target directory, with Cargo's own release profile and with the versions of our `Cargo.lock`.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::Result;
use crate::args::Options;
use crate::numbers::{Sample, milliseconds, ratio};
use crate::peers::target_directory;
use crate::report::{Line, Report, Table};
use crate::sys;

/// A package.
pub struct Package {
    name: &'static str,
    directory: PathBuf,
}

impl Package {
    /// Writes it: `dependencies` as in its `Cargo.toml`, where `HANDOVER` stands for the path of this package.
    pub fn new(name: &'static str, dependencies: &str, program: &str) -> Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let directory = target_directory().join("bench-packages").join(name);
        let put = |path: &str, text: &str| {
            let path = directory.join(path);
            std::fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))
        };
        std::fs::create_dir_all(directory.join("src"))
            .map_err(|error| format!("{}: {error}", directory.display()))?;
        let dependencies =
            dependencies.replace("HANDOVER", &format!("path = {:?}", root.display().to_string()));
        put(
            "Cargo.toml",
            &format!(
                "[package]\nname = \"{name}\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n[workspace]\n\n[dependencies]\n{dependencies}\n"
            ),
        )?;
        put("src/main.rs", program)?;
        let lock = root.join("Cargo.lock");
        std::fs::copy(&lock, directory.join("Cargo.lock"))
            .map_err(|error| format!("{}: {error}", lock.display()))?;
        Ok(Self { name, directory })
    }

    fn cargo(&self, words: &[&str]) -> Result<Output> {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(cargo);
        command.args(words).arg("--offline").current_dir(&self.directory);
        // What was said to the build of the bench is not for this one.
        let ours = std::env::vars_os().map(|(key, _)| key);
        ours.filter(|key| {
            let key = key.to_string_lossy();
            key.starts_with("CARGO_PROFILE_") || key == "RUSTFLAGS" || key == "CARGO_BUILD_TARGET_DIR"
        })
        .for_each(|key| {
            command.env_remove(key);
        });
        command.env("CARGO_TARGET_DIR", self.directory.join("target"));
        let output = command.output().map_err(|error| format!("cargo: {error}"))?;
        if output.status.success() {
            return Ok(output);
        }
        Err(format!("{}: cargo {}: {}", self.name, words[0], String::from_utf8_lossy(&output.stderr)))
    }

    /// Builds what is not built yet; the program.
    pub fn build(&self) -> Result<PathBuf> {
        self.cargo(&["build", "--release", "--quiet"])?;
        Ok(self.directory.join("target/release").join(self.name))
    }

    /// Builds all of it afresh; how long that takes, in nanoseconds.
    fn build_afresh(&self) -> Result<f64> {
        match std::fs::remove_dir_all(self.directory.join("target")) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(format!("{}: {error}", self.directory.display()));
            }
            _ => {}
        }
        let begun = sys::now();
        self.build()?;
        Ok((sys::now() - begun) as f64)
    }

    /// How many crates are compiled for it, itself left out, and their names.
    fn crates(&self) -> Result<Vec<String>> {
        let output =
            self.cargo(&["tree", "--edges", "normal,build", "--prefix", "none", "--format", "{p}"])?;
        let text = String::from_utf8_lossy(&output.stdout);
        let names = text.lines().filter_map(|line| line.split(' ').next());
        let mut names: Vec<String> = names.filter(|name| *name != self.name).map(str::to_owned).collect();
        names.sort();
        names.dedup();
        Ok(names)
    }
}

/// A worker on the SDK, and the least that can be a worker on tokio: both say that they are ready.
const SDK: &str = "fn main() -> Result<(), handover::worker::Error> {\n    let worker = handover::worker::Worker::connect()?;\n    worker.ready();\n    worker.wait_for_drain();\n    Ok(())\n}\n";
const TOKIO: &str = "fn main() -> std::io::Result<()> {\n    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;\n    runtime.block_on(async {\n        let path = std::env::var_os(\"NOTIFY_SOCKET\").unwrap_or_default();\n        tokio::net::UnixDatagram::unbound()?.send_to(b\"READY=1\", path).await?;\n        Ok(())\n    })\n}\n";
const EMPTY: &str = "fn main() {}\n";

/// The figure.
pub fn measure(options: &Options) -> Result<Report> {
    let rounds = options.pick(3, 1);
    let mut report = Report {
        title: "The SDK: crates and time to compile",
        how: format!(
            "A program that connects, says that it is ready and waits for its drain, as a package of its own with handover as its only \
             dependency (`default-features = false, features = [\"worker\"]`), is built afresh {rounds} times with Cargo's release profile. Beside it \
             a program without dependencies, and one that says `READY=1` with tokio alone (features `rt`, `net`). Crates are those of `cargo tree`, \
             the program left out."
        ),
        not: "the time to download, and a program that has serde_json anyway, as most have.",
        ..Report::default()
    };
    let packages = [
        ("nothing", Package::new("nothing", "", EMPTY)?),
        (
            "tokio",
            Package::new(
                "tokio-alone",
                "tokio = { version = \"1\", default-features = false, features = [\"rt\", \"net\"] }",
                TOKIO,
            )?,
        ),
        (
            "the SDK",
            Package::new(
                "sdk-alone",
                "handover = { HANDOVER, default-features = false, features = [\"worker\"] }",
                SDK,
            )?,
        ),
    ];
    let mut times = [(); 3].map(|()| Sample::default());
    for _ in 0..rounds {
        for ((_, package), times) in packages.iter().zip(&mut times) {
            times.add(package.build_afresh()?);
        }
    }
    let mut table =
        Table::new(&["the program depends on", "crates", "release build", "smallest … largest", "they are"]);
    let mut crates = Vec::new();
    for ((name, package), times) in packages.iter().zip(&times) {
        let names = package.crates()?;
        table.row([
            (*name).to_owned(),
            names.len().to_string(),
            milliseconds(times.median()),
            times.spread(milliseconds),
            names.join(", "),
        ]);
        crates.push(names.len());
    }
    let over = times[2].over(&times[1]);
    report.lines.push(Line {
        what: "release build of a program that has the SDK alone".to_owned(),
        value: milliseconds(times[2].median()),
        baseline: format!("{} (tokio alone)", milliseconds(times[1].median())),
        ratio: format!("{} ({})", ratio(over.median()), over.spread(ratio)),
        aim: String::new(),
        met: None,
    });
    report.lines.push(Line {
        what: "crates of a program that has the SDK alone".to_owned(),
        value: crates[2].to_string(),
        baseline: format!("{} (tokio alone)", crates[1]),
        ratio: ratio(crates[2] as f64 / crates[1] as f64),
        aim: String::new(),
        met: None,
    });
    report.tables.push(table);
    Ok(report)
}
