//! From a path to the directory that it leads to, step by step, so that nobody leads us where he cannot go himself.
//!
//! The rule is that of `systemd-tmpfiles(8)`: whoever could have put a link there must own what it leads to. The links
//! of root and of our own user are followed wherever they lead.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{Mode, SFlag, fstat, fstatat, mkdirat};

use super::open_directory::{DIRECTORY, is_trusted};

/// As many links as the kernel follows in one path (`path_resolution(7)`).
const LINKS_MAX: usize = 40;

/// What happens where a directory is not there.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    IsAnError,
    /// With 0755 less the umask.
    IsMade,
}

enum Step {
    Root,
    Up,
    To(OsString),
    /// A link of this user's, here, ends at the step before.
    LinkEnds(u32, PathBuf),
}

/// Walks there.
pub(super) fn to(path: &Path, missing: Missing) -> io::Result<OwnedFd> {
    let mut walk = Walk { at: open(AT_FDCWD, ".")?, seen: PathBuf::new(), ahead: Vec::new(), links: 0 };
    walk.plan(path);
    while let Some(step) = walk.ahead.pop() {
        match step {
            Step::Root => walk.enter("/".as_ref(), open(AT_FDCWD, "/")?),
            Step::Up => walk.enter("..".as_ref(), open(&walk.at, "..")?),
            Step::To(name) => walk.step(&name, missing)?,
            Step::LinkEnds(owner, link) => walk.must_belong_to(owner, &link)?,
        }
    }
    Ok(walk.at)
}

struct Walk {
    at: OwnedFd,
    /// The way here, for messages.
    seen: PathBuf,
    /// The next one last.
    ahead: Vec<Step>,
    links: usize,
}

impl Walk {
    fn plan(&mut self, path: &Path) {
        let steps = path.components().rev().filter_map(|component| match component {
            Component::RootDir => Some(Step::Root),
            Component::ParentDir => Some(Step::Up),
            Component::Normal(name) => Some(Step::To(name.to_owned())),
            Component::CurDir | Component::Prefix(_) => None,
        });
        self.ahead.extend(steps);
    }

    fn enter(&mut self, name: &OsStr, directory: OwnedFd) {
        self.seen.push(name);
        self.at = directory;
    }

    fn step(&mut self, name: &OsStr, missing: Missing) -> io::Result<()> {
        match fstatat(&self.at, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(found) if kind(found.st_mode) == SFlag::S_IFLNK => return self.follow(name, found.st_uid),
            Err(Errno::ENOENT) if missing == Missing::IsMade => {
                match mkdirat(&self.at, name, Mode::from_bits_truncate(0o755)) {
                    Ok(()) | Err(Errno::EEXIST) => {}
                    Err(errno) => return Err(errno.into()),
                }
            }
            Ok(_) => {}
            Err(errno) => return Err(errno.into()),
        }
        let next = openat(&self.at, name, DIRECTORY | OFlag::O_NOFOLLOW, Mode::empty())?;
        self.enter(name, next);
        Ok(())
    }

    fn follow(&mut self, name: &OsStr, maker: u32) -> io::Result<()> {
        self.links += 1;
        if self.links > LINKS_MAX {
            return Err(Errno::ELOOP.into());
        }
        let here = fstat(&self.at)?.st_uid;
        // Who owns a directory can give its names to any link, one of root's making, too.
        let doubtful = [maker, here].into_iter().find(|uid| !is_trusted(*uid));
        if let Some(owner) = doubtful {
            self.ahead.push(Step::LinkEnds(owner, self.seen.join(name)));
        }
        if has_magic_links(&self.at) {
            let next = openat(&self.at, name, DIRECTORY, Mode::empty())?;
            self.enter(name, next);
            return Ok(());
        }
        let target = readlinkat(&self.at, name)?;
        self.plan(Path::new(&target));
        Ok(())
    }

    fn must_belong_to(&self, owner: u32, link: &Path) -> io::Result<()> {
        let found = fstat(&self.at)?.st_uid;
        if found == owner {
            return Ok(());
        }
        let text = format!(
            "symbolic link {} is in the hands of uid {owner} and leads to a directory of uid {found}: not followed",
            link.display()
        );
        Err(io::Error::new(io::ErrorKind::InvalidInput, text))
    }
}

fn open(at: impl std::os::fd::AsFd, path: &str) -> io::Result<OwnedFd> {
    Ok(openat(at, path, DIRECTORY, Mode::empty())?)
}

/// The kind of a file, from its mode.
fn kind(mode: libc::mode_t) -> SFlag {
    SFlag::from_bits_truncate(mode & SFlag::S_IFMT.bits())
}

/// The links of proc lead where their texts do not (`proc(5)`), and only the kernel makes them.
#[cfg(target_os = "linux")]
fn has_magic_links(directory: &OwnedFd) -> bool {
    nix::sys::statfs::fstatfs(directory)
        .is_ok_and(|found| found.filesystem_type() == nix::sys::statfs::PROC_SUPER_MAGIC)
}

/// There are none.
#[cfg(target_os = "macos")]
fn has_magic_links(_directory: &OwnedFd) -> bool {
    false
}
