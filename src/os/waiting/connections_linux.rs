//! The connections of a listener, by their inodes: `/proc/net/tcp`, `tcp6` and `unix`.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};

use super::Awaited;
use crate::os::socket::Local;

/// What of each table is read. One line is some 150 bytes.
const BYTES_MAX: u64 = 4 * 1024 * 1024;
/// `TCP_ESTABLISHED`, and `TCP_CLOSE_WAIT`: the client has said all that it will.
const TCP_OPEN: [&str; 2] = ["01", "08"];
/// `SS_CONNECTED`
const UNIX_OPEN: &str = "03";

/// The inodes of the connections that were made to a listener, in our network namespace. Nothing for one of another family.
pub(super) fn connections(listener: &Awaited) -> BTreeSet<u64> {
    match &listener.local {
        Local::Inet(address) => {
            let port = format!(":{:04X}", address.port());
            let both = ["/proc/net/tcp", "/proc/net/tcp6"];
            both.iter().flat_map(|table| lines(table)).filter_map(|line| tcp(&line, &port)).collect()
        }
        Local::Path(path) => path.to_str().map(unix_of).unwrap_or_default(),
        Local::Abstract(name) => unix_of(&format!("@{}", String::from_utf8_lossy(name))),
        Local::Other => BTreeSet::new(),
    }
}

fn unix_of(name: &str) -> BTreeSet<u64> {
    lines("/proc/net/unix").filter_map(|line| unix(&line, name)).collect()
}

fn lines(table: &str) -> impl Iterator<Item = String> + use<> {
    let file = File::open(table).ok();
    file.into_iter().flat_map(|file| BufReader::new(file.take(BYTES_MAX)).lines().map_while(Result::ok))
}

/// `sl local_address rem_address st tx:rx tr:when retrnsmt uid timeout inode`
fn tcp(line: &str, port: &str) -> Option<u64> {
    let mut words = line.split_whitespace().skip(1);
    let (local, state) = (words.next()?, words.nth(1)?);
    let is_one = local.ends_with(port) && TCP_OPEN.contains(&state);
    is_one.then(|| words.nth(5)?.parse().ok())?
}

/// `Num RefCount Protocol Flags Type St Inode Path`; the end that was accepted has the listener's path.
fn unix(line: &str, name: &str) -> Option<u64> {
    let mut words = line.split_whitespace().skip(5);
    let (state, inode) = (words.next()?, words.next()?);
    let is_one = state == UNIX_OPEN && words.next() == Some(name);
    is_one.then(|| inode.parse().ok())?
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd;
    use std::os::unix::net::{UnixListener, UnixStream};

    use nix::sys::stat::fstat;

    use super::*;

    fn inode(fd: impl AsFd) -> u64 {
        fstat(fd).unwrap().st_ino
    }

    #[test]
    fn the_accepted_end_of_a_connection_is_found_and_the_other_is_not() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        let found = connections(&Awaited::of(&listener).unwrap());
        assert!(found.contains(&inode(&accepted)) && !found.contains(&inode(&client)), "{found:?}");
    }

    #[test]
    fn so_it_is_on_a_unix_socket() {
        let scratch = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(scratch.path().join("s")).unwrap();
        let client = UnixStream::connect(scratch.path().join("s")).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        let found = connections(&Awaited::of(&listener).unwrap());
        assert_eq!(found, BTreeSet::from([inode(&accepted)]), "and not {}", inode(&client));
    }
}
