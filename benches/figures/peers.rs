//! The peers: other programs that keep workers on a listening socket, each started as its own documentation shows it, with
//! its defaults. What is not installed is skipped and said.
//!
//! gunicorn and circus are looked for in `TARGET/bench-peers` (made by `benches/peers`), then, like nginx and Node, in PATH;
//! a variable `HANDOVER_GUNICORN` and so on comes before both.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Result;
use crate::machine::{Machine, said};
use crate::report::Report;
use crate::stand::{Place, Service, own_program};
use crate::support::child::Handle;
use crate::sys::SECOND;

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// gunicorn with its sync workers: forked from the master, the application loaded in each.
    Gunicorn,
    /// nginx with workers of its own: forked from the master.
    Nginx,
    /// Node's cluster module.
    Node,
    /// circus with a socket of its own, and the small server of these figures as worker.
    Circus,
}

use Peer::{Circus, Gunicorn, Nginx, Node};

/// Where Cargo puts what it builds.
pub fn target_directory() -> PathBuf {
    // This program is TARGET/release/deps/figures-…
    let own = std::env::current_exe().unwrap_or_default();
    own.ancestors().nth(3).map(Path::to_owned).unwrap_or_default()
}

/// A program by the variable that names it, in the peers' environment, or in PATH. A shim that picks one of several versions is
/// passed over for the program itself.
pub fn find(variable: &str, program: &str) -> Option<PathBuf> {
    if let Some(path) = std::env::var_os(variable) {
        return Some(PathBuf::from(path)).filter(|path| path.is_file());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let own = [target_directory().join("bench-peers/bin")].into_iter();
    let system = ["/usr/bin", "/usr/sbin"].map(PathBuf::from);
    let is_shim = |path: &Path| path.components().any(|part| part.as_os_str() == "shims");
    let mut found = own.chain(std::env::split_paths(&path)).chain(system).map(|place| place.join(program));
    found.find(|path| path.is_file() && !is_shim(path))
}

/// Says which versions are compared with.
pub fn versions(machine: &mut Machine) {
    for peer in Peer::ALL {
        if let Ok(program) = peer.program() {
            let argument = if peer == Nginx { "-v" } else { "--version" };
            let version = said(&program.display().to_string(), &[argument]);
            machine.add(peer.program_name(), version);
        }
    }
    if let Some(python) = find("HANDOVER_PYTHON", "python3") {
        machine.add("python", said(&python.display().to_string(), &["--version"]));
    }
}

impl Peer {
    /// All of them.
    pub const ALL: [Self; 4] = [Gunicorn, Nginx, Node, Circus];

    /// What it is called on the page.
    pub fn name(self) -> &'static str {
        match self {
            Gunicorn => "gunicorn",
            Nginx => "nginx",
            Node => "Node cluster",
            Circus => "circus",
        }
    }

    fn program_name(self) -> &'static str {
        match self {
            Gunicorn => "gunicorn",
            Nginx => "nginx",
            Node => "node",
            Circus => "circusd",
        }
    }

    /// Where it is.
    ///
    /// # Errors
    ///
    /// It is not there; the text names it.
    pub fn program(self) -> Result<PathBuf> {
        let variable = format!("HANDOVER_{}", self.program_name().to_uppercase());
        find(&variable, self.program_name()).ok_or_else(|| "not installed".to_owned())
    }

    /// Those that are installed; the others are noted in the report.
    pub fn present(report: &mut Report) -> Vec<Self> {
        let mut present = Vec::new();
        for peer in Self::ALL {
            match peer.program() {
                Ok(_) => present.push(peer),
                Err(why) => report.skip(peer.name(), &why),
            }
        }
        present
    }

    /// Starts it with so many workers that take `boot` milliseconds to start, where it has workers that can.
    pub fn start(self, workers: usize, boot: u64) -> Result<Service> {
        let program = self.program()?.display().to_string();
        let place = Place::new();
        let (host, port) = (place.address.ip().to_string(), place.address.port().to_string());
        let (address, count) = (place.address.to_string(), workers.to_string());
        match self {
            Gunicorn => {
                place.write("wsgi.py", include_str!("../programs/wsgi.py"));
                let mut service = Service::new(self.name(), place);
                let words = [&program, "--bind", &address, "--workers", &count, "wsgi:application"];
                service.start(&words, &[("BOOT_MS", &boot.to_string()), ("PYTHONDONTWRITEBYTECODE", "1")])?;
                Ok(service)
            }
            Nginx => {
                let text = include_str!("../programs/nginx.conf").replace("WORKERS", &count);
                let config = place.write("nginx.conf", &text).display().to_string();
                let mut service = Service::new(self.name(), place);
                service.start(&[&program, "-e", "stderr", "-c", &config], &[])?;
                Ok(service)
            }
            Node => {
                let script = place.write("cluster.js", include_str!("../programs/cluster.js"));
                let mut service = Service::new(self.name(), place);
                service.start(&[&program, &script.display().to_string(), &host, &port, &count], &[])?;
                Ok(service)
            }
            Circus => {
                let command = format!("{} worker --boot {boot}", own_program()?);
                let text = include_str!("../programs/circus.ini").replace("COMMAND", &command);
                let text = text.replace("WORKERS", &count).replace("HOST", &host).replace("PORT", &port);
                let config = place.write("circus.ini", &text).display().to_string();
                let mut service = Service::new(self.name(), place);
                service.start(&[&program, &config], &[])?;
                Ok(service)
            }
        }
    }

    /// How often it looks after its workers, in nanoseconds; 0 where it is told by the kernel. circus: `check_delay`.
    pub fn looks_every(self) -> u64 {
        if self == Circus { 5 * SECOND } else { 0 }
    }

    /// Whether it has a reload that replaces workers. (Node's cluster module has none: each program writes its own.)
    pub fn reloads(self) -> bool {
        self != Node
    }

    /// Whether its workers can be made slow to start.
    pub fn boots(self) -> bool {
        self != Nginx
    }

    /// Asks it to replace its workers, in the way that its documentation names.
    pub fn reload(self, service: &Service) -> Result<()> {
        if self != Circus {
            let master =
                Handle::open(service.master()).ok_or_else(|| service.trouble("its master is gone"))?;
            master.signal(libc::SIGHUP);
            return Ok(());
        }
        let control = self.program()?.with_file_name("circusctl");
        let endpoint = format!("ipc://{}", service.place.scratch.join("endpoint").display());
        let output = Command::new(&control).args(["--endpoint", &endpoint, "reload", "web"]).output();
        let output = output.map_err(|error| format!("{}: {error}", control.display()))?;
        if output.status.success() {
            return Ok(());
        }
        Err(service.trouble(&format!("circusctl: {}", String::from_utf8_lossy(&output.stderr))))
    }
}
