//! Which file a path led to, so that another file in its place is told apart from it.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// One file, of any kind. While this exists its device and inode are no other file's.
#[derive(Debug)]
pub struct Pin {
    device: u64,
    inode: u64,
    /// Open, so that the inode number is not given out again.
    #[cfg(target_os = "linux")]
    _handle: std::fs::File,
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
        let handle = options.read(true).custom_flags(libc::O_PATH | libc::O_NOFOLLOW).open(path)?;
        let found = handle.metadata()?;
        Ok(Self { device: found.dev(), inode: found.ino(), _handle: handle })
    }

    /// See the other. Sockets cannot be opened here, and need not be: APFS never gives a number out again, and
    /// HFS+ only after four billion files.
    #[cfg(target_os = "macos")]
    pub fn at(path: &Path) -> io::Result<Self> {
        let found = std::fs::symlink_metadata(path)?;
        Ok(Self { device: found.dev(), inode: found.ino() })
    }

    /// Whether the path leads to this file.
    pub fn is_at(&self, path: &Path) -> bool {
        let there = std::fs::symlink_metadata(path);
        there.is_ok_and(|there| (self.device, self.inode) == (there.dev(), there.ino()))
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
