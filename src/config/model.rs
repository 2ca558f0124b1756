//! The configuration, resolved: every default filled in, every value checked, comparable.
//!
//! What only the machine needs ([`Policy`]) stands apart from what only the shell needs ([`Program`],
//! [`Listener`]): the supervisor decides without knowing which program it runs.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::id::{ListenerName, PoolName};
use crate::time::Timeout;

mod channel;
mod pace;

pub use channel::{Channel, Dialect};
pub use pace::{RestartPolicy, RolloutPolicy, Share};

/// Everything that a configuration file says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// `name`: names the runtime directory and the log identifier; 1 to 32 of `[a-z0-9_.-]`.
    pub name: String,
    /// `[listener.NAME]`
    pub listeners: BTreeMap<ListenerName, Listener>,
    /// `[pool.NAME]`; at least one.
    pub pools: BTreeMap<PoolName, Pool>,
    /// `[log]`
    pub log: Log,
    /// `pid_file`: where to write the daemon's pid once it is ready; absolute.
    pub pid_file: Option<PathBuf>,
    /// `unused_sockets`: what to do with an inherited socket that no listener wants.
    pub unused_sockets: UnusedSockets,
    /// `control_group`: the group that may use the control socket beside its owner.
    pub control_group: Option<String>,
    /// `[install]`
    pub install: Install,
}

/// `[install]`: for the service manager; the daemon itself does nothing with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Install {
    /// `start`
    pub start: Start,
}

/// What a service manager does with the service when the machine starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Start {
    /// Open its sockets; the first connection starts it. One without sockets is started.
    #[default]
    Socket,
    /// Open its sockets and start it.
    Service,
    /// Nothing.
    Nothing,
}

/// A named socket that handover holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    /// Where it listens. `None`: it must be inherited under its name.
    pub address: Option<Address>,
    /// What is set on the socket when handover binds it.
    pub options: SocketOptions,
}

/// Where a listener listens, and with which kind of socket.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Address {
    /// `tcp://HOST:PORT`
    Tcp(SocketAddr),
    /// `udp://HOST:PORT`
    Udp(SocketAddr),
    /// `unix:…`, `unix-dgram:…`, `unix-seqpacket:…`
    Unix(UnixKind, UnixName),
}

/// The kind of a Unix socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum UnixKind {
    /// `SOCK_STREAM`
    Stream,
    /// `SOCK_DGRAM`
    Datagram,
    /// `SOCK_SEQPACKET` (not on macOS)
    SeqPacket,
}

/// The name of a Unix socket.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum UnixName {
    /// A file; absolute, at most 107 bytes (103 on macOS), no NUL.
    Path(PathBuf),
    /// A name in Linux's abstract namespace, without the leading `@`; at most 107 bytes.
    Abstract(String),
}

/// What is set on a socket that handover binds; `None`: the system's default. An inherited socket is taken
/// as it is configured, so nothing here is applied to one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SocketOptions {
    /// `backlog`: the length of the accept queue; the kernel caps it at `net.core.somaxconn`.
    pub backlog: Option<u32>,
    /// `v6only`: an IPv6 socket takes no IPv4 connections.
    pub v6only: Option<bool>,
    /// `free_bind`: the address need not exist yet (`IP_FREEBIND`).
    pub free_bind: bool,
    /// `defer_accept`: TCP; wake the worker when data has come, at most this long after the handshake.
    pub defer_accept: Option<Duration>,
    /// `fast_open`: TCP; the length of the queue of fast-open requests.
    pub fast_open: Option<u32>,
    /// `keepalive`: TCP; `SO_KEEPALIVE`, inherited by accepted connections.
    pub keepalive: Option<bool>,
    /// `nodelay`: TCP; `TCP_NODELAY`, inherited by accepted connections.
    pub nodelay: Option<bool>,
    /// `receive_buffer`: `SO_RCVBUF`, bytes.
    pub receive_buffer: Option<u32>,
    /// `send_buffer`: `SO_SNDBUF`, bytes.
    pub send_buffer: Option<u32>,
    /// `nonblocking`: `O_NONBLOCK` of the description that all workers share. `None`: as inherited, blocking when bound.
    pub nonblocking: Option<bool>,
    /// `socket_user`: who owns a Unix socket's file.
    pub user: Option<UserId>,
    /// `socket_group`: the group of a Unix socket's file.
    pub group: Option<GroupId>,
    /// `socket_mode`: the mode of a Unix socket's file; 0o666 where it is not given.
    pub mode: Option<u32>,
    /// `device`: only this network interface (`SO_BINDTODEVICE`).
    pub device: Option<String>,
    /// `mark`: `SO_MARK` of its packets.
    pub mark: Option<u32>,
}

