//! The sections, key by key.

use std::collections::BTreeMap;
use std::time::Duration;

use super::choices::{ChannelKind, Mode, ReadyKind};
use crate::config::model::{
    Address, LogFormat, LogLevel, Share, Start, UnixKind, UnixName, UnusedSockets, WorkerOutput,
};
use crate::config::values::{
    AbsolutePath, Account, EnvironmentPath, Limits, Mode as FileMode, Name, Number, Positive, SignalName,
    Size, Template, TemplatePath, Variables, Workers,
};
use crate::config::walk::{On, Placed, section};
use crate::time::Timeout;

/// What an `int` of the kernel holds.
const INT_MAX: i64 = i32::MAX as i64;

static ANY: On = On { what: "sockets that handover binds", holds: |_| true };
static IP: On =
    On { what: "TCP and UDP", holds: |address| matches!(address, Address::Tcp(_) | Address::Udp(_)) };
static IPV6: On = On {
    what: "IPv6 addresses",
    holds: |address| matches!(address, Address::Tcp(socket) | Address::Udp(socket) if socket.is_ipv6()),
};
static TCP: On = On { what: "TCP", holds: |address| matches!(address, Address::Tcp(_)) };
static CONNECTIONS: On = On {
    what: "sockets that accept connections",
    holds: |address| !matches!(address, Address::Udp(_) | Address::Unix(UnixKind::Datagram, _)),
};
static UNIX_FILE: On = On {
    what: "Unix sockets with a path",
    holds: |address| matches!(address, Address::Unix(_, UnixName::Path(_))),
};

section! {
    /// The top of the file.
    struct File {
        unset("the file's name without `.toml`") name: Name,
            "Names the runtime directory (`/run/handover/NAME`) and the log identifier.";
        unset("none") listener: BTreeMap<String, Placed<ListenerKeys>>,
            "The sockets that handover holds, each under a name that workers see in `LISTEN_FDNAMES`.";
        required pool: BTreeMap<String, Placed<PoolKeys>>,
            "The sets of workers, each under a name of 1 to 64 of `a-z`, `0-9`, `_` and `-`. At least one.";
        default("{}") log: LogKeys,
            "What handover itself says, and what becomes of the output of workers.";
        unset("none") pid_file: AbsolutePath,
            "Where to write handover's pid once it is ready. Needs a restart to change.";
        default("'error'") unused_sockets: UnusedSockets,
            "What to do with an inherited socket that no listener wants: refuse to start, or close it with a warning. Counts at the next start.";
        unset("none: the owner only") control_group: Account,
            "The group that may use the control socket beside its owner. Needs a restart to change.";
        default("{}") install: InstallKeys,
            "What the service manager does with the service; for the units that are made from this file.";
        + later {
            adopt: "true or false", "Take over the living workers and their sockets after handover was killed.";
            exit_on_idle: "a duration", "End when nothing came for this long; the service manager starts handover again when something does.";
        }
    }
}

