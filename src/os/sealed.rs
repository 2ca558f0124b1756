//! Bytes in memory that can be passed on and never change again: a sealed `memfd_create(2)`.

use std::io;
use std::os::fd::OwnedFd;

/// A file without a name that holds `bytes`, with all seals set (`F_ADD_SEALS`, Linux 3.17), at its beginning,
/// close-on-exec. `name` is what `/proc/PID/fd` shows.
///
/// # Errors
/// `EMFILE`, `ENFILE`, `ENOMEM`; `ENOSYS` or `EPERM` where a filter of system calls forbids it.
#[cfg(target_os = "linux")]
pub(crate) fn sealed(name: &std::ffi::CStr, bytes: &[u8]) -> io::Result<OwnedFd> {
    use std::io::{Seek, Write};

    use nix::fcntl::{FcntlArg, SealFlag, fcntl};
    use nix::sys::memfd::{MFdFlags, memfd_create};

    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let mut file = std::fs::File::from(memfd_create(name, flags)?);
    file.write_all(bytes)?;
    file.rewind()?;
    let seals =
        SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_SEAL;
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
    Ok(file.into())
}

/// There is no such thing on this system.
///
/// # Errors
/// Always.
#[cfg(not(target_os = "linux"))]
pub(crate) fn sealed(_: &std::ffi::CStr, _: &[u8]) -> io::Result<OwnedFd> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn what_is_sealed_is_read_from_its_beginning_and_cannot_be_changed() {
        let mut file = std::fs::File::from(sealed(c"test", b"for ever").unwrap());
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "for ever");
        assert_eq!(file.write(b"x").unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        assert!(file.set_len(0).is_err());
    }
}