/// A set of workers that run the same program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    /// What is run, and as whom.
    pub program: Program,
    /// The listeners that a worker gets as fds 3, 4, …, in this order.
    pub listeners: Vec<ListenerName>,
    /// What they may say and ask for on their channel.
    pub channel: Channel,
    /// How its workers are started, judged, replaced and ended.
    pub policy: Policy,
}

/// What a worker executes, and with which surroundings. Texts may hold `${HANDOVER_…}` where the
/// documentation says so; they are expanded when a worker is started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// `command`: the program and its arguments; never empty.
    pub command: Vec<String>,
    /// `directory`: the working directory; `/` where it is not given.
    pub directory: Option<String>,
    /// `user`
    pub user: Option<UserId>,
    /// `group`: the user's own group where it is not given.
    pub group: Option<GroupId>,
    /// `supplementary_groups`, beside those that the user database gives `user`.
    pub supplementary_groups: Vec<GroupId>,
    /// `umask`
    pub umask: Option<u32>,
    /// `nice`: -20 to 19.
    pub nice: Option<i32>,
    /// `limits`: resource limits by name, as in `systemd.exec(5)`.
    pub limits: BTreeMap<Resource, Limit>,
    /// `no_new_privileges`
    pub no_new_privileges: bool,
    /// `environment`
    pub environment: BTreeMap<String, String>,
    /// `environment_files`, read when a generation is made.
    pub environment_files: Vec<EnvironmentFile>,
    /// `listen_pid`: set `LISTEN_PID`; off for wrappers that fork.
    pub listen_pid: bool,
    /// `watchdog_pid`: set `WATCHDOG_PID`; off for wrappers that fork.
    pub watchdog_pid: bool,
}

/// A user as the configuration names it, and what the user database says of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserId {
    /// `USER` and `LOGNAME`.
    pub name: String,
    /// The uid.
    pub uid: u32,
    /// The primary group; `None`: it is a number that the user database has no entry for.
    pub gid: Option<u32>,
    /// `HOME`
    pub home: PathBuf,
    /// `SHELL`
    pub shell: PathBuf,
}

impl UserId {
    /// A number that the user database has no entry for: what others find there is made up for it, as in a container.
    pub fn unknown(uid: u32) -> Self {
        Self { name: uid.to_string(), uid, gid: None, home: "/".into(), shell: "/bin/sh".into() }
    }
}

/// A group as the configuration names it, and its number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupId {
    /// Its name.
    pub name: String,
    /// The gid.
    pub gid: u32,
}

/// One of `environment_files`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvironmentFile {
    /// Absolute.
    pub path: PathBuf,
    /// Written with a leading `-`: it may be missing.
    pub optional: bool,
}

/// A resource that can be limited; names as in `setrlimit(2)`, lower case, without `RLIMIT_`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Resource {
    /// Address space, bytes.
    As,
    /// Core file, bytes.
    Core,
    /// Processor time, seconds.
    Cpu,
    /// Data segment, bytes.
    Data,
    /// File size, bytes.
    FSize,
    /// Locked memory, bytes.
    MemLock,
    /// Open files, a count.
    NoFile,
    /// Processes of the user, a count.
    NProc,
    /// Stack, bytes.
    Stack,
}

