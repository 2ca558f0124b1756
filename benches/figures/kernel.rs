//! When a process was forked and when it executed its program, as the kernel itself reports it
//! (`CONFIG_PROC_EVENTS`): the same witness for handover and for every peer, without any polling. Needs root.

use std::fs::File;
use std::io::{Read, Write};

use crate::sys;

/// Sizes and places of `struct nlmsghdr`, `struct cn_msg` and `struct proc_event`.
const MESSAGE: usize = 16 + 20;
const TIME: usize = MESSAGE + 8;
const DATA: usize = MESSAGE + 16;
/// `PROC_EVENT_FORK` and `PROC_EVENT_EXEC`.
const FORK: u32 = 1;
const EXEC: u32 = 2;
/// `PROC_CN_MCAST_LISTEN`.
const LISTEN: u32 = 1;

/// How a process came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Birth {
    /// It executed a program then; the last one counts, since starting may take two.
    Executed(u64),
    /// It was forked then and executed nothing.
    Forked(u64),
}

impl Birth {
    /// When.
    pub fn at(self) -> u64 {
        match self {
            Self::Executed(at) | Self::Forked(at) => at,
        }
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

    /// How `pid` came to be, from what was reported since the last call.
    pub fn birth(&mut self, pid: u32) -> Option<Birth> {
        let mut birth = None;
        self.each(|report, at| {
            let number = |place: usize| word(report, DATA + place);
            match word(report, MESSAGE) {
                // A thread has another number than its process.
                Some(FORK) if number(8) == Some(pid) && number(12) == Some(pid) => {
                    birth = Some(Birth::Forked(at));
                }
                Some(EXEC) if number(4) == Some(pid) => birth = Some(Birth::Executed(at)),
                _ => {}
            }
        });
        birth
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
