//! A service on a machine: a configuration in `/etc/handover`, units (the pair that the package ships, or those of the generator), an
//! address and a script of its own. Nothing is shared between two of them but the machine.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Instant;

use serde_json::Value;

use crate::booted::{Machine, WORKER};
use crate::support::client::{self, Answer, Failure};
use crate::support::daemon::{Output, Running};
use crate::support::load::Load;
use crate::support::scratch::Address;
use crate::support::status::Status;
use crate::support::{deadline, eventually};

/// A service.
pub struct Site<'a> {
    /// Where it runs.
    pub machine: &'a Machine,
    /// Its name, and that of its units.
    pub name: String,
    /// Where it listens, on the machine's network.
    pub address: Address,
    sections: BTreeMap<String, BTreeMap<String, String>>,
    /// Its units are those of the generator.
    generated: bool,
}

/// A file of `packaging/systemd`.
pub fn shipped(unit: &str) -> String {
    let path = format!("{}/packaging/systemd/{unit}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

impl<'a> Site<'a> {
    /// Two workers that are ready at once, short times, and the units as they are shipped but for the name and the address. Nothing
    /// is written yet.
    pub fn new(machine: &'a Machine, name: &str) -> Self {
        let (name, sections) = (name.to_owned(), BTreeMap::new());
        let site = Self { machine, name, address: Address::tcp(), sections, generated: false };
        let (listener, command) = (format!("\"{}\"", site.address), format!("[\"{WORKER}\"]"));
        let script = format!("{{ WORKER_SCRIPT = \"/srv/{}/script\" }}", site.name);
        site.set("listener.http", "address", &listener)
            .pool("command", &command)
            .pool("listeners", "[\"http\"]")
            .pool("workers", "2")
            .pool("environment", &script)
            .pool("stop_timeout", "\"10s\"")
            .set("pool.web.rollout", "bake_time", "\"20ms\"")
            .set("pool.web.restart", "backoff", "\"10ms\"")
    }

    /// The same with the units that the generator makes.
    pub fn generated(machine: &'a Machine, name: &str) -> Self {
        let mut site = Self::new(machine, name);
        site.generated = true;
        site
    }

    /// Sets a key in a section (`""` is the top); `value` as TOML.
    #[must_use]
    pub fn set(mut self, section: &str, key: &str, value: &str) -> Self {
        self.change(section, key, value);
        self
    }

    /// Sets a key of the pool.
    #[must_use]
    pub fn pool(self, key: &str, value: &str) -> Self {
        self.set("pool.web", key, value)
    }

    /// Sets a key.
    pub fn change(&mut self, section: &str, key: &str, value: &str) {
        self.sections.entry(section.to_owned()).or_default().insert(key.to_owned(), value.to_owned());
    }

    /// Writes the configuration.
    pub fn configure(&self) {
        let mut text = String::new();
        for (section, keys) in &self.sections {
            if !section.is_empty() {
                let _ = writeln!(text, "\n[{section}]");
            }
            for (key, value) in keys {
                let _ = writeln!(text, "{key} = {value}");
            }
        }
        self.machine.write(&format!("/etc/handover/{}.toml", self.name), &text);
    }

    /// Writes what the workers do from now on.
    pub fn script(&self, steps: &str) {
        self.machine.write(&format!("/srv/{}/script", self.name), steps);
    }

    /// A shipped unit as it is here.
    pub fn unit(&self, file: &str) -> String {
        let address = self.address.to_string().replace("tcp://", "");
        shipped(file)
            .replace("ListenStream=8080", &format!("ListenStream={address}"))
            .replace("myapp", &self.name)
    }

    /// Writes a unit, or a part of one.
    pub fn write_unit(&self, file: &str, text: &str) {
        self.machine.write(&format!("/etc/systemd/system/{file}"), text);
    }

    /// Adds to the service unit.
    pub fn add(&self, text: &str) {
        self.write_unit(&format!("{}.service.d/test.conf", self.name), text);
    }

    /// Restarts so fast that systemd's limits of starts and of triggers, if the units had any, would be passed at once.
    pub fn hurry(&self) {
        self.add("[Service]\nRestartSec=20ms\n");
    }

    /// Writes configuration and units, and a script that serves.
    pub fn put(&self) {
        self.configure();
        self.script("serve\nready\n");
        if self.generated {
            return;
        }
        for kind in ["socket", "service"] {
            self.write_unit(&format!("{}.{kind}", self.name), &self.unit(&format!("myapp.{kind}")));
        }
    }

    /// Has systemd read the units and open the socket.
    pub fn open(&self) {
        self.machine.succeed(&["systemctl", "daemon-reload"]);
        self.machine.succeed(&["systemctl", "start", &format!("{}.socket", self.name)]);
    }

    /// All of that, and a first request, which starts the service.
    pub fn start(self) -> Self {
        self.put();
        self.open();
        self.serves();
        self
    }

    /// Asks once.
    pub fn get(&self) -> Result<Answer, Failure> {
        client::get(&self.address, "/")
    }

    /// Waits for an answer, and until systemd has taken note: a first worker answers before the service is ready, and what is not
    /// ready is not reloaded.
    ///
    /// # Panics
    ///
    /// Where nobody answers, however long one waits.
    #[track_caller]
    pub fn serves(&self) -> Answer {
        let answer = eventually(&format!("{} answers", self.name), || self.get().ok());
        eventually("systemd knows", || (self.show("ActiveState") != "activating").then_some(()));
        answer
    }

    /// Waits for an answer of a generation. A worker of the one before may give one more after the reload is over: it was asked to end
    /// then, and need not have heard.
    #[track_caller]
    pub fn serves_generation(&self, generation: u64) {
        eventually(&format!("{} answers with generation {generation}", self.name), || {
            self.get().ok().filter(|answer| answer.generation() == generation)
        });
    }

    /// A steady load: so many new connections a second, whatever becomes of them.
    pub fn load(&self) -> crate::support::load::Running {
        Load::open(&self.address, 200).start()
    }

    /// `systemctl VERB NAME`.
    #[track_caller]
    pub fn systemctl(&self, verb: &str) -> Output {
        self.begin(verb).finish()
    }

    /// The same, not waited for.
    pub fn begin(&self, verb: &str) -> Running {
        self.machine.begin(&["systemctl", verb, &self.name])
    }

    /// A property of the service unit.
    pub fn show(&self, property: &str) -> String {
        self.show_of("service", property)
    }

    /// A property of one of its units.
    pub fn show_of(&self, kind: &str, property: &str) -> String {
        let unit = format!("{}.{kind}", self.name);
        self.machine.succeed(&["systemctl", "show", "--value", "--property", property, &unit])
    }

    /// Waits until the `STATUS=` line of the service says `text`.
    ///
    /// # Panics
    ///
    /// Where it never does; with all that it said.
    #[track_caller]
    pub fn wait_for_status(&self, text: &str) -> String {
        let (deadline, mut seen) = (deadline(), Vec::new());
        loop {
            let line = self.show("StatusText");
            if line.contains(text) {
                return line;
            }
            if seen.last() != Some(&line) {
                seen.push(line);
            }
            assert!(Instant::now() < deadline, "the status never said {text:?}, but {seen:#?}");
        }
    }

    /// `handover COMMAND…` for this service.
    #[track_caller]
    pub fn handover(&self, words: &[&str]) -> Output {
        self.machine.run(&[&["handover"], words, &["--name", &self.name]].concat())
    }

    /// What handover says of itself.
    #[track_caller]
    pub fn status(&self) -> Status {
        let output = self.handover(&["status", "--json"]);
        Status(serde_json::from_str(&output.stdout).unwrap_or(Value::Null))
    }

    /// Waits until each slot has a ready worker and there is no other.
    #[track_caller]
    pub fn settle(&self) {
        eventually("all slots have a ready worker and no other", || self.status().is_settled().then_some(()));
    }

    /// What the journal has of the service.
    pub fn journal(&self) -> String {
        self.machine.journal(&format!("{}.service", self.name))
    }

    /// Waits until the journal has `text`.
    #[track_caller]
    pub fn wait_for_journal(&self, text: &str) -> String {
        eventually(&format!("the journal says {text:?}"), || {
            Some(self.journal()).filter(|journal| journal.contains(text))
        })
    }

    /// How often systemd has started it again; a `daemon-reload` may have it count one of them twice.
    pub fn restarts(&self) -> u32 {
        self.show("NRestarts").parse().expect("a number")
    }

    /// handover's own process, as the machine numbers it.
    pub fn main_pid(&self) -> u32 {
        self.show("MainPID").parse().expect("a number")
    }

    /// # Panics
    ///
    /// Where a unit is not active.
    #[track_caller]
    pub fn assert_active(&self) {
        for kind in ["socket", "service"] {
            assert_eq!(self.show_of(kind, "ActiveState"), "active", "{}.{kind}", self.name);
        }
    }

    /// Ends it.
    pub fn stop(&self) {
        let (socket, service) = (format!("{}.socket", self.name), format!("{}.service", self.name));
        self.machine.succeed(&["systemctl", "stop", &socket, &service]);
    }

    /// Ends it, and removes its file: the machine does not know it any more.
    pub fn remove(&self) {
        self.stop();
        let dropped = format!("/etc/systemd/system/{}.service.d", self.name);
        self.machine.succeed(&["rm", "-rf", &format!("/etc/handover/{}.toml", self.name), &dropped]);
        self.machine.succeed(&["systemctl", "daemon-reload"]);
    }
}

impl Drop for Site<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let status =
                self.machine.shell(&format!("systemctl status -n 0 {0}.socket {0}.service", self.name));
            eprintln!("--- {} on systemd {}:\n{status}", self.name, self.machine.systemd);
            // With that of its sockets.
            eprintln!("--- its journal:\n{}---", self.machine.journal(&format!("{}*", self.name)));
        }
    }
}