/// A soft and a hard limit; `None` is unlimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    /// What is in force.
    pub soft: Option<u64>,
    /// How far the program may raise it.
    pub hard: Option<u64>,
}

/// All that the machine must know of a pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// `workers`: the number of slots; 1 to 10,000.
    pub workers: u32,
    /// `min_ready`: ready workers that the daemon needs before it calls itself ready; at most `workers`.
    pub min_ready: u32,
    /// `ready` (and `ready_fd`)
    pub ready: Ready,
    /// `start_timeout`: from the start of a worker to its readiness.
    pub start_timeout: Timeout,
    /// `stop_timeout`: from `stop_signal` to `SIGKILL` when the daemon stops.
    pub stop_timeout: Timeout,
    /// `drain_timeout`: the same when a worker is replaced or retired.
    pub drain_timeout: Timeout,
    /// `stop_signal`
    pub stop_signal: Signal,
    /// `watchdog`: a ready worker must send `WATCHDOG=1` at least this often.
    pub watchdog: Option<Duration>,
    /// `ping_timeout`: a ready worker that speaks on its channel must answer a ping within this time; it is asked
    /// every half of it.
    pub ping_timeout: Option<Duration>,
    /// `[pool.NAME.rollout]`
    pub rollout: RolloutPolicy,
    /// `[pool.NAME.restart]`
    pub restart: RestartPolicy,
}

/// When a worker counts as ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ready {
    /// It sent `READY=1` to its `NOTIFY_SOCKET`.
    Notify,
    /// Somebody of its process tree waits on each of its listeners.
    Accept,
    /// It was executed and has stayed for its `bake_time`.
    Exec,
    /// It wrote a newline to this fd number (s6's way); at least 3.
    Fd(i32),
}

/// A signal by number; the configuration names it (`"SIGTERM"`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Signal(pub i32);

/// `[log]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Log {
    /// `format`
    pub format: LogFormat,
    /// `level`
    pub level: LogLevel,
    /// `workers`
    pub workers: WorkerOutput,
}

/// How our own log is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum LogFormat {
    /// As records to the journal where standard error leads there, for people on a terminal, else as JSON lines.
    #[default]
    Auto,
    /// For people.
    Human,
    /// One JSON object a line.
    Json,
    /// As records to the journal, wherever standard error leads.
    Journal,
}

/// How much our own log says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum LogLevel {
    /// A promise can no longer be kept.
    Error,
    /// Worth waking someone if it grows.
    Warn,
    /// A change of state that an operator asked for or would ask about.
    #[default]
    Info,
    /// A branch not always taken.
    Debug,
    /// Every turn of the loop.
    Trace,
}

/// Where the standard output and error of workers go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum WorkerOutput {
    /// Through pipes into our log, line by line.
    #[default]
    Capture,
    /// To our own standard output and error.
    Inherit,
}

/// What to do with an inherited socket that no listener wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum UnusedSockets {
    /// Refuse to start: clients would connect and hang.
    #[default]
    Error,
    /// Close it with a warning.
    Close,
}

impl Config {
    /// The listeners that at least one pool names.
    pub fn used_listeners(&self) -> BTreeSet<&ListenerName> {
        self.pools.values().flat_map(|pool| &pool.listeners).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_rounded_up_for_surge_and_down_for_unavailable() {
        assert_eq!(Share::Percent(25).of_rounded_up(5), 2);
        assert_eq!(Share::Percent(25).of_rounded_down(5), 1);
        assert_eq!(Share::Percent(100).of_rounded_up(4), 4);
        assert_eq!(Share::Count(3).of_rounded_down(2), 3);
        assert_eq!(Share::Percent(u32::MAX).of_rounded_up(u32::MAX), u32::MAX);
    }
}
