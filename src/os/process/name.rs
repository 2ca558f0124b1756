//! What a process is called.

/// The name of a process, as `ps` shows it (at most 15 bytes): it is for people, since the process chooses it. `None` where it is gone,
/// or the system does not say. Reading it waits for nothing.
pub fn process_name(pid: u32) -> Option<String> {
    if cfg!(not(target_os = "linux")) {
        return None;
    }
    let name = std::fs::read(format!("/proc/{pid}/comm")).ok()?;
    Some(String::from_utf8_lossy(name.trim_ascii_end()).into_owned())
}
