//! Users and groups as the system's user database has them.
//!
//! A question may go to a directory server and take its time: ask when the configuration is read, not when
//! something must happen.

use std::io;
use std::path::PathBuf;

use nix::errno::Errno;
use nix::unistd;

/// A user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The login name; the number, where the database has no entry.
    pub name: String,
    /// The uid.
    pub uid: u32,
    /// What the database says of it. `None`: it has no entry, as in a container that is started with any number
    /// (`docker run --user`, OpenShift). Nothing but the number is known then.
    pub entry: Option<Entry>,
}

/// What the database says of a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The primary group.
    pub gid: u32,
    /// The home directory.
    pub home: PathBuf,
    /// The login shell.
    pub shell: PathBuf,
}

/// A group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its name; the number, where the database has no entry.
    pub name: String,
    /// The gid.
    pub gid: u32,
}

/// The user of this name, or of this number where the text is one and no user bears it as a name. `None`:
/// there is no user of this name. A number is a user, whether the database knows it or not.
///
/// # Errors
/// Where the database cannot be asked.
pub fn user(name_or_uid: &str) -> io::Result<Option<User>> {
    let named = or_missing(unistd::User::from_name(name_or_uid))?;
    let number = number(name_or_uid).filter(|_| named.is_none());
    let found = match number {
        Some(uid) => or_missing(unistd::User::from_uid(unistd::Uid::from_raw(uid)))?,
        None => named,
    };
    let known = found.map(|user| User {
        name: user.name,
        uid: user.uid.as_raw(),
        entry: Some(Entry { gid: user.gid.as_raw(), home: user.dir, shell: user.shell }),
    });
    let unknown = |uid: u32| User { name: uid.to_string(), uid, entry: None };
    Ok(known.or_else(|| number.map(unknown)))
}

/// The group of this name, or of this number where the text is one and no group bears it as a name. `None`:
/// there is no group of this name. A number is a group, whether the database knows it or not.
///
/// # Errors
/// Where the database cannot be asked.
pub fn group(name_or_gid: &str) -> io::Result<Option<Group>> {
    let named = or_missing(unistd::Group::from_name(name_or_gid))?;
    let number = number(name_or_gid).filter(|_| named.is_none());
    let found = match number {
        Some(gid) => or_missing(unistd::Group::from_gid(unistd::Gid::from_raw(gid)))?,
        None => named,
    };
    let known = found.map(|group| Group { name: group.name, gid: group.gid.as_raw() });
    Ok(known.or_else(|| number.map(|gid| Group { name: gid.to_string(), gid })))
}

/// Digits and nothing else.
fn number(text: &str) -> Option<u32> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

/// Where there is no `/etc/passwd` at all, as in an image that holds one program, the C library has an error for "not
/// found" (`getpwnam(3)`).
fn or_missing<T>(found: nix::Result<Option<T>>) -> io::Result<Option<T>> {
    match found {
        Err(Errno::ENOENT | Errno::ESRCH | Errno::EBADF | Errno::EPERM) => Ok(None),
        found => Ok(found?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_and_groups_are_found_by_name_and_by_number() {
        let root = user("root").unwrap().unwrap();
        assert_eq!((root.uid, root.entry.as_ref().map(|entry| entry.gid)), (0, Some(0)));
        assert_eq!(user("0").unwrap(), Some(root));
        assert_eq!(group("0").unwrap().unwrap().gid, 0);
        assert_eq!(user("no-such-user").unwrap(), None);
        assert_eq!(group("no-such-group").unwrap(), None);
    }

    #[test]
    fn a_number_is_one_that_the_database_knows_nothing_of() {
        let unknown = User { name: "1000770001".into(), uid: 1_000_770_001, entry: None };
        assert_eq!(user("1000770001").unwrap(), Some(unknown));
        let group_of = |text: &str| group(text).unwrap().map(|group| (group.name, group.gid));
        assert_eq!(group_of("1000770001"), Some(("1000770001".into(), 1_000_770_001)));
        for text in ["+5", "-1", "4294967296", "", "5 "] {
            assert_eq!((user(text).unwrap(), group(text).unwrap()), (None, None), "{text:?}");
        }
    }

    #[test]
    fn a_database_that_is_not_there_has_nobody_and_one_that_fails_is_an_error() {
        assert_eq!(or_missing::<()>(Err(Errno::ENOENT)).unwrap(), None);
        assert!(or_missing::<()>(Err(Errno::EIO)).is_err());
    }
}
