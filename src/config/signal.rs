//! Signals by name. The numbers differ between platforms, so they come from `libc`'s constants.

use super::error::Wrong;
use super::model::Signal;
use super::nearest::nearest;

const NAMES: &[(&str, i32)] = &[
    ("SIGHUP", libc::SIGHUP),
    ("SIGINT", libc::SIGINT),
    ("SIGQUIT", libc::SIGQUIT),
    ("SIGILL", libc::SIGILL),
    ("SIGTRAP", libc::SIGTRAP),
    ("SIGABRT", libc::SIGABRT),
    ("SIGBUS", libc::SIGBUS),
    ("SIGFPE", libc::SIGFPE),
    ("SIGKILL", libc::SIGKILL),
    ("SIGUSR1", libc::SIGUSR1),
    ("SIGSEGV", libc::SIGSEGV),
    ("SIGUSR2", libc::SIGUSR2),
    ("SIGPIPE", libc::SIGPIPE),
    ("SIGALRM", libc::SIGALRM),
    ("SIGTERM", libc::SIGTERM),
    ("SIGCHLD", libc::SIGCHLD),
    ("SIGCONT", libc::SIGCONT),
    ("SIGTSTP", libc::SIGTSTP),
    ("SIGTTIN", libc::SIGTTIN),
    ("SIGTTOU", libc::SIGTTOU),
    ("SIGURG", libc::SIGURG),
    ("SIGXCPU", libc::SIGXCPU),
    ("SIGXFSZ", libc::SIGXFSZ),
    ("SIGVTALRM", libc::SIGVTALRM),
    ("SIGPROF", libc::SIGPROF),
    ("SIGWINCH", libc::SIGWINCH),
    ("SIGIO", libc::SIGIO),
    ("SIGSYS", libc::SIGSYS),
];

/// The highest number of a signal on Linux (`SIGRTMAX`); macOS ends at 31.
const MAX: i32 = if cfg!(target_os = "linux") { 64 } else { 31 };

/// Reads the name of a signal, with or without `SIG`.
pub(super) fn parse(text: &str) -> Result<Signal, Wrong> {
    let upper = text.to_ascii_uppercase();
    let name = if upper.starts_with("SIG") { upper } else { format!("SIG{upper}") };
    if name == "SIGSTOP" {
        return Err(no_end());
    }
    if let Some((_, number)) = NAMES.iter().find(|(known, _)| *known == name) {
        return Ok(Signal(*number));
    }
    let hint = match nearest(&name, NAMES.iter().map(|(known, _)| *known)) {
        Some(known) => format!("did you mean \"{known}\"?"),
        None => "for example \"SIGTERM\", \"SIGQUIT\", or a number".to_owned(),
    };
    Err(Wrong::new(format!("{text:?} is not a signal")).hint(hint))
}

/// Takes the number of a signal; those without a name here are the real-time signals.
pub(super) fn from_number(number: i64) -> Result<Signal, Wrong> {
    match i32::try_from(number) {
        Ok(libc::SIGSTOP) => Err(no_end()),
        Ok(number @ 1..=MAX) => Ok(Signal(number)),
        _ => Err(Wrong::new(format!("{number} is not a signal")).hint(format!("signals are 1 to {MAX}"))),
    }
}

fn no_end() -> Wrong {
    Wrong::new("SIGSTOP would halt a worker, not end it").hint("the default is \"SIGTERM\"")
}

/// The name of a signal, or its number where it has none.
pub(super) fn name(signal: Signal) -> Result<&'static str, i32> {
    NAMES.iter().find(|(_, number)| *number == signal.0).map(|(name, _)| *name).ok_or(signal.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_known_by_both_names_and_by_its_number() {
        assert_eq!(parse("SIGTERM"), Ok(Signal(libc::SIGTERM)));
        assert_eq!(parse("quit"), Ok(Signal(libc::SIGQUIT)));
        assert_eq!(from_number(15), Ok(Signal(15)));
        assert_eq!(name(Signal(libc::SIGTERM)), Ok("SIGTERM"));
        assert_eq!(name(Signal(40)), Err(40));
    }

    #[test]
    fn what_ends_nothing_is_refused() {
        assert!(parse("SIGSTOP").is_err());
        assert!(from_number(0).is_err());
        assert!(from_number(65).is_err());
        assert_eq!(parse("SIGTREM").unwrap_err().hint.unwrap(), "did you mean \"SIGTERM\"?");
    }
}
