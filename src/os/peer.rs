//! Who is at the other end of a Unix stream socket.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{getsockopt, sockopt};

use super::foreign::Guarded;
use super::poll::{Entry, poll};
use super::process::Pidfd;

/// The process that connected, as it was then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// 0 where its pid has no number here (another pid namespace).
    pub pid: u32,
    /// Its effective user.
    pub uid: u32,
    /// Its effective group.
    pub gid: u32,
    /// Its supplementary groups; on macOS at most 16, the effective one among them.
    pub groups: Vec<u32>,
}

/// `SO_PEERCRED` and `SO_PEERGROUPS` (Linux 4.13); on macOS `LOCAL_PEERCRED` and `LOCAL_PEERPID`
/// (`unix(4)`), which are of the same moment.
///
/// # Errors
/// Where the socket is not a connected Unix stream socket.
#[cfg(target_os = "linux")]
pub fn peer(socket: impl AsFd) -> io::Result<Peer> {
    let who = getsockopt(&socket, sockopt::PeerCredentials)?;
    let groups = peer_groups(&socket)?;
    Ok(Peer { pid: u32::try_from(who.pid()).unwrap_or(0), uid: who.uid(), gid: who.gid(), groups })
}

/// See the other. nix has this structure, too, and gives all of its places for groups: those that are not in use say 0,
/// which is a group.
#[cfg(target_os = "macos")]
pub fn peer(socket: impl AsFd) -> io::Result<Peer> {
    let pid = getsockopt(&socket, sockopt::LocalPeerPid)?;
    // SAFETY: all bytes zero are a valid xucred: it holds numbers only.
    let mut who: libc::xucred = unsafe { std::mem::zeroed() };
    let mut bytes = libc::socklen_t::try_from(size_of_val(&who)).unwrap_or(0);
    // SAFETY: the buffer has `bytes` bytes.
    let done = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_LOCAL,
            libc::LOCAL_PEERCRED,
            (&raw mut who).cast(),
            &raw mut bytes,
        )
    };
    Errno::result(done)?;
    let groups = in_use(&who.cr_groups, who.cr_ngroups);
    // The first group is the effective one.
    let gid = groups.first().copied().unwrap_or(u32::MAX);
    Ok(Peer { pid: u32::try_from(pid).unwrap_or(0), uid: who.cr_uid, gid, groups })
}

/// The process at the other end, to wait for its end: of a connection, the one that listens. Within a tokio runtime with I/O.
///
/// # Errors
/// Where it is gone already; where it is in another pid namespace and the kernel is older than 6.5.
#[cfg(target_os = "linux")]
pub fn process(socket: impl AsFd) -> io::Result<Pidfd> {
    let pid = u32::try_from(getsockopt(&socket, sockopt::PeerCredentials)?.pid()).unwrap_or(0);
    match super::linux::peer_pidfd(socket.as_fd()) {
        Ok(pidfd) => Pidfd::from_fd(pidfd, pid),
        Err(error) if error.raw_os_error() == Some(libc::ENOPROTOOPT) && pid > 0 => Pidfd::open(pid),
        Err(error) => Err(error),
    }
}

/// Only a child can be held here, and the daemon is not one.
///
/// # Errors
/// Always.
#[cfg(target_os = "macos")]
pub fn process(_socket: impl AsFd) -> io::Result<Pidfd> {
    Err(io::ErrorKind::Unsupported.into())
}

/// The other end is closed, and not only its half for writing (`shutdown(2)`): nobody can read there any more.
///
/// On macOS a half that was shut down may count as all of it.
pub fn has_left(socket: impl AsFd) -> bool {
    // Asked for nothing, `poll` reports the end all the same.
    let mut entries = [Entry::either(socket.as_fd(), false, false)];
    poll(&mut entries, Some(Duration::ZERO)).unwrap_or(false) && entries[0].is_readable()
}

