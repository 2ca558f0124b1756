//! Printing. A reader that has seen enough (`| head`) is no failure; a full disk is.

use std::fmt::Display;
use std::io::{self, ErrorKind, Write};

use crate::exit;

/// Prints what was asked for to standard output; gives the exit code.
pub(super) fn print(text: impl Display) -> u8 {
    let mut out = anstream::stdout().lock();
    match write!(out, "{text}").and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            complain(format_args!("standard output: {error}"));
            exit::FAILED
        }
        _ => exit::DONE,
    }
}

/// Tells how things go, on standard error; nobody need listen.
pub(super) fn tell(text: impl Display) {
    let _ = writeln!(anstream::stderr().lock(), "{text}");
}

/// Says what is wrong, on standard error.
pub(super) fn complain(text: impl Display) {
    tell(format_args!("handover: {text}"));
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
