//! Who has an address that we cannot have, on macOS: the fds of all processes that we may look into are looked
//! at. For the words of an error, and before a file is removed, so it may take a few milliseconds.

use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::info_macos::{Info, info_of, sockets_of};
use super::{Holder, Kind};
use crate::os::macos;

/// A process that listens on the port of this address (TCP) or has it bound (UDP), at whatever address of its own.
/// `None`: there is none, or we may not look into it.
pub fn holder(address: SocketAddr, kind: Kind) -> Option<Holder> {
    let (wanted, listens) = match kind {
        Kind::Stream => (libc::SOCK_STREAM, true),
        _ => (libc::SOCK_DGRAM, false),
    };
    let pid = find(|info| {
        let accepts = i32::from(info.options) & libc::SO_ACCEPTCONN != 0;
        let is_inet = matches!(info.family, libc::AF_INET | libc::AF_INET6);
        is_inet && info.kind == wanted && (accepts || !listens) && info.local_port() == address.port()
    })?;
    Some(Holder { pid, name: name(pid) })
}

/// Whether a process has a Unix socket open that is bound to this path, although it refuses connections: on
/// macOS one with a full queue does.
pub fn is_bound_by_somebody(path: &Path) -> bool {
    let wanted = path.as_os_str().as_bytes();
    find(|info| info.family == libc::AF_UNIX && info.local_path() == wanted).is_some()
}

fn find(is_it: impl Fn(&Info) -> bool) -> Option<u32> {
    let has_it =
        |pid: &u32| sockets_of(*pid).into_iter().any(|fd| info_of(*pid, fd).is_ok_and(|info| is_it(&info)));
    macos::all_pids().ok()?.into_iter().find(has_it)
}

/// What `ps` calls it.
fn name(pid: u32) -> String {
    let Some(process) = macos::process(pid) else { return String::new() };
    let bytes = process.pbsi_comm.iter().map(|letter| letter.cast_unsigned()).take_while(|byte| *byte != 0);
    String::from_utf8_lossy(&bytes.collect::<Vec<u8>>()).into_owned()
}