/// Returns when [`has_left`] is so. Needs a tokio runtime. On macOS, where nothing tells of that alone, never.
///
/// # Errors
/// Any of `epoll_ctl(2)`.
pub async fn leaves(socket: Arc<Guarded<OwnedFd>>) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        use tokio::io::Interest;
        use tokio::io::unix::AsyncFd;
        // Of what a stream socket can report, only its end counts as urgent: not bytes, and not half of its end.
        // SAFETY: a Guarded keeps its fd, open and under one number, until its last owner drops it.
        let socket = unsafe { AsyncFd::register_with_interest(socket, Interest::PRIORITY) }?;
        socket.ready(Interest::PRIORITY).await.map(drop)
    }
    #[cfg(target_os = "macos")]
    {
        let _socket = socket;
        std::future::pending().await
    }
}

/// The groups of a `struct xucred`: the first ones, as many as it says.
#[cfg(any(target_os = "macos", test))]
fn in_use(places: &[u32; 16], count: i16) -> Vec<u32> {
    let count = usize::try_from(count).unwrap_or(0).min(places.len());
    places[..count].to_vec()
}

#[cfg(target_os = "linux")]
fn peer_groups(socket: impl AsFd) -> io::Result<Vec<u32>> {
    let fd = socket.as_fd().as_raw_fd();
    let mut groups: Vec<u32> = vec![0; 64];
    loop {
        let mut bytes = libc::socklen_t::try_from(size_of_val(groups.as_slice())).unwrap_or(0);
        // SAFETY: the buffer has `bytes` bytes; the kernel writes no more and says how many.
        let done = unsafe {
            libc::getsockopt(
                fd,
                libc::SOL_SOCKET,
                libc::SO_PEERGROUPS,
                groups.as_mut_ptr().cast(),
                &raw mut bytes,
            )
        };
        let count = bytes as usize / size_of::<u32>();
        match Errno::result(done) {
            Err(Errno::ERANGE) if count > groups.len() => groups.resize(count, 0),
            Err(errno) => return Err(errno.into()),
            Ok(_) => {
                groups.truncate(count);
                return Ok(groups);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #[cfg(target_os = "linux")]
    use std::net::Shutdown;
    #[cfg(target_os = "linux")]
    use std::os::unix::net::{UnixListener, UnixStream};

    use super::*;

    #[cfg(target_os = "linux")]
    #[tokio::test(flavor = "current_thread")]
    async fn half_of_an_end_is_none() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut leaving = Box::pin(leaves(Arc::new(Guarded::new(ours.try_clone().unwrap().into()))));
        let soon = std::time::Duration::from_millis(20);
        std::io::Write::write_all(&mut &theirs, b"x").unwrap();
        theirs.shutdown(Shutdown::Write).unwrap();
        assert!(!has_left(&ours));
        assert!(tokio::time::timeout(soon, &mut leaving).await.is_err());
        drop(theirs);
        assert!(has_left(&ours));
        leaving.await.unwrap();
    }

    #[cfg(target_os = "linux")]
    #[tokio::test(flavor = "current_thread")]
    async fn the_process_that_listens_is_found_by_a_connection() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let _listener = UnixListener::bind(&path).unwrap();
        let process = process(UnixStream::connect(&path).unwrap()).unwrap();
        assert_eq!(process.pid(), std::process::id());
        assert!(process.peek().unwrap().is_none());
    }

    #[test]
    fn places_for_groups_that_are_not_in_use_are_no_groups() {
        let mut places = [0; 16];
        places[..2].copy_from_slice(&[501, 20]);
        assert_eq!(in_use(&places, 2), [501, 20], "not group 0, which is wheel");
        assert_eq!(in_use(&places, 0), [0; 0]);
        assert_eq!(in_use(&places, -1), [0; 0]);
        assert_eq!(in_use(&places, 99).len(), 16);
    }

    #[test]
    fn the_other_end_of_our_own_pair_is_ourselves() {
        let (ours, _theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let peer = peer(&ours).unwrap();
        assert_eq!((peer.pid, peer.uid), (std::process::id(), nix::unistd::geteuid().as_raw()));
        // nix has no getgroups on macOS.
        #[cfg(target_os = "linux")]
        {
            let mut expected: Vec<u32> =
                nix::unistd::getgroups().unwrap().iter().map(|gid| gid.as_raw()).collect();
            let mut groups = peer.groups;
            groups.sort_unstable();
            expected.sort_unstable();
            assert_eq!(groups, expected);
        }
    }
}
