//! Who has a port that we cannot have, on Linux; for the words of an error, so it may take a few milliseconds.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use super::{Holder, Kind};

/// A process that listens (TCP) or is bound (UDP) where a socket with this address cannot be: at the same port, and at
/// the same address or at all of them. `None`: there is none, or we may not look into it, or this system has no
/// `/proc/net`.
pub fn holder(address: SocketAddr, kind: Kind) -> Option<Holder> {
    let tables = match kind {
        Kind::Stream => ["/proc/net/tcp", "/proc/net/tcp6"],
        _ => ["/proc/net/udp", "/proc/net/udp6"],
    };
    let inode = tables.iter().find_map(|table| {
        let text = std::fs::read_to_string(table).ok()?;
        text.lines().skip(1).find_map(|line| inode_of(line, address, kind))
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

/// Whether a process has a Unix socket open that is bound to this path, although it refuses connections: no,
/// since on Linux a socket that listens does not refuse them.
pub fn is_bound_by_somebody(_path: &Path) -> bool {
    false
}

/// The tenth column, where the second is in the way of `address` and the fourth says that it listens.
fn inode_of(line: &str, address: SocketAddr, kind: Kind) -> Option<u64> {
    const LISTENS: &str = "0A";
    let columns: Vec<&str> = line.split_ascii_whitespace().collect();
    let (ip, port) = columns.get(1)?.split_once(':')?;
    let is_there =
        u16::from_str_radix(port, 16).ok()? == address.port() && overlaps(ip_of(ip)?, address.ip());
    if !is_there || (kind == Kind::Stream && *columns.get(3)? != LISTENS) {
        return None;
    }
    columns.get(9)?.parse().ok()
}

/// Words of 32 bits in the machine's own order (`proc_pid_net(5)`).
fn ip_of(text: &str) -> Option<IpAddr> {
    let word = |at: usize| Some(u32::from_str_radix(text.get(at..at + 8)?, 16).ok()?.to_ne_bytes());
    match text.len() {
        8 => Some(IpAddr::from(word(0)?)),
        32 => {
            let words = [word(0)?, word(8)?, word(16)?, word(24)?];
            let mut bytes = [0; 16];
            bytes.iter_mut().zip(words.iter().flatten()).for_each(|(to, from)| *to = *from);
            Some(IpAddr::from(bytes).to_canonical())
        }
        _ => None,
    }
}

fn overlaps(a: IpAddr, b: IpAddr) -> bool {
    a == b || a.is_unspecified() || b.is_unspecified()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_as_the_kernel_writes_it() {
        let little = cfg!(target_endian = "little");
        let text = if little { "0100007F" } else { "7F000001" };
        assert_eq!(ip_of(text), Some("127.0.0.1".parse().unwrap()));
        assert_eq!(ip_of(&"0".repeat(32)), Some("::".parse().unwrap()));
        assert_eq!(ip_of("0100"), None);
    }

    #[test]
    fn the_holder_is_who_has_this_address_and_not_another_with_the_port() {
        let ours = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = ours.local_addr().unwrap();
        assert_eq!(holder(address, Kind::Stream).map(|holder| holder.pid), Some(std::process::id()));
        let all = SocketAddr::from(([0, 0, 0, 0], address.port()));
        assert_eq!(holder(all, Kind::Stream).map(|holder| holder.pid), Some(std::process::id()));
        let other = SocketAddr::from(([127, 9, 8, 7], address.port()));
        assert_eq!(holder(other, Kind::Stream), None);
    }
}
