//! The signals that the daemon answers to, as one stream.
//!
//! A handler only marks that a signal came; several of one kind may be seen as one, as always with signals.
//!
//! Whoever starts this process may have it ignore `SIGHUP` (`nohup`), `SIGINT` or `SIGQUIT` (a shell's `&` without job control):
//! then it does.

use std::io;

use nix::errno::Errno;
use nix::sys::signal::{SigSet, SigmaskHow};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::terminal;

/// A signal that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrived {
    /// `SIGTERM`
    Term,
    /// `SIGINT`
    Int,
    /// `SIGQUIT`
    Quit,
    /// `SIGHUP`
    Hup,
    /// `SIGHUP`, because the controlling terminal closed that this process was started on.
    TerminalClosed,
    /// `SIGUSR1`
    Usr1,
    /// `SIGUSR2`
    Usr2,
    /// `SIGCHLD`: at least one child ended, whichever.
    Child,
}

/// Handlers for all of [`Arrived`] that are not to stay ignored, from the moment it exists; as PID 1, too, where a signal
/// without a handler has no effect. The runtime keeps the handlers for good.
#[derive(Debug)]
pub struct Signals {
    term: Signal,
    int: Option<Signal>,
    quit: Option<Signal>,
    hup: Option<Signal>,
    /// There was a controlling terminal when this was made.
    has_terminal: bool,
    usr1: Signal,
    usr2: Signal,
    child: Signal,
}

impl Signals {
    /// Within a tokio runtime.
    ///
    /// # Errors
    /// Any of `sigaction(2)`.
    pub fn install() -> io::Result<Self> {
        Ok(Self {
            term: signal(SignalKind::terminate())?,
            int: unless_ignored(SignalKind::interrupt())?,
            quit: unless_ignored(SignalKind::quit())?,
            hup: unless_ignored(SignalKind::hangup())?,
            has_terminal: terminal::is_there(),
            usr1: signal(SignalKind::user_defined1())?,
            usr2: signal(SignalKind::user_defined2())?,
            child: signal(SignalKind::child())?,
        })
    }

    /// The next signal; where several came, the one that ends most comes first. Dropping the future loses
    /// nothing.
    pub async fn next(&mut self) -> Arrived {
        tokio::select! {
            biased;
            () = next_of(&mut self.quit) => Arrived::Quit,
            _ = self.term.recv() => Arrived::Term,
            () = next_of(&mut self.int) => Arrived::Int,
            _ = self.child.recv() => Arrived::Child,
            () = next_of(&mut self.hup) => match self.has_terminal && terminal::is_gone() {
                true => Arrived::TerminalClosed,
                false => Arrived::Hup,
            },
            _ = self.usr1.recv() => Arrived::Usr1,
            _ = self.usr2.recv() => Arrived::Usr2,
        }
    }
}

/// The names of those signals that stay ignored, because this process was started so.
pub fn ignored() -> Vec<&'static str> {
    let candidates = [(libc::SIGHUP, "SIGHUP"), (libc::SIGINT, "SIGINT"), (libc::SIGQUIT, "SIGQUIT")];
    candidates
        .iter()
        .filter(|(number, _)| is_ignored(*number).unwrap_or(false))
        .map(|(_, name)| *name)
        .collect()
}

fn unless_ignored(kind: SignalKind) -> io::Result<Option<Signal>> {
    (!is_ignored(kind.as_raw_value())?).then(|| signal(kind)).transpose()
}

/// Never, where there is none.
async fn next_of(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}

/// Undoes what the launcher of this process may have left: blocked signals, and an ignored `SIGCHLD`, with
/// which children would vanish without a status. `SIGPIPE` is ignored: a reader that is gone is an error
/// value. First thing at the start of a daemon.
///
/// # Errors
/// Any of `sigaction(2)` and `sigprocmask(2)`.
pub fn settle() -> io::Result<()> {
    // A handler that is there already is ours, and stays.
    if is_ignored(libc::SIGCHLD)? {
        dispose(libc::SIGCHLD, libc::SIG_DFL)?;
    }
    dispose(libc::SIGPIPE, libc::SIG_IGN)?;
    nix::sys::signal::sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
    Ok(())
}

/// Why this process is told nothing of how its children end, if that is so: `SIGCHLD` is ignored, or has `SA_NOCLDWAIT`
/// (`sigaction(2)`).
///
/// # Errors
/// Any of `sigaction(2)`.
pub fn children_vanish() -> io::Result<Option<&'static str>> {
    let now = disposition(libc::SIGCHLD)?;
    Ok(match now.sa_sigaction == libc::SIG_IGN {
        true => Some("SIGCHLD is ignored"),
        false if now.sa_flags & libc::SA_NOCLDWAIT != 0 => Some("SIGCHLD has SA_NOCLDWAIT"),
        false => None,
    })
}

/// Leaves the signals that are sent to this process to its other threads: from now on, on this thread. What a thread does to
/// itself (`SIGSEGV` and its like) is not held back.
///
/// # Errors
/// Any of `pthread_sigmask(3)`.
pub fn leave_to_others() -> io::Result<()> {
    use nix::sys::signal::Signal::{SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGSEGV, SIGSYS, SIGTRAP};
    let mut all = SigSet::all();
    [SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGSEGV, SIGSYS, SIGTRAP].into_iter().for_each(|own| all.remove(own));
    all.thread_block()?;
    Ok(())
}

fn dispose(signal: i32, disposition: libc::sighandler_t) -> io::Result<()> {
    // SAFETY: for the callers here: neither the default nor ignoring runs any code.
    match unsafe { libc::signal(signal, disposition) } {
        libc::SIG_ERR => Err(Errno::last().into()),
        _ => Ok(()),
    }
}

fn is_ignored(signal: i32) -> io::Result<bool> {
    Ok(disposition(signal)?.sa_sigaction == libc::SIG_IGN)
}

fn disposition(signal: i32) -> io::Result<libc::sigaction> {
    // SAFETY: all bytes zero are a valid sigaction.
    let mut now: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: a null action only asks; `now` is a place for one.
    Errno::result(unsafe { libc::sigaction(signal, std::ptr::null(), &raw mut now) })?;
    Ok(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn signals_come_as_values_and_the_gravest_first() {
        settle().unwrap();
        // Whoever started the tests may ignore them.
        for number in [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT] {
            dispose(number, libc::SIG_DFL).unwrap();
        }
        let mut signals = Signals::install().unwrap();
        for number in [libc::SIGUSR1, libc::SIGHUP, libc::SIGTERM] {
            // SAFETY: a signal to this process, for which a handler is installed.
            assert_eq!(unsafe { libc::kill(libc::getpid(), number) }, 0);
        }
        let mut came = Vec::new();
        // Children of other tests end, too; and a handler may run a moment after kill returns.
        while came.len() < 3 {
            match signals.next().await {
                Arrived::Child => {}
                other => came.push(other),
            }
        }
        came.sort_unstable_by_key(|arrived| *arrived as u8);
        assert_eq!(came, [Arrived::Term, Arrived::Hup, Arrived::Usr1]);
    }
}
