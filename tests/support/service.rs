//! The usual case: one pool `web` of scripted workers on one listener `http`, under a stand-in for systemd.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use handover::control::What;

use super::child::Handle;
use super::client::{self, Answer, Failure};
use super::daemon::{Daemon, Output, Setup};
use super::manager::NotifySocket;
use super::reports::Reports;
use super::scratch::{Address, Scratch};
use super::scripted_worker;
use super::status::Worker;

/// A service that is not started yet.
pub struct Plan {
    /// Its directory.
    pub scratch: Scratch,
    /// Where it listens.
    pub address: Address,
    /// What the daemon says to systemd.
    pub manager: NotifySocket,
    /// What the workers say.
    pub reports: Reports,
    sections: BTreeMap<String, BTreeMap<String, String>>,
    environment: BTreeMap<String, String>,
    script: Option<PathBuf>,
}

impl Plan {
    /// One worker on a TCP address; short times throughout.
    pub fn new() -> Self {
        Self::on(|_| Address::tcp())
    }

    /// The same, listening where `address` says.
    pub fn on(address: impl FnOnce(&Scratch) -> Address) -> Self {
        let scratch = Scratch::new();
        let address = address(&scratch);
        let (manager, reports) = (NotifySocket::new(&scratch), Reports::new(&scratch));
        let script = scratch.write("script", "serve\nready\n");
        let plan = Self {
            address,
            manager,
            reports,
            sections: BTreeMap::new(),
            environment: BTreeMap::new(),
            script: Some(script),
            scratch,
        };
        let listener = quoted(&plan.address.to_string());
        plan.top("name", "\"test\"")
            .set("listener.http", "address", &listener)
            .pool("command", &format!("[{}]", quoted(&scripted_worker().display().to_string())))
            .pool("listeners", "[\"http\"]")
            .pool("ready", "\"notify\"")
            .pool("start_timeout", "\"10s\"")
            .pool("stop_timeout", "\"10s\"")
            .rollout("bake_time", "\"20ms\"")
            .restart("backoff", "\"10ms\"")
            .restart("backoff_max", "\"100ms\"")
            .restart("stable_after", "\"200ms\"")
    }

    /// Sets a key in a section (`""` is the top); `value` as TOML.
    #[must_use]
    pub fn set(mut self, section: &str, key: &str, value: &str) -> Self {
        self.change(section, key, Some(value));
        self
    }

    /// Takes a key out.
    #[must_use]
    pub fn unset(mut self, section: &str, key: &str) -> Self {
        self.change(section, key, None);
        self
    }

    /// Leaves the listener's address out: it must be inherited under its name.
    #[must_use]
    pub fn inherited(mut self) -> Self {
        self.sections.insert("listener.http".to_owned(), BTreeMap::new());
        self
    }

    /// Sets a key, or takes it out; a section without keys is none.
    pub fn change(&mut self, section: &str, key: &str, value: Option<&str>) {
        let keys = self.sections.entry(section.to_owned()).or_default();
        match value {
            Some(value) => keys.insert(key.to_owned(), value.to_owned()),
            None => keys.remove(key),
        };
        if keys.is_empty() {
            self.sections.remove(section);
        }
    }

    /// Sets a key at the top.
    #[must_use]
    pub fn top(self, key: &str, value: &str) -> Self {
        self.set("", key, value)
    }

    /// Sets a key of the pool.
    #[must_use]
    pub fn pool(self, key: &str, value: &str) -> Self {
        self.set("pool.web", key, value)
    }

    /// Sets a key of the pool's rollouts.
    #[must_use]
    pub fn rollout(self, key: &str, value: &str) -> Self {
        self.set("pool.web.rollout", key, value)
    }

    /// Sets a key of the pool's restarts.
    #[must_use]
    pub fn restart(self, key: &str, value: &str) -> Self {
        self.set("pool.web.restart", key, value)
    }

    /// So many workers.
    #[must_use]
    pub fn workers(self, count: u32) -> Self {
        self.pool("workers", &count.to_string())
    }

    /// Another program than the scripted worker.
    #[must_use]
    pub fn command(self, words: &[&str]) -> Self {
        let words: Vec<String> = words.iter().map(|word| quoted(word)).collect();
        self.pool("command", &format!("[{}]", words.join(", ")))
    }

    /// A variable for the workers.
    #[must_use]
    pub fn variable(mut self, key: &str, value: &str) -> Self {
        self.environment.insert(key.to_owned(), value.to_owned());
        self
    }

    /// What the workers do.
    #[must_use]
    pub fn script(self, lines: &str) -> Self {
        self.scratch.write("script", lines);
        self
    }

    /// Leaves `WORKER_SCRIPT` and `WORKER_REPORT` out of the workers' environment.
    #[must_use]
    pub fn without_script(mut self) -> Self {
        self.script = None;
        self
    }

