//! SIGTERM as something to wait for: the handler closes the write end of a pipe, which wakes everything that
//! polls its read end, now and later.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd, RawFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

static WRITE_END: AtomicI32 = AtomicI32::new(-1);
static READ_END: OnceLock<OwnedFd> = OnceLock::new();

extern "C" fn on_term(_: libc::c_int) {
    let fd = WRITE_END.swap(-1, Ordering::SeqCst);
    if fd >= 0 {
        // SAFETY: `swap` gave this number to nobody else; `close` may be called in a signal handler.
        unsafe { libc::close(fd) };
    }
}

extern "C" fn do_nothing(_: libc::c_int) {}

/// From now on SIGTERM asks us to end, and SIGUSR1 only interrupts a system call.
pub(crate) fn catch_term() {
    let (read, write) = std::io::pipe().expect("a pipe");
    WRITE_END.store(OwnedFd::from(write).into_raw_fd(), Ordering::SeqCst);
    let _ = READ_END.set(OwnedFd::from(read));
    handle(libc::SIGTERM, on_term as *const () as libc::sighandler_t);
    handle(libc::SIGUSR1, do_nothing as *const () as libc::sighandler_t);
}

/// From now on SIGTERM does nothing.
pub(crate) fn ignore_term() {
    handle(libc::SIGTERM, libc::SIG_IGN);
}

/// From now on SIGTERM ends this process at once.
pub(crate) fn die_of_term() {
    handle(libc::SIGTERM, libc::SIG_DFL);
}

/// Readable (at its end) once we are asked to end.
pub(crate) fn term() -> BorrowedFd<'static> {
    READ_END.get().expect("catch_term came first").as_fd()
}

/// Whether we are asked to end.
pub(crate) fn asked_to_end() -> bool {
    wait(&[], Some(Duration::ZERO))
}

/// Waits until one of `fds` is readable, `timeout` has passed, or we are asked to end: true in that case.
pub(crate) fn wait(fds: &[RawFd], timeout: Option<Duration>) -> bool {
    let mut polled: Vec<libc::pollfd> = std::iter::once(term().as_raw_fd())
        .chain(fds.iter().copied())
        .map(|fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 })
        .collect();
    poll(&mut polled, timeout);
    polled[0].revents != 0
}

/// `poll(2)`, taken up again when a signal interrupts it (the timeout then starts afresh).
fn poll(fds: &mut [libc::pollfd], timeout: Option<Duration>) {
    let milliseconds = timeout.map_or(-1, |timeout| i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX));
    loop {
        let count = libc::nfds_t::try_from(fds.len()).expect("a handful");
        // SAFETY: pointer and count are those of one slice.
        let result = unsafe { libc::poll(fds.as_mut_ptr(), count, milliseconds) };
        if result >= 0 || std::io::Error::last_os_error().kind() != std::io::ErrorKind::Interrupted {
            return;
        }
    }
}

fn handle(signal: libc::c_int, handler: libc::sighandler_t) {
    // SAFETY: an all-zero `sigaction` is valid (no flags, so that calls are interrupted); the handlers do
    // nothing that is forbidden in a signal handler.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler;
        libc::sigaction(signal, &raw const action, std::ptr::null_mut());
    }
}
