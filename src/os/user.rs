//! Users and groups as the system's user database has them.
//!
//! A question may go to a directory server and take its time: ask when the configuration is read, not when
//! something must happen.

use std::io;
use std::path::PathBuf;

use nix::unistd;

/// A user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The login name.
    pub name: String,
    /// The uid.
    pub uid: u32,
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
    /// Its name.
    pub name: String,
    /// The gid.
    pub gid: u32,
}

/// The user of this name, or of this number where the text is one and no user bears it as a name. `None`:
/// there is no such user.
///
/// # Errors
/// Where the database cannot be asked.
pub fn user(name_or_uid: &str) -> io::Result<Option<User>> {
    let mut found = unistd::User::from_name(name_or_uid)?;
    if let (None, Ok(uid)) = (&found, name_or_uid.parse()) {
        found = unistd::User::from_uid(unistd::Uid::from_raw(uid))?;
    }
    Ok(found.map(|user| User {
        name: user.name,
        uid: user.uid.as_raw(),
        gid: user.gid.as_raw(),
        home: user.dir,
        shell: user.shell,
    }))
}

/// The group of this name, or of this number where the text is one and no group bears it as a name. `None`:
/// there is no such group.
///
/// # Errors
/// Where the database cannot be asked.
pub fn group(name_or_gid: &str) -> io::Result<Option<Group>> {
    let mut found = unistd::Group::from_name(name_or_gid)?;
    if let (None, Ok(gid)) = (&found, name_or_gid.parse()) {
        found = unistd::Group::from_gid(unistd::Gid::from_raw(gid))?;
    }
    Ok(found.map(|group| Group { name: group.name, gid: group.gid.as_raw() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_and_groups_are_found_by_name_and_by_number() {
        let root = user("root").unwrap().unwrap();
        assert_eq!((root.uid, root.gid), (0, 0));
        assert_eq!(user("0").unwrap(), Some(root));
        assert_eq!(group("0").unwrap().unwrap().gid, 0);
        assert_eq!(user("no-such-user").unwrap(), None);
        assert_eq!(group("no-such-group").unwrap(), None);
    }
}