section! {
    /// `[listener.NAME]`
    struct ListenerKeys {
        unset("the socket must be inherited under this name") address: Address,
            "Where it listens: `tcp://HOST:PORT`, `udp://HOST:PORT`, `unix:///PATH`, `unix-dgram:///PATH`, `unix-seqpacket:///PATH`, or `unix:@NAME` for an abstract name (the last two not on macOS). A host is an IP address or `localhost`; names are not resolved. An inherited socket of this name or address is taken as it is configured.";
        default("'shared'") mode: Mode,
            "How its connections reach the workers. `\"shared\"`: all workers have the same socket, and the kernel wakes one of them. (`\"per-slot\"` and `\"dispatch\"` are not supported yet.)";
        unset("the system's largest, `net.core.somaxconn`") backlog: Number<1, INT_MAX>, on(CONNECTIONS),
            "How many connections may wait to be accepted; the system caps it at `net.core.somaxconn`.";
        unset("the system's, `net.ipv6.bindv6only`") v6only: bool, on(IPV6),
            "Whether `[::]` takes IPv6 only and leaves IPv4 to others. Needs a restart to change.";
        default("false") free_bind: bool, on(IP),
            "Bind even though the address does not exist on this machine yet (`IP_FREEBIND`). Needs a restart to change. Not on macOS.";
        unset("off") defer_accept: Positive, on(TCP),
            "Wake a worker only when a connection has sent something, or after this many seconds (`TCP_DEFER_ACCEPT`). Whole seconds. Not on macOS.";
        unset("off") fast_open: Number<1, INT_MAX>, on(TCP),
            "How many TCP Fast Open requests may wait (`TCP_FASTOPEN`); on macOS the system says how many, and any number switches it on.";
        unset("off") keepalive: bool, on(TCP),
            "Whether idle connections are probed (`SO_KEEPALIVE`); accepted connections inherit it.";
        unset("off") nodelay: bool, on(TCP),
            "Whether small writes are sent at once (`TCP_NODELAY`); accepted connections inherit it.";
        unset("the system's") receive_buffer: Size, on(ANY),
            "The size of the receive buffer (`SO_RCVBUF`), at most 1 GiB. Needs a restart to leave out again.";
        unset("the system's") send_buffer: Size, on(ANY),
            "The size of the send buffer (`SO_SNDBUF`), at most 1 GiB. Needs a restart to leave out again.";
        unset("false") nonblocking: bool, on(ANY),
            "Whether the socket has `O_NONBLOCK`, which all workers share. Needs a restart to change.";
        unset("the user that runs handover") socket_user: Account, on(UNIX_FILE),
            "Who owns the socket's file.";
        unset("the group that runs handover") socket_group: Account, on(UNIX_FILE),
            "The group of the socket's file.";
        unset("`\"0666\"`") socket_mode: FileMode, on(UNIX_FILE),
            "The mode of the socket's file: who may write to it may connect.";
        unset("all") device: String, on(IP),
            "Take only what comes in through this network interface (`SO_BINDTODEVICE`, on macOS `IP_BOUND_IF`).";
        unset("none") mark: Number<0, 4_294_967_295>, on(IP),
            "The mark of outgoing packets, for routing and firewalls (`SO_MARK`). Not on macOS.";
        + later {
            balance: "\"least-connections\", \"round-robin\" or \"source-ip\"", "How connections are dealt out when `mode` is `\"dispatch\"`.";
        }
    }
}

section! {
    /// `[pool.NAME]`
    struct PoolKeys {
        required command: Vec<Placed<Template>>,
            "The program and its arguments, not a line for a shell. `${HANDOVER_SLOT}` and handover's other variables are put in; `$$` is a dollar.";
        default("1") workers: Workers,
            "How many workers there are. `\"auto\"`: as many as this process may use cores. (`{ min, max }` is not supported yet.)";
        default("[]") listeners: Vec<Placed<String>>,
            "The listeners that a worker gets as fds 3, 4, … in this order.";
        default("1") min_ready: Number<1, 10_000>,
            "How many workers must be ready before handover calls itself ready; at most `workers`.";
        default("'notify'") ready: ReadyKind,
            "When a worker is ready. `\"notify\"`: it sent `READY=1` to `NOTIFY_SOCKET`. `\"accept\"`: each of its listeners is seen to be waited on by one of its processes. `\"exec\"`: it was executed and has stayed for `bake_time`. `\"fd\"`: it wrote a newline to the fd `ready_fd`. Without a file, `handover run` takes `\"accept\"` where there is a listener, else `\"exec\"`.";
        unset("required with `ready = \"fd\"`") ready_fd: Number<3, 1023>,
            "The fd number for `ready = \"fd\"`; not one of the listeners' (3, 4, …).";
        default("'30s'") start_timeout: Timeout,
            "How long a worker may take to become ready. One that takes longer has failed to start.";
        default("'30s'") stop_timeout: Timeout,
            "How long a worker may take to end when handover stops; then it is killed.";
        unset("`stop_timeout`") drain_timeout: Timeout,
            "How long a worker that is replaced may take to finish what it has; then it is killed. Long for WebSockets.";
        default("'SIGTERM'") stop_signal: SignalName,
            "The signal that asks a worker to end. Not one that ends nothing, such as `SIGCHLD`.";
        unset("none") watchdog: Positive,
            "How often a ready worker must at least send `WATCHDOG=1`. One that does not is replaced. At least 10ms.";
        unset("none") ping_timeout: Positive,
            "How long a ready worker that speaks on its channel may take to answer a ping; it is asked every half of that time. One that does not answer is replaced. At least 10ms.";
        default("'handover'") channel: ChannelKind,
            "What handover and a worker speak on their private socket. `\"handover\"`: lines of JSON, at `HANDOVER_CHANNEL`; a program that does not know of it need not. `\"node\"`: what Node's `process.send` speaks. `\"none\"`: there is no socket.";
        unset("none") stop_message: String,
            "With `channel = \"node\"`: the message that asks the program to end, for example `\"shutdown\"`; `stop_signal` follows at `drain_timeout`.";
        default("[]") allow_listen: Vec<Placed<Address>>,
            "Addresses that a worker may ask handover to listen on, beside `listeners`. All who ask for one get the same socket.";
        default("true") watchdog_pid: bool,
            "Whether to set `WATCHDOG_PID`; `false` for wrappers that fork.";
        default("true") listen_pid: bool,
            "Whether to set `LISTEN_PID`; `false` for wrappers that fork.";
        unset("`/`") directory: TemplatePath,
            "The working directory. handover's variables are put in.";
        unset("the user that runs handover") user: Account,
            "Run workers as this user; sets `HOME`, `USER`, `LOGNAME` and `SHELL` as well. A number without an entry in the user database needs `group`, too.";
        unset("the user's own group") group: Account,
            "Run workers with this group.";
        default("[]") supplementary_groups: Vec<Placed<Account>>,
            "More groups, beside those that the user database gives `user`.";
        unset("as handover's") umask: FileMode,
            "The mode bits that files made by workers do not get.";
        unset("as handover's") nice: Number<-20, 19>,
            "The niceness of workers.";
        default("{}") limits: Limits,
            "Resource limits (`setrlimit(2)`): `as`, `core`, `cpu`, `data`, `fsize`, `memlock`, `nofile`, `nproc`, `stack`. A number, a size, a duration for `cpu`, `\"infinity\"`, or `\"SOFT:HARD\"`. `nofile` has room for what a worker is given.";
        default("false") no_new_privileges: bool,
            "Whether workers can gain no privileges by executing set-user-ID programs. Not on macOS.";
        default("{}") environment: Variables,
            "Environment variables, over what `environment_files` say. handover's variables are put in. Those that handover sets itself are refused.";
        default("[]") environment_files: Vec<Placed<EnvironmentPath>>,
            "Files of environment variables in systemd's syntax, read at each reload; `-` before the path: may be missing. Later ones count more.";
        default("{}") rollout: RolloutKeys,
            "How the pool moves from one generation to the next.";
        default("{}") restart: RestartKeys,
            "How a slot is filled again after its worker died.";
        + later {
            recycle: "a table", "Replace workers by age or memory: `max_age`, `max_memory`, `jitter`.";
        }
    }
}

