//! Becoming another user: groups, group, user, in this order.

use std::ffi::CString;
use std::io;

use nix::unistd::{Gid, Uid};

use super::helper::Step;
use super::spec::{Identity, StartFault};

/// Changes groups, group and user, in this order, and nothing that is already so: a supervisor without
/// privileges may name its own user.
pub(super) fn assume(identity: &Identity) -> Step<()> {
    let group = Gid::from_raw(identity.group);
    let mut groups: Vec<Gid> = identity.groups.iter().copied().map(Gid::from_raw).collect();
    if let Some((_, Some(name))) = &identity.user {
        groups.extend(database_groups(name, group)?);
    }
    groups.sort_unstable_by_key(|gid| gid.as_raw());
    groups.dedup();
    // The database says nothing of a number that it does not know: the groups of our own user are what he was started with.
    let is_as_started = matches!(identity.user, Some((uid, None)) if nix::unistd::geteuid().as_raw() == uid && !nix::unistd::geteuid().is_root());
    if !groups.is_empty() || (identity.user.is_some() && !is_as_started) {
        set_groups(&groups, group)?;
    }
    if (nix::unistd::getgid(), nix::unistd::getegid()) != (group, group) {
        nix::unistd::setgid(group)
            .map_err(|errno| StartFault::new("groups", format_args!("gid {group}"), &errno.into()))?;
    }
    if let Some((uid, name)) = &identity.user {
        let user = Uid::from_raw(*uid);
        if (nix::unistd::getuid(), nix::unistd::geteuid()) != (user, user) {
            let who = name.clone().unwrap_or_else(|| user.to_string());
            nix::unistd::setuid(user)
                .map_err(|errno| StartFault::new("user", format_args!("user {who}"), &errno.into()))?;
            #[cfg(target_os = "linux")]
            crate::os::linux::clear_ambient_capabilities()
                .map_err(|error| StartFault::new("user", "ambient capabilities", &error))?;
        }
    }
    Ok(())
}

#[cfg(target_os = "linux")]
fn set_groups(groups: &[Gid], primary: Gid) -> Step<()> {
    let failed = |errno: nix::errno::Errno| {
        let list: Vec<String> = groups.iter().map(Gid::to_string).collect();
        StartFault::new("groups", format_args!("supplementary groups {}", list.join(" ")), &errno.into())
    };
    let mut now = nix::unistd::getgroups().map_err(failed)?;
    now.sort_unstable_by_key(|gid| gid.as_raw());
    now.dedup();
    // Whether the primary group is listed among the others makes no difference to what may be done.
    let others = |list: &[Gid]| list.iter().copied().filter(|gid| *gid != primary).collect::<Vec<_>>();
    if others(&now) == others(groups) && nix::unistd::getegid() == primary {
        return Ok(());
    }
    nix::unistd::setgroups(groups).map_err(failed)
}

/// The kernel keeps 16 groups of a process at most (`NGROUPS_MAX`), and takes the first of them for the effective one
/// (`setgroups(2)`).
#[cfg(target_os = "macos")]
fn set_groups(groups: &[Gid], primary: Gid) -> Step<()> {
    let others = groups.iter().filter(|gid| **gid != primary);
    let all: Vec<libc::gid_t> = std::iter::once(&primary).chain(others).map(|gid| gid.as_raw()).collect();
    let now = nix::unistd::getegid() == primary && own_groups().is_ok_and(|now| same(now, all.clone()));
    if now {
        return Ok(());
    }
    let failed = |errno: nix::errno::Errno| {
        let subject = format!("{} groups (macOS allows 16)", all.len());
        StartFault::new("groups", subject, &errno.into())
    };
    let count = libc::c_int::try_from(all.len()).map_err(|_| failed(nix::errno::Errno::EINVAL))?;
    // SAFETY: the list is as long as is said.
    let done = unsafe { libc::setgroups(count, all.as_ptr()) };
    nix::errno::Errno::result(done).map(drop).map_err(failed)
}

#[cfg(target_os = "macos")]
fn same(mut one: Vec<libc::gid_t>, mut other: Vec<libc::gid_t>) -> bool {
    for list in [&mut one, &mut other] {
        list.sort_unstable();
        list.dedup();
    }
    one == other
}

/// nix has no `getgroups` here, since that of the C library may ask a directory server.
#[cfg(target_os = "macos")]
fn own_groups() -> io::Result<Vec<libc::gid_t>> {
    let mut groups: Vec<libc::gid_t> = vec![0; GROUPS_MAX];
    let room = libc::c_int::try_from(groups.len()).unwrap_or(0);
    // SAFETY: the buffer has room for so many.
    let count = nix::errno::Errno::result(unsafe { libc::getgroups(room, groups.as_mut_ptr()) })?;
    groups.truncate(usize::try_from(count).unwrap_or(0));
    Ok(groups)
}

/// `NGROUPS_MAX`
#[cfg(target_os = "macos")]
const GROUPS_MAX: usize = 16;

/// The groups of a user as the user database has them; the helper may wait for a directory server, the
/// supervisor may not.
#[cfg(target_os = "linux")]
fn database_groups(name: &str, group: Gid) -> Step<Vec<Gid>> {
    let failed = |error: io::Error| StartFault::new("groups", format_args!("groups of user {name}"), &error);
    let text = CString::new(name).map_err(|error| failed(error.into()))?;
    nix::unistd::getgrouplist(&text, group).map_err(|errno| failed(errno.into()))
}

/// See the other. Beyond the 16 that a process can have, those that come first in the database count.
#[cfg(target_os = "macos")]
fn database_groups(name: &str, group: Gid) -> Step<Vec<Gid>> {
    let failed = |error: io::Error| StartFault::new("groups", format_args!("groups of user {name}"), &error);
    let text = CString::new(name).map_err(|error| failed(error.into()))?;
    let base = group.as_raw().cast_signed();
    let mut groups = [0; GROUPS_MAX];
    let mut count = libc::c_int::try_from(GROUPS_MAX).unwrap_or(0);
    // SAFETY: the name ends in a NUL, and the buffer has room for `count`. Where there are more, it is filled and
    // the result is -1 (`getgrouplist(3)`).
    unsafe { libc::getgrouplist(text.as_ptr(), base, groups.as_mut_ptr(), &raw mut count) };
    let count = usize::try_from(count).unwrap_or(0).min(GROUPS_MAX);
    Ok(groups[..count].iter().map(|gid| Gid::from_raw(gid.cast_unsigned())).collect())
}
