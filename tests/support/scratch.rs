//! A place for one test: a directory with a short path (a Unix socket's is at most 107 bytes) and addresses
//! that no other test has.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tempfile::TempDir;

/// A directory that is gone when its last holder is.
#[derive(Clone)]
pub struct Scratch(Arc<TempDir>);

impl Scratch {
    /// A new directory, which every user may look into.
    pub fn new() -> Self {
        use std::os::unix::fs::PermissionsExt;
        let directory =
            tempfile::Builder::new().prefix("ho.").tempdir_in("/tmp").expect("a directory in /tmp");
        std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755))
            .expect("our directory");
        Self(Arc::new(directory))
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// The path of `name` in it.
    pub fn join(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// Writes a file in it, such that a reader sees the old text or the new one.
    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let (path, draft) = (self.join(name), self.join(&format!("{name}.draft")));
        std::fs::write(&draft, text).expect("our directory");
        std::fs::rename(&draft, &path).expect("our directory");
        path
    }

    /// Writes a program in it.
    pub fn write_program(&self, name: &str, text: &str) -> PathBuf {
        use std::os::unix::fs::PermissionsExt;
        let path = self.write(name, text);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("our file");
        path
    }
}

/// Where a listener of a test listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// TCP.
    Tcp(SocketAddr),
    /// A Unix stream socket in the file system.
    Unix(PathBuf),
}

impl Address {
    /// A TCP address of its own. All of 127/8 is this machine, so each test gets an IP address, and cannot
    /// meet another test's port, nor one that the kernel gives to some client.
    pub fn tcp() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        loop {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let mixed =
                std::process::id().wrapping_mul(0x9e37_79b1).wrapping_add(number.wrapping_mul(0x85eb_ca6b));
            let [a, b, c, _] = mixed.to_be_bytes();
            let ip = Ipv4Addr::new(127, a.max(1), b, c.clamp(1, 254));
            let address = SocketAddr::from((ip, 8080));
            if TcpListener::bind(address).is_ok() {
                return Self::Tcp(address);
            }
        }
    }

    /// A Unix socket in `scratch`.
    pub fn unix(scratch: &Scratch, name: &str) -> Self {
        Self::Unix(scratch.join(name))
    }
}

impl fmt::Display for Address {
    /// As the configuration writes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "tcp://{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}