section! {
    /// `[pool.NAME.rollout]`
    struct RolloutKeys {
        default("1") max_surge: Share,
            "How many workers there may be beyond `workers`; a share is rounded up. All at once is `\"100%\"`. 0 is stop first: a worker starts when everything of the one before it in its slot is gone, whatever the reason.";
        default("0") max_unavailable: Share,
            "How many ready workers may be missing because of the rollout; a share is rounded down, with `max_surge = 0` to 1 at least. Not 0 together with `max_surge`.";
        default("'2s'") bake_time: Duration,
            "How long the first new worker must stay ready before any old one is asked to end.";
        default("1") max_failures: Number<1, 10_000>,
            "How many failed starts and deaths of new workers make the rollout fail; it is then rolled back.";
        default("'5min'") deadline: Timeout,
            "How long the whole rollout may take; then it is rolled back. Longer than `bake_time`.";
        default("64") max_draining: Number<1, 10_000>,
            "How many old workers may still be finishing; a rollout waits there, and says so.";
    }
}

section! {
    /// `[pool.NAME.restart]`
    struct RestartKeys {
        default("'10s'") stable_after: Positive,
            "The first death of a ready worker is followed at once; a second in that slot waits, until one has been ready for this long. A worker that asks to be replaced sooner has failed.";
        default("'100ms'") backoff: Positive,
            "The wait before every other start after a failure; doubled each time, with jitter.";
        default("'30s'") backoff_max: Positive,
            "The longest wait; at least `backoff`.";
        default("5") burst: Number<1, 10_000>,
            "How many early failures in a row make a crash loop: the slot then waits `backoff_max` each time.";
    }
}

section! {
    /// `[log]`
    struct LogKeys {
        default("'auto'") format: LogFormat,
            "How the log is written. `\"auto\"`: as records to the journal where standard error leads there, for people on a terminal, else as JSON lines. `\"journal\"`: as records to the journal, wherever standard error leads; there while the journal cannot be reached.";
        default("'info'") level: LogLevel,
            "How much it says.";
        default("'capture'") workers: WorkerOutput,
            "Where the output of workers goes: line by line into the log, or unchanged to handover's own standard output and error.";
    }
}

section! {
    /// `[install]`
    struct InstallKeys {
        default("'socket'") start: Start,
            "What happens when the machine starts. `\"socket\"`: the sockets are opened, and the first connection starts the service; one without sockets is started. `\"service\"`: the service is started, too. `\"none\"`: nothing. Counts after `systemctl daemon-reload`.";
    }
}
