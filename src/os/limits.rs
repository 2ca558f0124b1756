//! Resource limits: `setrlimit(2)`.

use std::fmt;
use std::io;

use nix::sys::resource::{self, RLIM_INFINITY, rlim_t};
use serde::{Deserialize, Serialize};

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
    fn native(self) -> resource::Resource {
        match self {
            Self::As => resource::Resource::RLIMIT_AS,
            Self::Core => resource::Resource::RLIMIT_CORE,
            Self::Cpu => resource::Resource::RLIMIT_CPU,
            Self::Data => resource::Resource::RLIMIT_DATA,
            Self::FSize => resource::Resource::RLIMIT_FSIZE,
            Self::MemLock => resource::Resource::RLIMIT_MEMLOCK,
            Self::NoFile => resource::Resource::RLIMIT_NOFILE,
            Self::NProc => resource::Resource::RLIMIT_NPROC,
            Self::Stack => resource::Resource::RLIMIT_STACK,
        }
    }
}

impl fmt::Display for Resource {
    /// The name as `setrlimit(2)` has it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.native(), f)
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
        let (soft, hard) = resource::getrlimit(resource.native())?;
        Ok(Self { resource, soft: finite(soft), hard: finite(hard) })
    }

    /// Sets it for this process and all that it starts.
    ///
    /// # Errors
    /// `EPERM`: raising a hard limit needs privileges. `EINVAL`: the soft limit is above the hard one.
    pub fn apply(self) -> io::Result<()> {
        let number = |limit: Option<u64>| limit.unwrap_or(RLIM_INFINITY);
        resource::setrlimit(self.resource.native(), number(self.soft), number(self.hard))?;
        Ok(())
    }
}

fn finite(limit: rlim_t) -> Option<u64> {
    (limit != RLIM_INFINITY).then_some(limit)
}

/// Raises this process's soft limit of open files to its hard limit, and returns what it was, so that the
/// programs that are started can have that (a soft limit above 1024 breaks those that use `select(2)`).
///
/// # Errors
/// Any of `getrlimit(2)` and `setrlimit(2)`.
pub fn raise_open_files() -> io::Result<Limit> {
    let before = Limit::of_this_process(Resource::NoFile)?;
    if before.soft != before.hard {
        Limit { soft: before.hard, ..before }.apply()?;
    }
    Ok(before)
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
