//! A configuration as a job of launchd: `launchd.plist(5)`.
//!
//! Pure: text from values. The sockets are launchd's then: they are there before handover is, stay while it is
//! replaced, and are as the property list says, so what the configuration says of them must say the same here.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use crate::config::model::{Address, Config, Listener, SocketOptions, UnixKind, UnixName};
use crate::id::ListenerName;

/// How much longer than the patience with workers launchd is to wait for handover itself.
const MARGIN: Duration = Duration::from_secs(5);
/// The mode of a Unix socket's file, as where handover binds it.
const DEFAULT_MODE: u32 = 0o666;

/// What a job is, beside its configuration.
#[derive(Clone, Copy, Debug)]
pub struct Job<'a> {
    /// The job's name, unique on the machine, in reverse domain order: `org.example.myapp`. The file is to be
    /// called the same, with `.plist`.
    pub label: &'a str,
    /// The `handover` program; absolute.
    pub program: &'a Path,
    /// The configuration's file; absolute.
    pub file: &'a Path,
    /// Where standard error goes: our log and the output of workers; absolute. launchd adds to it and never
    /// begins it anew.
    pub log: &'a Path,
}

/// What launchd cannot do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unlistable {
    /// A listener without an address.
    #[error("listener {0}: it has no address, and launchd needs one to make its socket")]
    NoAddress(ListenerName),
    /// A kind of socket that macOS has not.
    #[error("listener {0}: macOS has no {1}")]
    Kind(ListenerName, &'static str),
    /// Port 0.
    #[error("listener {0}: launchd cannot let the system choose the port")]
    AnyPort(ListenerName),
    /// XML has no place for a character, or a path is not UTF-8.
    #[error("{0:?} cannot be written in a property list")]
    Text(String),
}

/// The property list, to be put under `/Library/LaunchDaemons`.
///
/// # Errors
/// Everything that launchd cannot do, at once.
pub fn property_list(config: &Config, job: &Job<'_>) -> Result<String, Vec<Unlistable>> {
    let mut list = List::default();
    list.entry("Label");
    list.string(job.label);
    list.entry("ProgramArguments");
    list.open("array");
    list.path(job.program);
    list.string("run");
    list.path(job.file);
    list.close("array");
    list.note("started with the machine, and again when it fails; a stop by `handover stop` lasts until somebody connects");
    list.entry("RunAtLoad");
    list.line("<true/>");
    list.entry("KeepAlive");
    list.open("dict");
    list.entry("SuccessfulExit");
    list.line("<false/>");
    list.close("dict");
    list.entry("ThrottleInterval");
    list.integer(1);
    list.note("how long a stop may take: longer than each stop_timeout; 0 is endless");
    list.entry("ExitTimeOut");
    list.integer(exit_timeout(config));
    list.note("without this launchd slows the job down as one that nobody waits for");
    list.entry("ProcessType");
    list.string("Interactive");
    list.entry("StandardErrorPath");
    list.path(job.log);
    if !config.listeners.is_empty() {
        list.note("each under the name of its listener");
        list.entry("Sockets");
        list.open("dict");
        config.listeners.iter().for_each(|(name, listener)| list.listener(name, listener));
        list.close("dict");
    }
    list.finish()
}

/// Whole seconds from launchd's SIGTERM to its SIGKILL.
fn exit_timeout(config: &Config) -> u64 {
    let mut longest = Duration::ZERO;
    for pool in config.pools.values() {
        match pool.policy.stop_timeout.duration() {
            Some(timeout) => longest = longest.max(timeout),
            None => return 0,
        }
    }
    let whole = longest + MARGIN;
    whole.as_secs() + u64::from(whole.subsec_nanos() > 0)
}

/// The text as it grows.
#[derive(Default)]
struct List {
    text: String,
    depth: usize,
    faults: Vec<Unlistable>,
}

impl List {
    fn line(&mut self, line: &str) {
        self.text.push_str(&"\t".repeat(self.depth + 1));
        self.text.push_str(line);
        self.text.push('\n');
    }

    fn open(&mut self, element: &str) {
        self.line(&format!("<{element}>"));
        self.depth += 1;
    }

    fn close(&mut self, element: &str) {
        self.depth -= 1;
        self.line(&format!("</{element}>"));
    }

    fn entry(&mut self, key: &str) {
        let key = self.escaped(key);
        self.line(&format!("<key>{key}</key>"));
    }

    fn string(&mut self, text: &str) {
        let text = self.escaped(text);
        self.line(&format!("<string>{text}</string>"));
    }

    fn path(&mut self, path: &Path) {
        match path.to_str() {
            Some(text) => self.string(text),
            None => self.faults.push(Unlistable::Text(path.to_string_lossy().into_owned())),
        }
    }

    fn integer(&mut self, number: u64) {
        self.line(&format!("<integer>{number}</integer>"));
    }

