//! The text of the service unit.

use std::fmt::Write;
use std::time::Duration;

use super::hold::Held;
use super::{Link, Source, UnitsError, head, install, value};
use crate::config::model::Policy;

/// How long a start or a reload may take where nothing longer is asked for. handover asks for more time as it goes, but a
/// `daemon-reload` makes systemd forget what it has granted.
const START: Duration = Duration::from_secs(600);
/// What the end of the workers may take beyond `stop_timeout`.
const MARGIN: Duration = Duration::from_secs(15);

/// What no worker has a use for that is not the machine's own software. The manual says what is left out, and why.
const HARDENING: &str = "\
# Workers are any programs, as any users, so only what none of them has a use for is taken away.
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
LockPersonality=yes
CapabilityBoundingSet=~CAP_SYS_MODULE CAP_SYS_RAWIO CAP_SYS_BOOT CAP_SYS_TIME CAP_SYS_PACCT CAP_SYSLOG CAP_WAKE_ALARM
CapabilityBoundingSet=~CAP_MAC_ADMIN CAP_MAC_OVERRIDE CAP_AUDIT_CONTROL CAP_LINUX_IMMUTABLE
";

pub(super) fn text(
    source: &Source<'_>,
    stem: &str,
    sockets: &[Held<'_>],
    link: Option<&Link>,
    notes: &[String],
) -> Result<String, UnitsError> {
    // `Sockets=` wants the sockets and comes after them; but it takes a `\` for an escape of its own.
    let (plain, escaped) =
        sockets.iter().map(|socket| socket.unit.as_str()).partition(|unit| !unit.contains('\\'));
    let (plain, escaped): (Vec<&str>, Vec<&str>) = (plain, escaped);
    let mut text = head(source, &format!("{stem}, held by handover"))?;
    if !source.user {
        text += "After=network.target nss-user-lookup.target\n";
    }
    if !escaped.is_empty() {
        let _ = write!(text, "Wants={0}\nAfter={0}\n", escaped.join(" "));
    }
    if let Some(first) = sockets.first() {
        let _ = write!(text, "# To stop the first socket is to stop all.\nPartOf={}\n", first.unit);
    }
    text += "# There is no start limit: a unit that reaches it takes its socket unit down with it.\n\
        StartLimitIntervalSec=0\n\n[Service]\n";
    for note in notes {
        let _ = writeln!(text, "# {}", value::text(note).replace("%%", "%"));
    }
    commands(&mut text, source)?;
    if !plain.is_empty() {
        let _ = writeln!(text, "Sockets={}", plain.join(" "));
    }
    if nonblocking(sockets) {
        text += "NonBlocking=yes\n";
    }
    timeouts(&mut text, source);
    text += "# One worker that the kernel kills for its memory is one worker.\nOOMPolicy=continue\n\
        # handover bounds its own lines, and slows workers that flood; journald would drop lines of both.\n\
        LogRateLimitIntervalSec=0\n";
    if !source.user {
        text += HARDENING;
    }
    text += &install(link, &format!("{stem}.service"));
    Ok(text)
}

fn commands(text: &mut String, source: &Source<'_>) -> Result<(), UnitsError> {
    let program = value::path(source.program)?;
    let (file, name) = (value::path(source.file)?, &source.config.name);
    text.push_str(
        "Type=notify\n\
         # Workers have notification sockets of their own; systemd hears of handover alone.\n\
         NotifyAccess=main\n",
    );
    let _ = writeln!(text, "ExecStart={} run {}", value::program(program), value::word(file));
    text.push_str("# Waits for the rollout. If that is rolled back, `systemctl reload` fails, and the unit stays active.\n");
    // By name: $RUNTIME_DIRECTORY is a list as soon as somebody adds a directory.
    let _ = writeln!(text, "ExecReload={} reload --wait --name {name}", value::program(program));
    let _ = write!(
        text,
        "RuntimeDirectory=handover/{name}\nRuntimeDirectoryPreserve=restart\nSyslogIdentifier={name}\n"
    );
    Ok(())
}

/// `NonBlocking=` holds for all sockets of a service, so they must want the same. Where they do not, it is left to
/// handover, which sets it on those that want it when it takes them over.
fn nonblocking(sockets: &[Held<'_>]) -> bool {
    !sockets.is_empty() && sockets.iter().all(|socket| socket.options.nonblocking == Some(true))
}

fn timeouts(text: &mut String, source: &Source<'_>) {
    let policies = || source.config.pools.values().map(|pool| &pool.policy);
    let longest = |of: fn(&Policy) -> Option<Duration>| {
        policies().map(of).try_fold(Duration::ZERO, |longest, next| Some(longest.max(next?)))
    };
    // A rollout may be rolled back at its deadline, and that takes its time, too.
    let rollout =
        longest(|policy| policy.rollout.deadline.duration()).map(|deadline| deadline.saturating_mul(2));
    let start = longest(|policy| policy.start_timeout.duration()).map(|timeout| timeout.saturating_mul(2));
    let start = rollout.zip(start).map(|(rollout, start)| rollout.max(start).max(START));
    let stop = longest(|policy| policy.stop_timeout.duration()).map(|timeout| timeout.saturating_add(MARGIN));
    text.push_str("# Workers get their stop_signal from handover, not from systemd.\nKillMode=mixed\n");
    let _ = write!(
        text,
        "# handover asks for more time while it makes progress, but a daemon-reload makes systemd forget that: more than\n\
         # the deadline of a rollout, and more than the longest stop_timeout.\n\
         TimeoutStartSec={}\nTimeoutStopSec={}\n",
        span(start),
        span(stop)
    );
    text.push_str(
        "# A handover that does not turn its loop any more is killed and started again; connections wait in the sockets.\n\
         WatchdogSec=30s\nTimeoutAbortSec=10s\nRestart=on-failure\nRestartSec=1s\n",
    );
}

/// As `systemd.time(7)` reads it; whole seconds, rounded up.
fn span(duration: Option<Duration>) -> String {
    match duration {
        Some(duration) => {
            format!("{}s", duration.as_secs().saturating_add(u64::from(duration.subsec_nanos() > 0)))
        }
        None => "infinity".to_owned(),
    }
}
