//! What the generator has to say, and to whom.
//!
//! Its standard error is nobody's when systemd runs it. So it speaks to the journal, if that is there, else to the kernel's
//! log, which the journal reads as soon as it is (`systemd.generator(7)`). It waits for neither: the journal may be waiting
//! for systemd, which waits for us.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use super::{NAME, under};
use crate::cli::console;
use crate::visible::is_hidden;

/// Where journald takes native records.
const JOURNAL: &str = "/run/systemd/journal/socket";
/// The kernel's log.
const KERNEL: &str = "/dev/kmsg";
/// Lines of one report; who has more is shown them by `handover check`.
const LINES_MAX: usize = 20;
/// Bytes of a line; a record of the kernel has not 1000 (`LOG_LINE_MAX`).
const LINE_MAX: usize = 800;
/// `LOG_DAEMON` of `syslog(3)`, as a number of its own.
const FACILITY: u8 = 3;

/// Where reports go.
pub(super) enum Report {
    /// To whoever called us.
    Caller,
    /// To the journal, or to the kernel's log.
    System {
        /// The socket of the one.
        journal: PathBuf,
        /// The device of the other.
        kernel: PathBuf,
    },
}

impl Report {
    pub(super) fn new(root: &Path, by_systemd: bool) -> Self {
        let at = |path: &str| under(root, Path::new(path));
        if by_systemd { Self::System { journal: at(JOURNAL), kernel: at(KERNEL) } } else { Self::Caller }
    }

    /// Something is missing because of a fault.
    pub(super) fn error(&self, text: &str) {
        self.say(3, text);
    }

    /// Something is not quite as it was wanted.
    pub(super) fn notice(&self, text: &str) {
        self.say(5, text);
    }

    fn say(&self, level: u8, text: &str) {
        let lines: Vec<&str> = text.lines().collect();
        for line in lines.iter().take(LINES_MAX) {
            self.line(level, line);
        }
        if lines.len() > LINES_MAX {
            self.line(level, &format!("{} more lines: `handover check` shows them", lines.len() - LINES_MAX));
        }
    }

    fn line(&self, level: u8, line: &str) {
        let mut line: String = line.chars().map(|c| if is_hidden(c) { '?' } else { c }).collect();
        line.truncate(
            (0..=LINE_MAX.min(line.len())).rev().find(|at| line.is_char_boundary(*at)).unwrap_or(0),
        );
        let told = match self {
            Self::Caller => Err(io::ErrorKind::Unsupported.into()),
            Self::System { journal, kernel } => {
                to_journal(journal, level, &line).or_else(|_| to_kernel(kernel, level, &line))
            }
        };
        if told.is_err() {
            console::complain(line);
        }
    }
}

fn to_journal(socket: &Path, level: u8, line: &str) -> io::Result<()> {
    let record = format!(
        "MESSAGE={line}\nPRIORITY={level}\nSYSLOG_FACILITY={FACILITY}\nSYSLOG_IDENTIFIER={NAME}\nSYSLOG_PID={}\n",
        std::process::id()
    );
    let from = UnixDatagram::unbound()?;
    from.set_nonblocking(true)?;
    from.send_to(record.as_bytes(), socket).map(|_| ())
}

/// One write is one record (`Documentation/ABI/testing/dev-kmsg` of Linux).
fn to_kernel(device: &Path, level: u8, line: &str) -> io::Result<()> {
    let mut log = OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK).open(device)?;
    let record = format!("<{}>{NAME}[{}]: {line}\n", FACILITY << 3 | level, std::process::id());
    log.write_all(record.as_bytes())
}
