//! Who has a port that we cannot have; for the words of an error, so it may take a few milliseconds.

use std::path::Path;

use super::Kind;

/// A process that has a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// One of those that have it.
    pub pid: u32,
    /// What `ps` calls it.
    pub name: String,
}

/// A process that listens on this port (TCP) or has it bound (UDP), whatever the address. `None`: there is
/// none, or we may not look into it, or this system has no `/proc/net`.
pub fn holder(port: u16, kind: Kind) -> Option<Holder> {
    let tables = match kind {
        Kind::Stream => ["/proc/net/tcp", "/proc/net/tcp6"],
        _ => ["/proc/net/udp", "/proc/net/udp6"],
    };
    let inode = tables.iter().find_map(|table| {
        let text = std::fs::read_to_string(table).ok()?;
        text.lines().skip(1).find_map(|line| inode_of(line, port, kind))
    })?;
    let target = format!("socket:[{inode}]");
    std::fs::read_dir("/proc").ok()?.flatten().find_map(|process| {
        let pid: u32 = process.file_name().to_str()?.parse().ok()?;
        let has_it = |link: std::fs::DirEntry| {
            std::fs::read_link(link.path()).is_ok_and(|leads| leads == Path::new(&target))
        };
        if !std::fs::read_dir(process.path().join("fd")).ok()?.flatten().any(has_it) {
            return None;
        }
        let name = std::fs::read_to_string(process.path().join("comm")).ok()?.trim().to_owned();
        Some(Holder { pid, name })
    })
}

/// The tenth column, where the second ends in the port and the fourth says that it listens.
fn inode_of(line: &str, port: u16, kind: Kind) -> Option<u64> {
    const LISTENS: &str = "0A";
    let columns: Vec<&str> = line.split_ascii_whitespace().collect();
    let local = u16::from_str_radix(columns.get(1)?.rsplit(':').next()?, 16).ok()?;
    if local != port || (kind == Kind::Stream && *columns.get(3)? != LISTENS) {
        return None;
    }
    columns.get(9)?.parse().ok()
}