    /// A comment; two hyphens would end it.
    fn note(&mut self, text: &str) {
        self.line(&format!("<!-- {} -->", text.replace("--", "- -")));
    }

    fn escaped(&mut self, text: &str) -> String {
        if text.chars().any(|c| c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}')) {
            self.faults.push(Unlistable::Text(text.to_owned()));
        }
        text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
    }

    fn listener(&mut self, name: &ListenerName, listener: &Listener) {
        let ignored = ignored(listener);
        if !ignored.is_empty() {
            self.note(&format!("launchd has nothing for these keys of {name}: {}", ignored.join(", ")));
        }
        self.entry(name.as_str());
        match &listener.address {
            None => self.faults.push(Unlistable::NoAddress(name.clone())),
            Some(Address::Tcp(at)) => self.inet(name, *at, "stream", &listener.options),
            Some(Address::Udp(at)) => self.inet(name, *at, "dgram", &listener.options),
            Some(Address::Unix(UnixKind::SeqPacket, _)) => {
                self.faults.push(Unlistable::Kind(name.clone(), "unix-seqpacket sockets"));
            }
            Some(Address::Unix(_, UnixName::Abstract(_))) => {
                self.faults.push(Unlistable::Kind(name.clone(), "abstract sockets"));
            }
            Some(Address::Unix(kind, UnixName::Path(path))) => {
                let kind = if *kind == UnixKind::Datagram { "dgram" } else { "stream" };
                self.unix(path, kind, &listener.options);
            }
        }
    }

    /// One socket, or one for each family where the address takes both: launchd's own IPv6 sockets take IPv6
    /// only.
    fn inet(&mut self, name: &ListenerName, at: SocketAddr, kind: &str, options: &SocketOptions) {
        if at.port() == 0 {
            self.faults.push(Unlistable::AnyPort(name.clone()));
        }
        let takes_both = at.is_ipv6() && at.ip().is_unspecified() && options.v6only != Some(true);
        if takes_both {
            self.open("array");
            self.address(IpAddr::V4(Ipv4Addr::UNSPECIFIED).to_string(), "IPv4", at.port(), kind);
        }
        let node = match at {
            SocketAddr::V6(v6) if v6.scope_id() != 0 => format!("{}%{}", v6.ip(), v6.scope_id()),
            _ => at.ip().to_string(),
        };
        self.address(node, if at.is_ipv6() { "IPv6" } else { "IPv4" }, at.port(), kind);
        if takes_both {
            self.close("array");
        }
    }

    fn address(&mut self, node: String, family: &str, port: u16, kind: &str) {
        let port = port.to_string();
        let entries = [
            ("SockNodeName", &*node),
            ("SockFamily", family),
            ("SockServiceName", &port),
            ("SockType", kind),
        ];
        self.open("dict");
        for (key, value) in entries {
            self.entry(key);
            self.string(value);
        }
        self.close("dict");
    }

    fn unix(&mut self, path: &Path, kind: &str, options: &SocketOptions) {
        self.open("dict");
        self.entry("SockPathName");
        self.path(path);
        self.entry("SockType");
        self.string(kind);
        let mode = options.mode.unwrap_or(DEFAULT_MODE);
        self.note(&format!("{mode:04o}; a property list has no octal numbers"));
        self.entry("SockPathMode");
        self.integer(mode.into());
        let owner = options.user.as_ref().map(|user| ("SockPathOwner", user.uid));
        let group = options.group.as_ref().map(|group| ("SockPathGroup", group.gid));
        for (key, number) in owner.into_iter().chain(group) {
            self.entry(key);
            self.integer(number.into());
        }
        self.close("dict");
    }

    fn finish(self) -> Result<String, Vec<Unlistable>> {
        if !self.faults.is_empty() {
            return Err(self.faults);
        }
        let body = self.text;
        Ok(format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
             <!DOCTYPE plist PUBLIC \"-//Apple//DTD PLIST 1.0//EN\" \
             \"http://www.apple.com/DTDs/PropertyList-1.0.dtd\">\n\
             <plist version=\"1.0\">\n<dict>\n{body}</dict>\n</plist>\n"
        ))
    }
}

/// The keys of a listener that are set, and that nobody applies to a socket that launchd makes.
fn ignored(listener: &Listener) -> Vec<&'static str> {
    let options = &listener.options;
    let set = [
        ("backlog", options.backlog.is_some()),
        ("free_bind", options.free_bind),
        ("defer_accept", options.defer_accept.is_some()),
        ("fast_open", options.fast_open.is_some()),
        ("keepalive", options.keepalive.is_some()),
        ("nodelay", options.nodelay.is_some()),
        ("receive_buffer", options.receive_buffer.is_some()),
        ("send_buffer", options.send_buffer.is_some()),
        ("device", options.device.is_some()),
        ("mark", options.mark.is_some()),
    ];
    set.into_iter().filter(|(_, set)| *set).map(|(key, _)| key).collect()
}
