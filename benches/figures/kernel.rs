//! When a process was forked and when it executed its program, as the kernel itself reports it
//! (`CONFIG_PROC_EVENTS`): the same witness for handover and for every peer, without any polling. Needs root.

use std::fs::File;
use std::io::{Read, Write};

use crate::sys;

/// Sizes and places of `struct nlmsghdr`, `struct cn_msg` and `struct proc_event`.
const MESSAGE: usize = 16 + 20;
const TIME: usize = MESSAGE + 8;
const DATA: usize = MESSAGE + 16;
/// `PROC_EVENT_FORK`, `PROC_EVENT_EXEC` and `PROC_EVENT_EXIT`.
const FORK: u32 = 1;
const EXEC: u32 = 2;
const EXIT: u32 = 0x8000_0000;
/// `PROC_CN_MCAST_LISTEN`.
const LISTEN: u32 = 1;

/// How one process followed another one.
#[derive(Clone, Debug, Default)]
pub struct Succession {
    /// When the first one's end was reported.
    pub ended: Option<u64>,
    /// When the second one was forked.
    pub forked: Option<u64>,
    /// When it executed something; the last one is its program, since starting may take more than one.
    pub executed: Vec<u64>,
}

impl Succession {
    /// When the second one came to be: with its program, or by the fork where it executed nothing.
    pub fn born(&self) -> Option<u64> {
        self.executed.last().copied().or(self.forked)
    }
}

/// The kernel's reports.
pub struct Witness(File);

impl Witness {
    /// Begins to listen.
    pub fn new() -> std::io::Result<Self> {
        let mut socket = File::from(sys::process_reports()?);
        let mut message = Vec::new();
        let length = u32::try_from(MESSAGE + 4).unwrap_or(0);
        // nlmsghdr: length, NLMSG_DONE, no flags, no sequence, from nobody in particular.
        message.extend(length.to_ne_bytes());
        message.extend(3u16.to_ne_bytes());
        message.extend([0; 10]);
        // cn_msg: CN_IDX_PROC, CN_VAL_PROC, no sequence, no acknowledgement, four bytes, no flags.
        message.extend(1u32.to_ne_bytes());
        message.extend(1u32.to_ne_bytes());
        message.extend([0; 8]);
        message.extend(4u16.to_ne_bytes());
        message.extend([0; 2]);
        message.extend(LISTEN.to_ne_bytes());
        socket.write_all(&message)?;
        Ok(Self(socket))
    }

    /// Forgets what was reported so far.
    pub fn clear(&mut self) {
        self.each(|_, _| {});
    }

    /// How `pid` followed `victim`, from what was reported since the last call.
    pub fn succession(&mut self, victim: u32, pid: u32) -> Succession {
        let mut seen = Succession::default();
        self.each(|report, at| {
            let is = |place: usize, pid: u32| word(report, DATA + place) == Some(pid);
            match word(report, MESSAGE) {
                // A thread has another number than its process.
                Some(FORK) if is(8, pid) && is(12, pid) => seen.forked = Some(at),
                Some(EXEC) if is(4, pid) => seen.executed.push(at),
                Some(EXIT) if is(0, victim) => seen.ended = Some(at),
                _ => {}
            }
        });
        seen
    }

    fn each(&mut self, mut report: impl FnMut(&[u8], u64)) {
        let mut bytes = [0; 4096];
        // It ends with "would block". Where reports were lost ("no buffer space"), one goes on.
        loop {
            match self.0.read(&mut bytes) {
                Ok(count) => {
                    let bytes = &bytes[..count];
                    let time = bytes.get(TIME..TIME + 8).and_then(|time| time.try_into().ok());
                    if let Some(time) = time {
                        report(bytes, u64::from_ne_bytes(time));
                    }
                }
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {}
                Err(_nothing_more) => return,
            }
        }
    }
}

fn word(bytes: &[u8], place: usize) -> Option<u32> {
    bytes.get(place..place + 4).and_then(|word| word.try_into().ok()).map(u32::from_ne_bytes)
}
