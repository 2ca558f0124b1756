//! Resource limits: `setrlimit(2)`.

use std::fmt;
use std::io;

use nix::errno::Errno;
use serde::{Deserialize, Serialize};

/// The type of the numbers of resources.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
type Number = libc::__rlimit_resource_t;
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
type Number = libc::c_int;

/// A resource that can be limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Resource {
    /// Address space, bytes.
    As,
    /// Core file, bytes.
    Core,
    /// Processor time, seconds.
    Cpu,
    /// Data segment, bytes.
    Data,
    /// File size, bytes.
    FSize,
    /// Locked memory, bytes.
    MemLock,
    /// Open files, a count.
    NoFile,
    /// Processes of the user, a count.
    NProc,
    /// Stack, bytes.
    Stack,
}

impl Resource {
    /// Its number, and its name as `setrlimit(2)` has it. (nix does not know all of them on macOS.)
    fn native(self) -> (Number, &'static str) {
        match self {
            Self::As => (libc::RLIMIT_AS, "RLIMIT_AS"),
            Self::Core => (libc::RLIMIT_CORE, "RLIMIT_CORE"),
            Self::Cpu => (libc::RLIMIT_CPU, "RLIMIT_CPU"),
            Self::Data => (libc::RLIMIT_DATA, "RLIMIT_DATA"),
            Self::FSize => (libc::RLIMIT_FSIZE, "RLIMIT_FSIZE"),
            Self::MemLock => (libc::RLIMIT_MEMLOCK, "RLIMIT_MEMLOCK"),
            Self::NoFile => (libc::RLIMIT_NOFILE, "RLIMIT_NOFILE"),
            Self::NProc => (libc::RLIMIT_NPROC, "RLIMIT_NPROC"),
            Self::Stack => (libc::RLIMIT_STACK, "RLIMIT_STACK"),
        }
    }
}

impl fmt::Display for Resource {
    /// The name as `setrlimit(2)` has it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.native().1)
    }
}

/// A soft and a hard limit of one resource; `None` is unlimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    /// Of what.
    pub resource: Resource,
    /// What is in force.
    pub soft: Option<u64>,
    /// How far the process may raise it.
    pub hard: Option<u64>,
}

impl Limit {
    /// The limit that this process has.
    ///
    /// # Errors
    /// Any of `getrlimit(2)`.
    pub fn of_this_process(resource: Resource) -> io::Result<Self> {
        let mut found = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: `found` is a place for one rlimit.
        Errno::result(unsafe { libc::getrlimit(resource.native().0, &raw mut found) })?;
        Ok(Self { resource, soft: finite(found.rlim_cur), hard: finite(found.rlim_max) })
    }

    /// Sets it for this process and all that it starts.
    ///
    /// # Errors
    /// `EPERM`: raising a hard limit needs privileges. `EINVAL`: the soft limit is above the hard one.
    pub fn apply(self) -> io::Result<()> {
        let number = |limit: Option<u64>| limit.unwrap_or(libc::RLIM_INFINITY);
        let soft = match (self.resource, self.soft) {
            (Resource::NoFile, None) if cfg!(target_os = "macos") => most_open_files(self.hard),
            (_, soft) => soft,
        };
        let wanted = libc::rlimit { rlim_cur: number(soft), rlim_max: number(self.hard) };
        // SAFETY: `wanted` is one rlimit.
        Errno::result(unsafe { libc::setrlimit(self.resource.native().0, &raw const wanted) })?;
        Ok(())
    }
}

fn finite(limit: libc::rlim_t) -> Option<u64> {
    (limit != libc::RLIM_INFINITY).then_some(limit)
}

/// Raises this process's soft limit of open files as far as it may, and returns what it was, so that the
/// programs that are started can have that (a soft limit above 1024 breaks those that use `select(2)`).
///
/// # Errors
/// Any of `getrlimit(2)` and `setrlimit(2)`.
pub fn raise_open_files() -> io::Result<Limit> {
    let before = Limit::of_this_process(Resource::NoFile)?;
    let most = most_open_files(before.hard);
    if before.soft != most {
        Limit { soft: most, ..before }.apply()?;
    }
    Ok(before)
}

/// The highest soft limit that there can be.
#[cfg(target_os = "linux")]
fn most_open_files(hard: Option<u64>) -> Option<u64> {
    hard
}

/// The hard limit is usually endless, and endless is refused for the soft one (`setrlimit(2)`); no process
/// can have more than this.
#[cfg(target_os = "macos")]
fn most_open_files(hard: Option<u64>) -> Option<u64> {
    /// `OPEN_MAX` of `sys/syslimits.h`.
    const OPEN_MAX: u64 = 10_240;
    let most = super::macos::sysctl(c"kern.maxfilesperproc").ok().and_then(|most| u64::try_from(most).ok());
    let most = most.unwrap_or(OPEN_MAX);
    Some(hard.map_or(most, |hard| hard.min(most)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_of_open_files_is_raised_and_what_it_was_is_known() {
        let before = raise_open_files().unwrap();
        let after = Limit::of_this_process(Resource::NoFile).unwrap();
        assert_eq!(after.soft, before.hard);
        assert_eq!(Resource::NoFile.to_string(), "RLIMIT_NOFILE");
    }
}
