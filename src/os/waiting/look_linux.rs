//! One look at the processes of each target.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::time::Duration;

use super::calls_linux::{Waits, waits};
use super::connections_linux::connections;
use super::tree_linux::{Sessions, THREADS_MAX, numbers};
use super::{Awaited, Sight, Target};
use crate::os::clock::monotonic;
use crate::os::words;

/// Open files of one process that are looked at.
const FILES_MAX: usize = 16_384;
/// What of one `fdinfo` is read: some 5,000 fds of an epoll.
const FDINFO_MAX: u64 = 512 * 1024;
/// A round of looks begins so often.
const EVERY: Duration = Duration::from_millis(50);
/// However many there are to look at.
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// The tables of connections are long where there are many: they are looked at no more often.
const TABLES_EVERY: Duration = Duration::from_millis(500);
/// `EPOLLIN | EPOLLRDNORM`: what an fd in an epoll is watched for. One that is switched off has neither.
const READABLE: u32 = 0x41;

/// Looks again and again; remembers what serves all targets of a round.
#[derive(Debug)]
pub struct Looker {
    sessions: Sessions,
    begun: Duration,
    tables_at: Option<Duration>,
    /// The tables of connections are looked at in this round.
    with_tables: bool,
}

impl Default for Looker {
    fn default() -> Self {
        let sessions = Sessions::default();
        Self { sessions, begun: Duration::ZERO, tables_at: None, with_tables: false }
    }
}

impl Looker {
    /// Begins a round of looks.
    pub fn begin_round(&mut self) {
        self.begun = monotonic();
        self.sessions = Sessions::read();
        self.with_tables = self.tables_at.is_none_or(|at| self.begun - at >= TABLES_EVERY);
        if self.with_tables {
            self.tables_at = Some(self.begun);
        }
    }

    /// Looks at one target.
    pub fn look(&mut self, target: &Target) -> Sight {
        look(target, &self.sessions, self.with_tables)
    }

    /// How long to wait before the next round: one begins every 50 ms, and half of the time nothing is done.
    pub fn pause(&self) -> Duration {
        let took = monotonic().saturating_sub(self.begun);
        EVERY.saturating_sub(took).max(took.min(PAUSE_MAX))
    }
}

fn look(target: &Target, sessions: &Sessions, with_tables: bool) -> Sight {
    let mut seen =
        Seen { waited_on: vec![false; target.sockets.len()], obstacle: None, others: BTreeSet::new() };
    for pid in sessions.tree(target.leader) {
        if let Err(error) = seen.look_at(pid, target) {
            match error.raw_os_error() {
                // It ended meanwhile. Of the leader its owner knows: it lives, and is hidden from us.
                Some(libc::ENOENT | libc::ESRCH) if pid != target.leader => {}
                Some(libc::ENOENT | libc::ESRCH) => {
                    seen.obstruct(format!("/proc does not show process {pid}"))
                }
                _ => seen.obstruct(format!("/proc does not tell what process {pid} does: {}", words(&error))),
            }
        }
        if seen.waited_on.iter().all(|seen| *seen) {
            break;
        }
    }
    if with_tables && !seen.others.is_empty() {
        seen.look_for_connections(target);
    }
    Sight { waited_on: seen.waited_on, obstacle: seen.obstacle }
}

struct Seen {
    waited_on: Vec<bool>,
    obstacle: Option<String>,
    /// Sockets among the open files that are none of the target's.
    others: BTreeSet<u64>,
}

/// What a process has open, as far as it matters here.
#[derive(Default)]
struct Files {
    sockets: BTreeMap<i32, u64>,
    epolls: Vec<i32>,
    has_ring: bool,
}

impl Seen {
    fn obstruct(&mut self, why: String) {
        self.obstacle.get_or_insert(why);
    }

    fn look_at(&mut self, pid: u32, target: &Target) -> io::Result<()> {
        let files = Files::of(pid)?;
        if files.has_ring {
            self.obstruct(format!(
                "process {pid} has an io_uring, and /proc does not show what it waits for there"
            ));
        }
        for epoll in &files.epolls {
            self.look_at_epoll(pid, *epoll, target)?;
        }
        let inherited = |inode: &u64| {
            target.inherited.contains(inode) || target.sockets.iter().any(|socket| socket.inode == *inode)
        };
        self.others.extend(files.sockets.values().filter(|inode| !inherited(inode)));
        // A thread waits with an fd, so there must be one of the sockets.
        if files.sockets.values().any(|inode| target.sockets.iter().any(|socket| socket.inode == *inode)) {
            self.look_at_threads(pid, &files, target)?;
        }
        Ok(())
    }

