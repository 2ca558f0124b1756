//! What the configuration must know of the machine, asked through a trait so that this layer stays pure.

use super::model::{GroupId, UserId};

/// The machine, as far as a configuration depends on it. It is asked while a file is resolved, so that an
/// unknown user is reported beside all other faults and not when a worker is started.
pub trait Facts {
    /// The number of cores that this process may use: what `workers = "auto"` means. At least 1.
    fn cores(&self) -> u32;

    /// The user of this name, or of this number in decimal; `None` where there is none of this name.
    fn user(&self, name_or_uid: &str) -> Option<UserId>;

    /// The group of this name, or of this number in decimal; `None` where there is none of this name.
    fn group(&self, name_or_gid: &str) -> Option<GroupId>;

    /// The number of the user that runs handover, where that is who will run it.
    fn own_user(&self) -> Option<u32> {
        None
    }

    /// The system that it runs; by default the one that this is built for.
    fn platform(&self) -> Platform {
        if cfg!(target_os = "macos") { Platform::MacOs } else { Platform::Linux }
    }
}

/// A system, as far as it has what a configuration can ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Platform {
    /// Linux
    Linux,
    /// macOS
    MacOs,
}

/// A machine that has every user and group, for whoever must judge a file elsewhere, or before there is a user
/// database: names are kept as they are written, and numbers, homes and shells mean nothing.
pub struct Believing;

impl Facts for Believing {
    fn cores(&self) -> u32 {
        1
    }

    fn user(&self, name_or_uid: &str) -> Option<UserId> {
        let (home, shell) = ("/".into(), "/bin/sh".into());
        Some(UserId { name: name_or_uid.to_owned(), uid: 0, gid: Some(0), home, shell })
    }

    fn group(&self, name_or_gid: &str) -> Option<GroupId> {
        Some(GroupId { name: name_or_gid.to_owned(), gid: 0 })
    }
}

/// A machine of four cores with the users `root` and `myapp` and the group `www-data`.
#[cfg(test)]
pub(super) struct Fake;

#[cfg(test)]
impl Facts for Fake {
    fn cores(&self) -> u32 {
        4
    }

    fn user(&self, name_or_uid: &str) -> Option<UserId> {
        let (name, uid, home) = match name_or_uid {
            "root" | "0" => ("root", 0, "/root"),
            "myapp" | "990" => ("myapp", 990, "/srv/myapp"),
            number => return number.parse().ok().map(UserId::unknown),
        };
        Some(UserId { name: name.into(), uid, gid: Some(uid), home: home.into(), shell: "/bin/sh".into() })
    }

    fn group(&self, name_or_gid: &str) -> Option<GroupId> {
        let (name, gid) = match name_or_gid {
            "root" | "0" => ("root", 0),
            "www-data" | "33" => ("www-data", 33),
            number => return number.parse().ok().map(|gid| GroupId { name: number.into(), gid }),
        };
        Some(GroupId { name: name.into(), gid })
    }
}
