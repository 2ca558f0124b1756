//! Which file a path led to, so that another file in its place is told apart from it, and never changed in its place.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::sys::stat::Mode;
use nix::unistd::{Gid, Uid};

#[cfg(target_os = "linux")]
use super::linux;
use super::open_directory::Identity;

/// One file, of any kind. While this exists its device and inode are no other file's.
#[derive(Debug)]
pub struct Pin {
    identity: Identity,
    /// Open, so that the inode number is not given out again, and so that what is changed is this one.
    #[cfg(target_os = "linux")]
    handle: std::fs::File,
    #[cfg(target_os = "macos")]
    path: PathBuf,
}

impl Pin {
    /// The file that is at `path` now; a symbolic link is not followed.
    ///
    /// # Errors
    /// Any of `open(2)`.
    #[cfg(target_os = "linux")]
    pub fn at(path: &Path) -> io::Result<Self> {
        use std::os::unix::fs::OpenOptionsExt;
        let mut options = std::fs::OpenOptions::new();
        Self::of(options.read(true).custom_flags(libc::O_PATH | libc::O_NOFOLLOW).open(path)?)
    }

    /// See the other. Sockets cannot be opened here, and need not be: APFS never gives a number out again, and
    /// HFS+ only after four billion files.
    #[cfg(target_os = "macos")]
    pub fn at(path: &Path) -> io::Result<Self> {
        let found = std::fs::symlink_metadata(path)?;
        Ok(Self { identity: (found.dev(), found.ino()), path: path.to_owned() })
    }

    /// The file that is open here.
    ///
    /// # Errors
    /// Any of `fstat(2)`.
    #[cfg(target_os = "linux")]
    pub(super) fn of(handle: std::fs::File) -> io::Result<Self> {
        let found = handle.metadata()?;
        Ok(Self { identity: (found.dev(), found.ino()), handle })
    }

    /// Which one it is.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// Whether the path leads to this file.
    pub fn is_at(&self, path: &Path) -> bool {
        let there = std::fs::symlink_metadata(path);
        there.is_ok_and(|there| self.identity == (there.dev(), there.ino()))
    }

    /// A path that leads to this file as long as this exists, whatever is put in its place: it may be gone from `path`.
    #[cfg(target_os = "linux")]
    pub fn reach(&self, path: &Path) -> PathBuf {
        let own = {
            use std::os::fd::AsFd;
            linux::path_of_fd(self.handle.as_fd())
        };
        if own.exists() { own } else { path.to_owned() }
    }

    /// See the other. Here nothing leads to it but the path itself.
    #[cfg(target_os = "macos")]
    pub fn reach(&self, path: &Path) -> PathBuf {
        path.to_owned()
    }

    /// Gives this file another owner, wherever it is by now.
    ///
    /// # Errors
    /// Any of `fchownat(2)`.
    #[cfg(target_os = "linux")]
    pub fn set_owner(&self, uid: Option<Uid>, gid: Option<Gid>) -> io::Result<()> {
        Ok(nix::unistd::fchownat(&self.handle, "", uid, gid, nix::fcntl::AtFlags::AT_EMPTY_PATH)?)
    }

    /// Gives this file another mode, wherever it is by now. Not for symbolic links, which have none.
    ///
    /// # Errors
    /// Any of `fchmodat2(2)` and `chmod(2)`.
    #[cfg(target_os = "linux")]
    pub fn set_mode(&self, mode: Mode) -> io::Result<()> {
        use std::os::fd::AsFd;
        linux::set_mode_of_path(self.handle.as_fd(), mode)
    }

    /// See the other. Between the look and the call another file can be put in its place: Darwin has no call that takes
    /// an open socket's file.
    #[cfg(target_os = "macos")]
    pub fn set_owner(&self, uid: Option<Uid>, gid: Option<Gid>) -> io::Result<()> {
        use nix::fcntl::{AT_FDCWD, AtFlags};
        self.must_be_there()?;
        Ok(nix::unistd::fchownat(AT_FDCWD, &self.path, uid, gid, AtFlags::AT_SYMLINK_NOFOLLOW)?)
    }

    /// See the other.
    #[cfg(target_os = "macos")]
    pub fn set_mode(&self, mode: Mode) -> io::Result<()> {
        use nix::fcntl::AT_FDCWD;
        use nix::sys::stat::{FchmodatFlags, fchmodat};
        self.must_be_there()?;
        Ok(fchmodat(AT_FDCWD, &self.path, mode, FchmodatFlags::NoFollowSymlink)?)
    }

    #[cfg(target_os = "macos")]
    fn must_be_there(&self) -> io::Result<()> {
        self.is_at(&self.path).then_some(()).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_in_place_of_another_is_not_that() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("file");
        std::fs::write(&path, "").unwrap();
        let pin = Pin::at(&path).unwrap();
        assert!(pin.is_at(&path));
        for _ in 0..10 {
            std::fs::remove_file(&path).unwrap();
            assert!(!pin.is_at(&path));
            std::fs::write(&path, "").unwrap();
            assert!(!pin.is_at(&path), "its number is not given out again");
        }
    }
}
