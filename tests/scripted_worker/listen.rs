//! The sockets that this worker was given (`sd_listen_fds(3)`), and accepting from them.
//!
//! A listening socket is shared with other workers, so nothing about it may be changed, `O_NONBLOCK`
//! included: accepting blocks. To end, the accepting thread is therefore signalled until it has noticed.

use std::io;
use std::mem::MaybeUninit;
use std::net::TcpStream;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::thread::JoinHandleExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::http;
use crate::identity;
use crate::signals;

const FIRST_FD: RawFd = 3;

/// The listening sockets; none where `LISTEN_PID` is not our own pid.
///
/// # Errors
///
/// Says why `LISTEN_FDS` cannot be believed.
pub(crate) fn take_sockets() -> Result<Vec<OwnedFd>, String> {
    let Ok(count) = std::env::var("LISTEN_FDS") else { return Ok(Vec::new()) };
    let count: i32 = count.parse().map_err(|_| format!("LISTEN_FDS={count} is no number"))?;
    match std::env::var("LISTEN_PID") {
        Ok(pid) if pid == std::process::id().to_string() => {}
        Ok(pid) => return Err(format!("LISTEN_PID={pid} is not {}", std::process::id())),
        Err(_) if std::env::var_os("LISTEN_PID_MAY_BE_ABSENT").is_some() => {}
        Err(_) => return Err("LISTEN_PID is not set".to_owned()),
    }
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    if names.split(':').count() != usize::try_from(count).unwrap_or(0) {
        return Err(format!("LISTEN_FDNAMES={names} does not name {count} sockets"));
    }
    // SAFETY: `LISTEN_FDS` gives these fds to this process, and they are taken once.
    Ok((FIRST_FD..FIRST_FD + count).map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }).collect())
}

/// Threads that accept, or answer datagrams.
pub(crate) struct Acceptors {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Acceptors {
    /// Accepts from each socket that listens, and answers each datagram on the others with who we are.
    pub(crate) fn start(sockets: &[OwnedFd], server: &Arc<http::Server>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let threads = sockets
            .iter()
            .map(|socket| {
                let socket = socket.try_clone().expect("a free fd");
                let (stop, server) = (Arc::clone(&stop), Arc::clone(server));
                std::thread::spawn(move || match is_listening(socket.as_raw_fd()) {
                    true => accept_all(&socket, &stop, &server),
                    false => answer_all(socket, &stop),
                })
            })
            .collect();
        Self { stop, threads }
    }

    /// Returns once no thread accepts any more. What was accepted is in the server's hands then.
    pub(crate) fn stop(self) {
        self.stop.store(true, Ordering::SeqCst);
        for thread in self.threads {
            while !thread.is_finished() {
                // SAFETY: the handle is not joined yet, so the thread's id is still its own.
                unsafe { libc::pthread_kill(thread.as_pthread_t(), libc::SIGUSR1) };
                std::thread::park_timeout(Duration::from_micros(200));
            }
            let _ = thread.join();
        }
    }
}

fn accept_all(socket: &OwnedFd, stop: &AtomicBool, server: &Arc<http::Server>) {
    while !stop.load(Ordering::SeqCst) {
        match accept(socket) {
            Ok(connection) => server.serve(connection),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                signals::wait(&[socket.as_raw_fd()], Some(Duration::from_millis(50)));
            }
            // The connection was reset while it waited, or a signal came.
            Err(error)
                if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted) => {}
            Err(error) => {
                eprintln!("scripted_worker: accept: {error}");
                return;
            }
        }
    }
}

fn answer_all(socket: OwnedFd, stop: &AtomicBool) {
    let socket = socket2::Socket::from(socket);
    let mut buffer = [MaybeUninit::uninit(); 2048];
    while !stop.load(Ordering::SeqCst) {
        match socket.recv_from(&mut buffer) {
            // A sender without an address wants no answer.
            Ok((_, from)) => drop(socket.send_to(identity::line().as_bytes(), &from)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                signals::wait(&[socket.as_raw_fd()], Some(Duration::from_millis(50)));
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                eprintln!("scripted_worker: datagram: {error}");
                return;
            }
        }
    }
}

/// The next connection. Its kind does not matter: reading and writing are the same for all stream sockets.
fn accept(socket: &OwnedFd) -> io::Result<TcpStream> {
    // SAFETY: the address is not asked for; the result is checked before it is owned.
    unsafe {
        let fd =
            libc::accept4(socket.as_raw_fd(), std::ptr::null_mut(), std::ptr::null_mut(), libc::SOCK_CLOEXEC);
        if fd < 0 { Err(io::Error::last_os_error()) } else { Ok(TcpStream::from_raw_fd(fd)) }
    }
}

/// Whether `SO_ACCEPTCONN` says that the socket listens.
pub(crate) fn is_listening(socket: RawFd) -> bool {
    let mut value: libc::c_int = 0;
    let mut length = libc::socklen_t::try_from(size_of::<libc::c_int>()).expect("four");
    // SAFETY: the pointers are to locals of the size that is given.
    let result = unsafe {
        libc::getsockopt(
            socket,
            libc::SOL_SOCKET,
            libc::SO_ACCEPTCONN,
            (&raw mut value).cast(),
            &raw mut length,
        )
    };
    result == 0 && value != 0
}
