//! How many threads this process has.

/// How many threads this process has now; `None` where the system does not say.
pub fn count() -> Option<usize> {
    #[cfg(target_os = "linux")]
    let count = std::fs::read_dir("/proc/self/task").ok().map(Iterator::count);
    #[cfg(target_os = "macos")]
    let count = super::macos::own_threads();
    count
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