    fn look_at_epoll(&mut self, pid: u32, epoll: i32, target: &Target) -> io::Result<()> {
        let text = match read(&format!("/proc/{pid}/fdinfo/{epoll}")) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            text => text?,
        };
        for watched in text.lines().filter_map(Watched::parse) {
            for (seen, socket) in self.waited_on.iter_mut().zip(&target.sockets) {
                *seen |= watched.is(socket);
            }
        }
        Ok(())
    }

    fn look_at_threads(&mut self, pid: u32, files: &Files, target: &Target) -> io::Result<()> {
        for thread in numbers(&format!("/proc/{pid}/task"), THREADS_MAX) {
            let line = match read(&format!("/proc/{pid}/task/{thread}/syscall")) {
                // It ended meanwhile.
                Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH)) => continue,
                line => line?,
            };
            let (fds, accepts, receives) = match waits(&line, || File::open(format!("/proc/{pid}/mem")))? {
                Waits::No => continue,
                Waits::Accepting(fd) => (vec![fd], true, false),
                Waits::Receiving(fd) => (vec![fd], false, true),
                Waits::Readable(fds) => (fds, true, true),
            };
            let inodes: BTreeSet<u64> = fds.iter().filter_map(|fd| files.sockets.get(fd)).copied().collect();
            for (seen, socket) in self.waited_on.iter_mut().zip(&target.sockets) {
                let fits = if socket.is_datagram { receives } else { accepts };
                *seen |= fits && inodes.contains(&socket.inode);
            }
        }
        Ok(())
    }

    fn look_for_connections(&mut self, target: &Target) {
        for (seen, socket) in self.waited_on.iter_mut().zip(&target.sockets) {
            if !*seen && !socket.is_datagram {
                *seen = !connections(socket).is_disjoint(&self.others);
            }
        }
    }
}

impl Files {
    fn of(pid: u32) -> io::Result<Self> {
        let mut files = Self::default();
        for entry in fs::read_dir(format!("/proc/{pid}/fd"))?.take(FILES_MAX) {
            // It may have been closed meanwhile.
            let Ok(entry) = entry else { continue };
            let Some(fd) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            let link = match fs::read_link(entry.path()) {
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Err(error),
                Err(_) => continue,
                Ok(link) => link,
            };
            match link.to_str().unwrap_or_default() {
                "anon_inode:[eventpoll]" => files.epolls.push(fd),
                "anon_inode:[io_uring]" => files.has_ring = true,
                link => {
                    let number = link.strip_prefix("socket:[").and_then(|rest| rest.strip_suffix(']'));
                    files.sockets.extend(number.and_then(|number| Some((fd, number.parse().ok()?))));
                }
            }
        }
        Ok(files)
    }
}

/// One fd in an epoll. Its number says nothing: it may be another file's by now, or another process's number.
#[derive(Debug, PartialEq, Eq)]
struct Watched {
    events: u32,
    inode: u64,
    device: u64,
}

impl Watched {
    /// `tfd: 5 events: 19 data: 5 pos:0 ino:1a2b sdev:9`, numbers in hexadecimal but for the first.
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.strip_prefix("tfd:")?.split_whitespace();
        let events = u32::from_str_radix(words.nth(2)?, 16).ok()?;
        let mut named =
            |name: &str| words.find_map(|word| u64::from_str_radix(word.strip_prefix(name)?, 16).ok());
        Some(Self { events, inode: named("ino:")?, device: named("sdev:")? })
    }

    fn is(&self, socket: &Awaited) -> bool {
        self.events & READABLE != 0 && self.inode == socket.inode && self.device == in_kernel(socket.device)
    }
}

/// A device number as the kernel has it inside, which is how it prints this one.
fn in_kernel(device: u64) -> u64 {
    u64::from(libc::major(device)) << 20 | u64::from(libc::minor(device))
}

/// The beginning of a file of `/proc`.
fn read(path: &str) -> io::Result<String> {
    let mut text = String::new();
    io::Read::read_to_string(&mut io::Read::take(File::open(path)?, FDINFO_MAX), &mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_an_epoll_names_the_file_and_not_only_a_number() {
        let line = "tfd:        5 events:       19 data:        5  pos:0 ino:1a2b sdev:9";
        assert_eq!(Watched::parse(line), Some(Watched { events: 0x19, inode: 0x1a2b, device: 9 }));
        assert_eq!(Watched::parse("pos:\t0"), None);
        assert_eq!(Watched::parse("tfd: 5 events: 19 data: 5"), None, "a kernel before 4.13");
        let socket = |inode, device| Awaited {
            inode,
            device,
            is_datagram: false,
            local: crate::os::socket::Local::Other,
        };
        let watched = Watched::parse(line).unwrap();
        assert!(watched.is(&socket(0x1a2b, 9)));
        assert!(!watched.is(&socket(0x1a2b, 10)) && !watched.is(&socket(0x1a2c, 9)));
        assert!(!Watched { events: 1 << 30, ..watched }.is(&socket(0x1a2b, 9)), "switched off");
    }
}
