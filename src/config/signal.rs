//! Signals by name.
//!
//! The numbers differ between systems, and a pure module asks no system: they stand here for Linux
//! (`signal(7)`, the column of x86 and ARM) and macOS (`sys/signal.h`), and a test compares them with the one
//! that it runs on.

use super::error::Wrong;
use super::model::Signal;
use super::nearest::nearest;
use super::shape::Shape;

/// Name, number on Linux, number on macOS.
const TABLE: &[(&str, i32, i32)] = &[
    ("SIGHUP", 1, 1),
    ("SIGINT", 2, 2),
    ("SIGQUIT", 3, 3),
    ("SIGILL", 4, 4),
    ("SIGTRAP", 5, 5),
    ("SIGABRT", 6, 6),
    ("SIGBUS", 7, 10),
    ("SIGFPE", 8, 8),
    ("SIGKILL", 9, 9),
    ("SIGUSR1", 10, 30),
    ("SIGSEGV", 11, 11),
    ("SIGUSR2", 12, 31),
    ("SIGPIPE", 13, 13),
    ("SIGALRM", 14, 14),
    ("SIGTERM", 15, 15),
    ("SIGCHLD", 17, 20),
    ("SIGCONT", 18, 19),
    ("SIGSTOP", 19, 17),
    ("SIGTSTP", 20, 18),
    ("SIGTTIN", 21, 21),
    ("SIGTTOU", 22, 22),
    ("SIGURG", 23, 16),
    ("SIGXCPU", 24, 24),
    ("SIGXFSZ", 25, 25),
    ("SIGVTALRM", 26, 26),
    ("SIGPROF", 27, 27),
    ("SIGWINCH", 28, 28),
    ("SIGIO", 29, 23),
    ("SIGSYS", 31, 12),
];

/// Those that end no program, and what they do instead (`signal(7)`): one that is replaced would always be killed.
const ENDS_NOTHING: &[(&str, &str)] = &[
    ("SIGCHLD", "tells a worker of its children, and ends nothing"),
    ("SIGCONT", "lets a worker go on, and ends nothing"),
    ("SIGSTOP", "would halt a worker, not end it"),
    ("SIGTSTP", "would halt a worker, not end it"),
    ("SIGTTIN", "would halt a worker, not end it"),
    ("SIGTTOU", "would halt a worker, not end it"),
    ("SIGURG", "tells a worker of urgent data, and ends nothing"),
];
/// Threads of the C library ask each other with these (`signal(7)`, `nptl(7)`).
const OF_THE_C_LIBRARY: std::ops::RangeInclusive<i32> = 32..=33;

/// Names and numbers on the system that this is built for.
fn signals() -> impl Iterator<Item = (&'static str, i32)> {
    TABLE.iter().map(|(name, linux, macos)| (*name, if cfg!(target_os = "macos") { *macos } else { *linux }))
}

/// The highest number of a signal on Linux (`SIGRTMAX`); macOS ends at 31.
const MAX: i32 = if cfg!(target_os = "linux") { 64 } else { 31 };

/// Reads the name of a signal, with or without `SIG`.
pub(super) fn parse(text: &str) -> Result<Signal, Wrong> {
    let upper = text.to_ascii_uppercase();
    let name = if upper.starts_with("SIG") { upper } else { format!("SIG{upper}") };
    match signals().find(|(known, _)| *known == name) {
        Some((_, number)) => usable(Signal(number)),
        None => {
            let hint = match nearest(&name, signals().map(|(known, _)| known)) {
                Some(known) => format!("did you mean \"{known}\"?"),
                None => "for example \"SIGTERM\", \"SIGQUIT\", or a number".to_owned(),
            };
            Err(Wrong::new(format!("{text:?} is not a signal")).hint(hint))
        }
    }
}

/// Takes the number of a signal; those without a name here are the real-time signals.
pub(super) fn from_number(number: i64) -> Result<Signal, Wrong> {
    match i32::try_from(number) {
        Ok(number @ 1..=MAX) => usable(Signal(number)),
        _ => Err(Wrong::new(format!("{number} is not a signal")).hint(format!("signals are 1 to {MAX}"))),
    }
}

/// The signal, unless it asks nobody to end. Which programs take `SIGWINCH` or `SIGUSR1` for that is theirs to say.
fn usable(signal: Signal) -> Result<Signal, Wrong> {
    let reason = match name(signal) {
        Ok(name) => what_else(name).map(|instead| format!("{name} {instead}")),
        Err(number) if OF_THE_C_LIBRARY.contains(&number) => {
            Some(format!("{number} is the C library's own, and ends nothing in good order"))
        }
        Err(_) => None,
    };
    let refused = |reason| Wrong::new(reason).hint("the default is \"SIGTERM\"");
    reason.map_or(Ok(signal), |reason| Err(refused(reason)))
}

/// What a signal does that ends nothing.
fn what_else(name: &str) -> Option<&'static str> {
    ENDS_NOTHING.iter().find(|(other, _)| *other == name).map(|(_, instead)| *instead)
}

/// The names first, for editors to offer; then the names in letters of any size, with or without `SIG`; then numbers.
pub(super) fn shape() -> Shape {
    let names = || signals().map(|(name, _)| name).filter(|name| what_else(name).is_none());
    let any_case = |name: &str| -> String {
        let either = |c: char| match c.is_ascii_alphabetic() {
            true => format!("[{}{}]", c.to_ascii_uppercase(), c.to_ascii_lowercase()),
            false => c.to_string(),
        };
        name.chars().map(either).collect()
    };
    let stems: Vec<String> = names().filter_map(|name| name.strip_prefix("SIG")).map(any_case).collect();
    let pattern = format!("^(?:[Ss][Ii][Gg])?(?:{})$", stems.join("|"));
    Shape::AnyOf(vec![
        Shape::Words(names().collect()),
        Shape::Pattern(pattern),
        Shape::Integer(1, Some(MAX.into())),
    ])
}

/// The name of a signal, or its number where it has none.
pub(super) fn name(signal: Signal) -> Result<&'static str, i32> {
    signals().find(|(_, number)| *number == signal.0).map(|(name, _)| name).ok_or(signal.0)
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
        assert!(from_number(libc::SIGSTOP.into()).is_err());
        assert!(from_number(0).is_err());
        assert!(from_number(65).is_err());
        assert_eq!(parse("SIGTREM").unwrap_err().hint.unwrap(), "did you mean \"SIGTERM\"?");
    }

    #[test]
    fn the_numbers_are_those_of_this_system() {
        let theirs = [
            libc::SIGHUP,
            libc::SIGINT,
            libc::SIGQUIT,
            libc::SIGILL,
            libc::SIGTRAP,
            libc::SIGABRT,
            libc::SIGBUS,
            libc::SIGFPE,
            libc::SIGKILL,
            libc::SIGUSR1,
            libc::SIGSEGV,
            libc::SIGUSR2,
            libc::SIGPIPE,
            libc::SIGALRM,
            libc::SIGTERM,
            libc::SIGCHLD,
            libc::SIGCONT,
            libc::SIGSTOP,
            libc::SIGTSTP,
            libc::SIGTTIN,
            libc::SIGTTOU,
            libc::SIGURG,
            libc::SIGXCPU,
            libc::SIGXFSZ,
            libc::SIGVTALRM,
            libc::SIGPROF,
            libc::SIGWINCH,
            libc::SIGIO,
            libc::SIGSYS,
        ];
        let ours: Vec<i32> = signals().map(|(_, number)| number).collect();
        assert_eq!(ours, theirs);
    }
}
