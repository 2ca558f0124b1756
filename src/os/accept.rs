//! Accepting from a listening socket that others share, without changing it: `accept4(2)`, `timer_create(2)`.
//!
//! `O_NONBLOCK` of a listening socket belongs to every process that has it, and on a blocking one `accept` waits where a sibling was
//! quicker. There is no `MSG_DONTWAIT` for it. So around an `accept` on a blocking socket stands a timer of the thread's own, that
//! interrupts it: `SIGURG`, which does nothing in programs that have no handler for it, gets one that does nothing.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::kind::is_nonblocking;

/// How long an accept waits for a connection that a sibling took, in nanoseconds: 20 ms.
#[cfg(target_os = "linux")]
const STOLEN_NS: libc::c_long = 20_000_000;

/// Accepts in one thread, the one that made it.
#[derive(Debug)]
pub struct Acceptor {
    #[cfg(target_os = "linux")]
    timer: Option<Timer>,
    /// It stays in its thread.
    _thread: std::marker::PhantomData<*const ()>,
}

impl Acceptor {
    /// For the calling thread.
    pub const fn new() -> Self {
        Self {
            #[cfg(target_os = "linux")]
            timer: None,
            _thread: std::marker::PhantomData,
        }
    }

    /// Takes one connection, close-on-exec and blocking, or nonblocking if wished. `None` where there is none, because a sibling took it. To be
    /// called when `poll(2)` says that there is one: on a blocking socket it waits 20 ms for it (macOS: until there is one).
    ///
    /// # Errors
    /// Any of `accept(2)` but `EAGAIN` and an interruption; `EAGAIN` of `timer_create(2)`.
    pub fn accept(&mut self, listener: BorrowedFd<'_>, nonblocking: bool) -> io::Result<Option<OwnedFd>> {
        let accepted = if is_nonblocking(listener)? {
            accept(listener, nonblocking)
        } else {
            self.accept_interrupted(listener, nonblocking)
        };
        match accepted {
            Ok(connection) => Ok(Some(connection)),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    #[cfg(target_os = "linux")]
    fn accept_interrupted(&mut self, listener: BorrowedFd<'_>, nonblocking: bool) -> io::Result<OwnedFd> {
        let timer = match &mut self.timer {
            Some(timer) => timer,
            none => none.insert(Timer::new()?),
        };
        timer.set(STOLEN_NS)?;
        let accepted = accept(listener, nonblocking);
        timer.set(0)?;
        accepted
    }

    #[cfg(target_os = "macos")]
    fn accept_interrupted(&mut self, listener: BorrowedFd<'_>, nonblocking: bool) -> io::Result<OwnedFd> {
        accept(listener, nonblocking)
    }
}

impl Default for Acceptor {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(target_os = "linux")]
fn accept(listener: BorrowedFd<'_>, nonblocking: bool) -> io::Result<OwnedFd> {
    let flags = libc::SOCK_CLOEXEC | if nonblocking { libc::SOCK_NONBLOCK } else { 0 };
    let none = std::ptr::null_mut();
    // SAFETY: null says that the peer's address is not wanted.
    let number = unsafe { libc::accept4(listener.as_raw_fd(), none, none.cast(), flags) };
    if number < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this fd, and nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// There is no `accept4`: the connection inherits the listener's mode, and gets the one that is wished.
#[cfg(target_os = "macos")]
fn accept(listener: BorrowedFd<'_>, nonblocking: bool) -> io::Result<OwnedFd> {
    let none = std::ptr::null_mut();
    // SAFETY: null says that the peer's address is not wanted.
    let number = unsafe { libc::accept(listener.as_raw_fd(), none, none.cast()) };
    if number < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this fd, and nobody else knows of it.
    let connection = unsafe { OwnedFd::from_raw_fd(number) };
    let mode = if nonblocking { libc::O_NONBLOCK } else { 0 };
    let one: libc::c_int = 1;
    // SAFETY: F_SETFD and F_SETFL take no pointers; the option takes one int, which is alive.
    unsafe {
        libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC);
        libc::fcntl(number, libc::F_SETFL, mode);
        libc::setsockopt(number, libc::SOL_SOCKET, libc::SO_NOSIGPIPE, (&raw const one).cast(), 4);
    }
    Ok(connection)
}

/// Interrupts the thread that made it.
#[cfg(target_os = "linux")]
#[derive(Debug)]
struct Timer(libc::timer_t);

#[cfg(target_os = "linux")]
impl Timer {
    fn new() -> io::Result<Self> {
        extern "C" fn nothing(_: libc::c_int) {}
        // SAFETY: all bytes zero are a valid sigaction, sigset_t and sigevent. The handler does nothing, so it may interrupt
        // anything; it is set without SA_RESTART, and only where the program has none. The mask is this thread's own.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            libc::sigaction(libc::SIGURG, std::ptr::null(), &raw mut action);
            if action.sa_sigaction == libc::SIG_DFL || action.sa_sigaction == libc::SIG_IGN {
                action = std::mem::zeroed();
                action.sa_sigaction = nothing as extern "C" fn(libc::c_int) as libc::sighandler_t;
                libc::sigaction(libc::SIGURG, &raw const action, std::ptr::null_mut());
            }
            let mut set: libc::sigset_t = std::mem::zeroed();
            libc::sigaddset(&raw mut set, libc::SIGURG);
            libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const set, std::ptr::null_mut());
            let mut event: libc::sigevent = std::mem::zeroed();
            event.sigev_notify = libc::SIGEV_THREAD_ID;
            event.sigev_signo = libc::SIGURG;
            event.sigev_notify_thread_id = libc::gettid();
            let mut timer: libc::timer_t = std::mem::zeroed();
            if libc::timer_create(libc::CLOCK_MONOTONIC, &raw mut event, &raw mut timer) < 0 {
                return Err(io::Error::last_os_error());
            }
            Ok(Self(timer))
        }
    }

    /// Interrupts after so long, and again and again until it is set to 0: the first may come before the call that it is for.
    fn set(&mut self, nanoseconds: libc::c_long) -> io::Result<()> {
        let span = libc::timespec { tv_sec: 0, tv_nsec: nanoseconds };
        let when = libc::itimerspec { it_interval: span, it_value: span };
        // SAFETY: the timer is ours until it is dropped, and `when` is alive.
        let done = unsafe { libc::timer_settime(self.0, 0, &raw const when, std::ptr::null_mut()) };
        if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

#[cfg(target_os = "linux")]
impl Drop for Timer {
    fn drop(&mut self) {
        // SAFETY: it is ours, and nobody uses it after this.
        unsafe { libc::timer_delete(self.0) };
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn a_connection_is_taken_in_the_mode_that_is_wished() {
        for nonblocking in [true, false] {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            listener.set_nonblocking(nonblocking).unwrap();
            let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let mut acceptor = Acceptor::new();
            let taken = acceptor.accept(listener.as_fd(), !nonblocking).unwrap().expect("one waits");
            assert_eq!(is_nonblocking(taken.as_fd()).unwrap(), !nonblocking);
            assert_eq!(
                is_nonblocking(listener.as_fd()).unwrap(),
                nonblocking,
                "the listener's mode is not ours"
            );
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn nobody_waits_for_a_connection_that_a_sibling_took() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut acceptor = Acceptor::new();
        for _ in 0..3 {
            assert!(acceptor.accept(listener.as_fd(), false).unwrap().is_none());
        }
        let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert!(acceptor.accept(listener.as_fd(), false).unwrap().is_some());
    }
}