    /// The configuration as text.
    pub fn text(&self) -> String {
        let mut sections = self.sections.clone();
        let mut environment = self.environment.clone();
        if let Some(script) = &self.script {
            environment.insert("WORKER_SCRIPT".to_owned(), script.display().to_string());
            environment.insert("WORKER_REPORT".to_owned(), self.reports.path().display().to_string());
        }
        if !environment.is_empty() {
            let pairs: Vec<String> =
                environment.iter().map(|(k, v)| format!("{k} = {}", quoted(v))).collect();
            let pool = sections.entry("pool.web".to_owned()).or_default();
            pool.entry("environment".to_owned()).or_insert_with(|| format!("{{ {} }}", pairs.join(", ")));
        }
        let mut text = String::new();
        for (section, keys) in sections {
            if !section.is_empty() {
                let _ = writeln!(text, "\n[{section}]");
            }
            for (key, value) in keys {
                let _ = writeln!(text, "{key} = {value}");
            }
        }
        text
    }

    /// Writes the configuration.
    pub fn write(&self) -> PathBuf {
        self.scratch.write("c.toml", self.text())
    }

    /// `handover run` with this configuration.
    pub fn setup(&self) -> Setup {
        let config = self.write();
        Setup::new(&self.scratch, [config]).env("NOTIFY_SOCKET", self.manager.path())
    }

    /// Lets every user write to its directory and to the sockets in it: for a daemon that is not root.
    pub fn open_to_all(&self) {
        use std::os::unix::fs::PermissionsExt;
        std::fs::create_dir_all(self.scratch.join("run")).expect("our directory");
        for path in [self.scratch.path().to_owned(), self.scratch.join("run"), self.scratch.join("notify")] {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777)).expect("our directory");
        }
    }

    /// Starts it, and waits until it is ready.
    #[track_caller]
    pub fn start(self) -> Service {
        let setup = self.setup();
        self.start_with(setup)
    }

    /// Starts it as `setup` says, and waits until it is ready.
    #[track_caller]
    pub fn start_with(self, setup: Setup) -> Service {
        let service = self.begin_with(setup);
        service.manager().wait_for("READY=1");
        service
    }

    /// Starts it.
    pub fn begin(self) -> Service {
        let setup = self.setup();
        self.begin_with(setup)
    }

    /// Starts it as `setup` says.
    pub fn begin_with(self, setup: Setup) -> Service {
        Service { daemon: setup.start(), plan: self }
    }
}

/// A service that runs. Its daemon is dropped (and ended) before its directory.
pub struct Service {
    /// Its daemon.
    pub daemon: Daemon,
    /// What it was made from.
    pub plan: Plan,
}

impl Service {
    /// Where it listens.
    pub fn address(&self) -> &Address {
        &self.plan.address
    }

    /// What the daemon says to systemd.
    pub fn manager(&self) -> &NotifySocket {
        &self.plan.manager
    }

    /// What the workers say.
    pub fn reports(&self) -> &Reports {
        &self.plan.reports
    }

    /// Asks once.
    pub fn get(&self, path: &str) -> Result<Answer, Failure> {
        client::get(self.address(), path)
    }

    /// Gives the workers that start from now on another script.
    pub fn deploy(&self, lines: &str) {
        self.plan.scratch.write("script", lines);
    }

    /// Changes the configuration's file.
    pub fn configure(&mut self, section: &str, key: &str, value: Option<&str>) {
        self.plan.change(section, key, value);
        self.plan.write();
    }

    /// `handover reload`.
    #[track_caller]
    pub fn reload(&self) -> Output {
        self.daemon.cli(&["reload"])
    }

    /// `handover reload`, which must be done.
    #[track_caller]
    pub fn reload_well(&self) {
        self.reload().assert_code(handover::exit::DONE);
    }

    /// `handover reload`, which must be done, and until the old workers are gone.
    #[track_caller]
    pub fn reload_and_settle(&self) {
        self.reload_well();
        self.daemon.settle();
    }

    /// Kills a worker, and waits until the daemon knows.
    #[track_caller]
    pub fn kill(&self, worker: &Worker) {
        let events = self.daemon.events();
        Handle::open(worker.pid).expect("it lives").signal(libc::SIGKILL);
        events.wait_for(
            "the worker's end",
            |event| matches!(&event.what, What::WorkerGone(who) if who.worker == worker.worker),
        );
        events.close();
    }

    /// The ready workers, by slot.
    #[track_caller]
    pub fn ready(&self) -> Vec<Worker> {
        self.daemon.status().ready("web")
    }

    /// Waits until the daemon has ended by itself, and returns its exit code and its log.
    #[track_caller]
    pub fn ended(&mut self) -> (Option<i32>, String) {
        let code = self.daemon.wait().code();
        self.daemon.log.read_to_end();
        (code, self.daemon.log.text())
    }

    /// Asks it to end, and checks that nothing is left.
    #[track_caller]
    pub fn stop(mut self) {
        self.daemon.stop();
    }
}

/// A TOML string.
pub fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}
