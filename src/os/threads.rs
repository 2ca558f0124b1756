//! How many threads this process has.

/// How many threads this process has now; `None` where the system does not say.
pub fn count() -> Option<usize> {
    #[cfg(target_os = "linux")]
    let count = std::fs::read_dir("/proc/self/task").ok().map(Iterator::count);
    #[cfg(target_os = "macos")]
    let count = own_threads();
    count
}

/// How many threads this process has.
#[cfg(target_os = "macos")]
fn own_threads() -> Option<usize> {
    // SAFETY: all bytes zero are a valid proc_taskinfo: it holds numbers only.
    let mut info: libc::proc_taskinfo = unsafe { std::mem::zeroed() };
    let bytes = libc::c_int::try_from(size_of_val(&info)).ok()?;
    let pid = libc::c_int::try_from(std::process::id()).ok()?;
    // SAFETY: the buffer has `bytes` bytes.
    let got = unsafe { libc::proc_pidinfo(pid, libc::PROC_PIDTASKINFO, 0, (&raw mut info).cast(), bytes) };
    (got == bytes).then(|| usize::try_from(info.pti_threadnum).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_thread_more_is_one_more() {
        let (go, wait) = std::sync::mpsc::channel::<()>();
        let (up, is_up) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            up.send(()).unwrap();
            wait.recv().unwrap_err();
        });
        is_up.recv().unwrap();
        assert!(super::count().unwrap() >= 2);
        drop(go);
        thread.join().unwrap();
    }
}
