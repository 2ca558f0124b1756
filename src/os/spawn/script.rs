//! Why the kernel does not execute a script, which one errno cannot tell (`execve(2)`): it says ENOENT of the interpreter
//! as it does of the script, and ENOEXEC of everything without a first line that names one.

use std::io::Read;
use std::path::Path;

use nix::errno::Errno;

/// The longest first line that the kernel reads (`BINPRM_BUF_SIZE` since Linux 5.1).
const LINE_MAX: u64 = 256;

/// What is wrong with a script that could not be executed, and what to do; `None` where the errno says it all.
pub(super) fn why_not(program: &Path, errno: Errno) -> Option<String> {
    let mut start = Vec::new();
    crate::os::regular::open(program).ok()?.take(LINE_MAX).read_to_end(&mut start).ok()?;
    let line = start.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let Some(named) = line.strip_prefix(b"#!") else {
        return (errno == Errno::ENOEXEC).then(|| {
            "neither a program for this machine nor a script\n\
             hint: a script names its interpreter in the first line, as in #!/bin/sh"
                .to_owned()
        });
    };
    let named = String::from_utf8_lossy(named);
    if named.ends_with('\r') {
        return Some(
            "its first line ends with a carriage return, which the kernel takes for part of the interpreter's name\n\
             hint: save it with the line ends of Unix (sed -i 's/\\r$//')"
                .to_owned(),
        );
    }
    let interpreter = named.split_whitespace().next().unwrap_or_default();
    (errno == Errno::ENOENT)
        .then(|| format!("the interpreter {interpreter:?} of its first line does not exist"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why(text: &str, errno: Errno) -> Option<String> {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("script");
        std::fs::write(&path, text).unwrap();
        why_not(&path, errno)
    }

    #[test]
    fn a_script_that_cannot_be_executed_says_which_line_is_to_blame() {
        assert!(why("echo hi\n", Errno::ENOEXEC).unwrap().contains("#!/bin/sh"));
        assert!(why("#!/bin/sh\r\nexit\r\n", Errno::ENOENT).unwrap().contains("carriage return"));
        assert!(why("#! /usr/bin/nod x\n", Errno::ENOENT).unwrap().contains("\"/usr/bin/nod\""));
        assert_eq!(why("#!/bin/sh\n", Errno::EACCES), None);
        assert_eq!(why_not(Path::new("/nowhere"), Errno::ENOENT), None);
    }
}
