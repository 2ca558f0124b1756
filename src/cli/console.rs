//! Printing. A reader that has seen enough (`| head`) is no failure; a full disk is.

use std::fmt::Display;
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;

use crate::exit;
use crate::observe::Destination;
use crate::os::fd;
/// Whoever wrote a text must not steer the operator's terminal.
pub(super) use crate::visible::{line as printable, lines as printable_lines};

/// Prints what was asked for to standard output; gives the exit code.
pub(super) fn print(text: impl Display) -> u8 {
    try_print(text).unwrap_or(exit::DONE)
}

/// The same, for one who has more to print; an exit code only if there is no use in that.
pub(super) fn try_print(text: impl Display) -> Option<u8> {
    let mut out = anstream::stdout().lock();
    match write!(out, "{text}").and_then(|()| out.flush()) {
        Ok(()) => None,
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Some(exit::DONE),
        Err(error) => {
            complain(format_args!("standard output: {error}"));
            Some(exit::FAILED)
        }
    }
}

/// Returns when nobody reads standard output any more; never where that cannot be known (a file, a device). Who only
/// prints now and then would else outlive its reader (`| head`) until the next time.
pub(super) async fn is_left() {
    if let Ok(stdout) = io::stdout().as_fd().try_clone_to_owned()
        && fd::has_error(stdout).await.is_ok()
    {
        return;
    }
    std::future::pending().await
}

/// Tells how things go, on standard error; nobody need listen.
pub(super) fn tell(text: impl Display) {
    let _ = writeln!(anstream::stderr().lock(), "{text}");
}

/// Says what is wrong, on standard error.
pub(super) fn complain(text: impl Display) {
    tell(format_args!("handover: {}", printable_lines(&text.to_string())));
}

/// Whether standard error is where the daemon's own log stands: the journal, of a control process of a unit
/// (`ExecReload=`; only such have `MAINPID`, `systemd.exec(5)`). What the daemon says itself would stand there twice.
pub(super) fn is_the_daemons_log() -> bool {
    let variable = |name: &str| std::env::var(name).ok();
    variable("MAINPID").is_some() && Destination::of(&io::stderr(), variable).journal
}

/// A runtime for one client command.
pub(super) fn block_on<F: Future<Output = u8>>(work: F) -> u8 {
    match runtime() {
        Ok(runtime) => runtime.block_on(work),
        Err(error) => {
            complain(format_args!("runtime: {error}"));
            exit::FAILED
        }
    }
}

fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}
