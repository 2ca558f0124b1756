//! A directory that is open, and what is in it by name.
//!
//! A path is looked up anew at each call, and whoever owns a directory on its way decides what it leads to: between two
//! calls of ours it can become a link to a file of root's. So a path is walked once, to the directory that is meant, and
//! everything else is done in that one, by a name without a slash, and never through a link.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, renameat};
use nix::sys::stat::{FileStat, Mode, fstat, fstatat, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::walk;

/// Opened without the right to read it, where the system can.
#[cfg(target_os = "linux")]
pub(super) const DIRECTORY: OFlag = OFlag::O_PATH.union(OFlag::O_DIRECTORY).union(OFlag::O_CLOEXEC);
/// See the other. macOS has no `O_PATH`.
#[cfg(target_os = "macos")]
pub(super) const DIRECTORY: OFlag = OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_CLOEXEC);

/// See the module.
#[derive(Debug)]
pub struct OpenDirectory {
    fd: OwnedFd,
    /// As it was given, for messages.
    path: PathBuf,
}

/// One file, wherever it is linked: its device and its inode. Another one can have the same after it is gone.
pub type Identity = (u64, u64);

impl OpenDirectory {
    /// Opens the directory at `path`. A symbolic link that another user made counts only where it leads to a directory
    /// of his own.
    ///
    /// # Errors
    /// Any of `openat(2)`; a link that leads out of what its owner has.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { fd: walk::to(path, walk::Missing::IsAnError)?, path: path.into() })
    }

    /// The same; what is missing of it is made, with 0755 less the umask.
    ///
    /// # Errors
    /// As [`open`](Self::open), and any of `mkdirat(2)`.
    pub fn open_or_make(path: &Path) -> io::Result<Self> {
        Ok(Self { fd: walk::to(path, walk::Missing::IsMade)?, path: path.into() })
    }

    /// The directory in which `path` is, and its name there.
    ///
    /// # Errors
    /// As [`open`](Self::open); `InvalidInput` where the path ends in no name.
    pub fn of(path: &Path) -> io::Result<(Self, &OsStr)> {
        let (parent, name) = path.parent().zip(path.file_name()).ok_or(io::ErrorKind::InvalidInput)?;
        Ok((Self::open(parent)?, name))
    }

    /// Where it is, as it was given.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A directory in this one.
    ///
    /// # Errors
    /// Any of `openat(2)`; `ENOTDIR` where it is something else, a link included.
    pub fn directory(&self, name: &OsStr) -> io::Result<Self> {
        match openat(&self.fd, name, DIRECTORY | OFlag::O_NOFOLLOW, Mode::empty()) {
            Ok(fd) => Ok(Self { fd, path: self.path.join(name) }),
            Err(Errno::ELOOP | Errno::EMLINK) => Err(Errno::ENOTDIR.into()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Makes a directory in this one; it is no error where something is there.
    ///
    /// # Errors
    /// Any other of `mkdirat(2)`.
    pub fn make_directory(&self, name: &OsStr, mode: Mode) -> io::Result<()> {
        match mkdirat(&self.fd, name, mode) {
            Ok(()) | Err(Errno::EEXIST) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// What this directory is.
    ///
    /// # Errors
    /// Any of `fstat(2)`.
    pub fn status(&self) -> io::Result<FileStat> {
        Ok(fstat(&self.fd)?)
    }

    /// Gives it another mode.
    ///
    /// # Errors
    /// Any of `fchmod(2)`.
    pub fn set_mode(&self, mode: Mode) -> io::Result<()> {
        #[cfg(target_os = "linux")]
        return super::linux::set_mode_of_path(self.fd.as_fd(), mode);
        #[cfg(target_os = "macos")]
        Ok(nix::sys::stat::fchmod(&self.fd, mode)?)
    }

    /// What is there under a name, and not where a link leads; `None`: nothing.
    ///
    /// # Errors
    /// Any other of `fstatat(2)`.
    pub fn look(&self, name: &OsStr) -> io::Result<Option<FileStat>> {
        match fstatat(&self.fd, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(found) => Ok(Some(found)),
            Err(Errno::ENOENT) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Opens a file in it, close-on-exec; a link is not followed.
    ///
    /// # Errors
    /// Any of `openat(2)`.
    pub fn open_file(&self, name: &OsStr, flags: OFlag, mode: Mode) -> io::Result<File> {
        let fd = openat(&self.fd, name, flags | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, mode)?;
        Ok(File::from(fd))
    }

    /// Gives what is under one name another, in place of what has that.
    ///
    /// # Errors
    /// Any of `renameat(2)`.
    pub fn rename(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        Ok(renameat(&self.fd, from, &self.fd, to)?)
    }

    /// Removes a name that is no directory's.
    ///
    /// # Errors
    /// Any of `unlinkat(2)`.
    pub fn remove(&self, name: &OsStr) -> io::Result<()> {
        Ok(unlinkat(&self.fd, name, UnlinkatFlags::NoRemoveDir)?)
    }

    /// Removes a name if it is this file's. No call does both at once: what is put there in between is removed in its
    /// place, and that is of somebody who may remove it himself.
    ///
    /// # Errors
    /// Any of `fstatat(2)` and `unlinkat(2)`; it is no error where another file is there, or none.
    pub fn remove_if(&self, name: &OsStr, file: Identity) -> io::Result<()> {
        match self.look(name)? {
            Some(found) if identity(&found) == file => self.remove(name),
            _ => Ok(()),
        }
    }

    /// Removes a directory in it that is empty.
    ///
    /// # Errors
    /// Any of `unlinkat(2)`.
    pub fn remove_directory(&self, name: &OsStr) -> io::Result<()> {
        Ok(unlinkat(&self.fd, name, UnlinkatFlags::RemoveDir)?)
    }

    /// The names that are in it.
    ///
    /// # Errors
    /// Any of `openat(2)` and `getdents(2)`.
    pub fn names(&self) -> io::Result<Vec<OsString>> {
        use std::os::unix::ffi::OsStrExt;
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let mut names = Vec::new();
        for entry in Dir::openat(&self.fd, ".", flags, Mode::empty())?.iter() {
            let entry = entry?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name != "." && name != ".." {
                names.push(name.to_owned());
            }
        }
        Ok(names)
    }
}

impl AsFd for OpenDirectory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Which file was looked at.
pub fn identity(found: &FileStat) -> Identity {
    // macOS has narrower types.
    #[allow(
        clippy::unnecessary_cast,
        clippy::useless_conversion,
        clippy::cast_sign_loss,
        reason = "see above"
    )]
    (found.st_dev as u64, u64::from(found.st_ino))
}

/// Whose it is: somebody's who can do without us whatever we could be led to.
pub fn is_trusted(uid: u32) -> bool {
    uid == 0 || uid == nix::unistd::geteuid().as_raw()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, lchown, symlink};

    use super::*;

    #[test]
    fn a_name_is_removed_only_while_it_is_that_files() {
        let scratch = tempfile::tempdir().unwrap();
        let directory = OpenDirectory::open(scratch.path()).unwrap();
        let (name, path) = (OsStr::new("file"), scratch.path().join("file"));
        std::fs::write(&path, "").unwrap();
        let ours = identity(&directory.look(name).unwrap().unwrap());
        std::fs::rename(&path, scratch.path().join("moved")).unwrap();
        directory.remove_if(name, ours).unwrap();
        std::fs::write(&path, "").unwrap();
        directory.remove_if(name, ours).unwrap();
        assert!(path.exists());
        directory.remove_if(OsStr::new("moved"), ours).unwrap();
        assert_eq!(directory.names().unwrap(), ["file"]);
    }

    #[test]
    fn what_is_done_stays_in_the_directory_that_was_opened() {
        let scratch = tempfile::tempdir().unwrap();
        let at = |name: &str| scratch.path().join(name);
        for name in ["a", "b"] {
            std::fs::create_dir(at(name)).unwrap();
            std::fs::write(at(name).join("file"), "").unwrap();
        }
        let directory = OpenDirectory::open(&at("a")).unwrap();
        std::fs::rename(at("a"), at("c")).unwrap();
        symlink(at("b"), at("a")).unwrap();
        directory.remove(OsStr::new("file")).unwrap();
        assert!(at("b/file").exists() && !at("c/file").exists());
    }

    #[test]
    fn a_link_of_a_stranger_leads_only_to_what_is_his_own() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        const HIM: u32 = 65534;
        let scratch = tempfile::tempdir().unwrap();
        let at = |name: &str| scratch.path().join(name);
        let own = |name: &str, uid| lchown(at(name), Some(uid), None).unwrap();
        for name in ["ours", "his", "his/own", "his/of-root"] {
            std::fs::create_dir(at(name)).unwrap();
        }
        own("his", HIM);
        own("his/own", HIM);
        for (to, link) in [("ours", "his/out"), ("his/own", "his/in"), ("ours", "his/of-roots-making")] {
            symlink(at(to), at(link)).unwrap();
            own(link, HIM);
        }
        own("his/of-roots-making", 0);
        symlink(at("his/own"), at("planted")).unwrap();
        symlink("own", at("his/relative")).unwrap();
        symlink(at("his/out"), at("round-about")).unwrap();
        let inode = |path: &Path| OpenDirectory::open(path).and_then(|opened| opened.status());
        let expected = |name: &str| std::fs::metadata(at(name)).unwrap().ino();
        for (path, leads) in [
            ("his/in", "his/own"),
            ("his/relative", "his/own"),
            ("planted", "his/own"),
            ("his/of-root", "his/of-root"),
            ("his/in/../own/.", "his/own"),
        ] {
            assert_eq!(inode(&at(path)).unwrap().st_ino, expected(leads), "{path}");
        }
        // A name in his directory is his to give to any link that there is.
        for path in ["his/out", "his/of-roots-making", "round-about"] {
            let error = OpenDirectory::open(&at(path)).unwrap_err().to_string();
            assert!(error.contains("symbolic link") && error.contains("uid 65534"), "{path}: {error}");
        }
        assert!(OpenDirectory::open(&at("ours")).unwrap().directory(OsStr::new("..")).is_ok());
        assert!(OpenDirectory::open(&at("his")).unwrap().directory(OsStr::new("out")).is_err());
    }

    #[test]
    fn links_that_lead_nowhere_or_in_circles_are_errors_and_proc_is_read() {
        let scratch = tempfile::tempdir().unwrap();
        let at = |name: &str| scratch.path().join(name);
        symlink("circle", at("circle")).unwrap();
        symlink("missing", at("dangling")).unwrap();
        let errno = |name: &str| OpenDirectory::open(&at(name)).unwrap_err().raw_os_error();
        assert_eq!(errno("circle"), Some(libc::ELOOP));
        assert_eq!(errno("dangling"), Some(libc::ENOENT));
        assert!(OpenDirectory::open(Path::new("")).is_ok() && OpenDirectory::open(Path::new("/..")).is_ok());
        assert!(OpenDirectory::open_or_make(&at("a/b/c")).is_ok() && at("a/b/c").is_dir());
        #[cfg(target_os = "linux")]
        {
            let here = OpenDirectory::open(Path::new("/proc/self/cwd")).unwrap().status().unwrap().st_ino;
            assert_eq!(here, std::fs::metadata(".").unwrap().ino());
        }
    }
}
