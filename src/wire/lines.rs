//! From bytes and fds as they come to whole lines with their fds.
//!
//! The kernel delivers fds no later than the byte that they were attached to, so they wait in a queue until their line is whole.
//! Generic over what an fd is: whoever reads the socket gives `OwnedFd`s, a test gives numbers. What is dropped here is closed.

use std::collections::VecDeque;
use std::ops::Range;

use super::fault::Fault;
use super::limits::{FDS_MAX, FDS_READ_MAX, LARGE_LINE_MAX};
use super::line::Line;

/// A whole line and the fds that came with it.
#[derive(Debug, PartialEq, Eq)]
pub struct Received<L, F> {
    /// What was said.
    pub line: L,
    /// As many as the line said.
    pub fds: Vec<F>,
}

/// The reading end of a channel.
///
/// Give it each read with [`push`](Self::push), then take lines with [`next_line`](Self::next_line) until there is none. It keeps at
/// most one line that is not whole ([`LARGE_LINE_MAX`] bytes, [`FDS_MAX`] fds) beside what one read brought. After a fault it keeps
/// nothing, takes nothing, and says the same fault again.
#[derive(Debug)]
pub struct Lines<F> {
    frames: Frames<F>,
    fault: Option<Fault>,
}

impl<F> Lines<F> {
    /// With nothing read yet.
    pub const fn new() -> Self {
        Self { frames: Frames::new(), fault: None }
    }

    /// Takes what one `recvmsg` brought: bytes, fds, and whether the kernel cut fds off (`MSG_CTRUNC`).
    pub fn push(&mut self, bytes: &[u8], fds: impl IntoIterator<Item = F>, is_cut_off: bool) {
        if self.fault.is_some() {
            return;
        }
        if is_cut_off {
            self.fail(Fault::FdsCutOff);
        } else if let Err(fault) = self.frames.push(bytes, fds) {
            self.fail(fault);
        }
    }

    /// The next whole line; `None` where more has to be read first.
    ///
    /// # Errors
    ///
    /// What the peer did wrong. All fds that no line took are dropped then, and the channel is to be closed.
    pub fn next_line<L: Line>(&mut self) -> Result<Option<Received<L, F>>, Fault> {
        match &self.fault {
            Some(fault) => Err(fault.clone()),
            None => self.take().map_err(|fault| self.fail(fault)),
        }
    }

    /// Whether a line has begun and is not whole: at the end of the file, something was cut off.
    pub fn is_within_line(&self) -> bool {
        !self.frames.is_empty()
    }

    /// How much memory is set aside for bytes.
    #[cfg(test)]
    pub(super) fn kept(&self) -> usize {
        self.frames.bytes.capacity()
    }

    fn take<L: Line>(&mut self) -> Result<Option<Received<L, F>>, Fault> {
        let Some(frame) = self.frames.next()? else { return self.frames.check_rest().map(|()| None) };
        let (line, said) = L::decode(&self.frames.bytes[frame])?;
        let there = self.frames.fds.len();
        if said > there {
            return Err(Fault::FdsMissing { said, there });
        }
        Ok(Some(Received { line, fds: self.frames.fds.drain(..said).collect() }))
    }

    fn fail(&mut self, fault: Fault) -> Fault {
        self.frames = Frames::new();
        self.fault = Some(fault.clone());
        fault
    }
}

impl<F> Default for Lines<F> {
    fn default() -> Self {
        Self::new()
    }
}

/// Bytes cut into lines, and the queue of fds beside them; what the lines are is somebody else's.
#[derive(Debug)]
pub(super) struct Frames<F> {
    /// What was read and not forgotten.
    pub(super) bytes: Vec<u8>,
    /// What stands before is taken.
    start: usize,
    /// Between `start` and here is no newline.
    searched: usize,
    /// Not taken yet, in the order in which they came.
    pub(super) fds: VecDeque<F>,
}

impl<F> Frames<F> {
    pub(super) const fn new() -> Self {
        Self { bytes: Vec::new(), start: 0, searched: 0, fds: VecDeque::new() }
    }

    pub(super) fn push(&mut self, bytes: &[u8], fds: impl IntoIterator<Item = F>) -> Result<(), Fault> {
        self.forget_taken();
        self.bytes.extend_from_slice(bytes);
        for fd in fds {
            if self.fds.len() >= FDS_MAX + FDS_READ_MAX {
                return Err(Fault::FdsTooMany);
            }
            self.fds.push_back(fd);
        }
        Ok(())
    }

    /// Where in `bytes` the next frame stands, without its newline. That place holds until the next call.
    pub(super) fn next(&mut self) -> Result<Option<Range<usize>>, Fault> {
        let Some(found) = self.bytes[self.searched..].iter().position(|byte| *byte == b'\n') else {
            self.searched = self.bytes.len();
            self.let_go_if_empty();
            return if self.bytes.len() - self.start >= LARGE_LINE_MAX {
                Err(Fault::TooLong { limit: LARGE_LINE_MAX })
            } else {
                Ok(None)
            };
        };
        let (start, end) = (self.start, self.searched + found);
        self.start = end + 1;
        self.searched = self.start;
        Ok(Some(start..end))
    }

    /// With no whole line left: whether the fds that are left can belong to the one that has begun.
    pub(super) fn check_rest(&self) -> Result<(), Fault> {
        match self.fds.len() {
            0 => Ok(()),
            left if self.is_empty() => Err(Fault::FdsLeft { left }),
            left if left > FDS_MAX => Err(Fault::FdsTooMany),
            _ => Ok(()),
        }
    }

    /// Whether all bytes are taken.
    pub(super) fn is_empty(&self) -> bool {
        self.start == self.bytes.len()
    }

    fn forget_taken(&mut self) {
        self.bytes.drain(..self.start);
        self.searched -= self.start;
        self.start = 0;
    }

    /// An idle channel keeps little.
    fn let_go_if_empty(&mut self) {
        const KEPT_MAX: usize = 4096;
        if self.is_empty() {
            self.forget_taken();
            self.bytes.shrink_to(KEPT_MAX);
        }
    }
}
