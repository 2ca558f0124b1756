//! The rules that look at one file alone.

use std::fmt;

use crate::lexer::{code, paths};

/// The longest that a file may be, in lines.
pub const LINES_MAX: usize = 450;

/// Modules that decide and compute: they are told what they need to know.
const PURE: [&str; 15] = [
    "src/supervisor/",
    "src/config/",
    "src/units/",
    "src/wire/",
    "src/listeners/plan.rs",
    "src/notify/text.rs",
    "src/notify/parse.rs",
    "src/notify/credentials.rs",
    "src/worker/session.rs",
    "src/worker/session/",
    "src/control/protocol.rs",
    "src/observe/registry.rs",
    "src/id.rs",
    "src/time.rs",
    "src/exit.rs",
];

/// What they may not use, as paths.
const OUTSIDE: [&str; 17] = [
    "std::fs",
    "std::io",
    "std::net",
    "std::os",
    "std::process",
    "std::env",
    "std::thread",
    "std::time::Instant",
    "std::time::SystemTime",
    "tokio",
    "tracing",
    "nix",
    "libc",
    "socket2",
    "hyper",
    "sendfd",
    "rand",
];

/// What of that is a value only, and harmless.
const VALUES: [&str; 9] = [
    "std::net::IpAddr",
    "std::net::Ipv4Addr",
    "std::net::Ipv6Addr",
    "std::net::SocketAddr",
    "std::net::SocketAddrV4",
    "std::net::SocketAddrV6",
    "std::net::AddrParseError",
    "std::os::fd::OwnedFd",
    "std::os::unix::ffi",
];

/// A source file.
pub struct Source {
    /// Relative to the package.
    pub path: String,
    /// As it is.
    pub text: String,
    /// Without comments and literals, and without its unit tests.
    pub code: String,
    /// Without comments and literals.
    pub all_code: String,
}

impl Source {
    /// Takes a file's path and text.
    pub fn new(path: &str, text: &str) -> Self {
        let all_code = code(text);
        let is_test = path.ends_with("/tests.rs") || path.contains("/tests/");
        let end = if is_test { 0 } else { unit_tests(&all_code) };
        Self { path: path.to_owned(), text: text.to_owned(), code: all_code[..end].to_owned(), all_code }
    }

    /// A fault of this file.
    pub fn fault(&self, what: &str) -> Fault {
        Fault { path: self.path.clone(), what: what.to_owned() }
    }
}

/// Where the unit tests begin: they stand last.
fn unit_tests(code: &str) -> usize {
    let tests = ["#[cfg(test)]\nmod tests {", "#[cfg(all(test,"];
    tests.iter().filter_map(|start| code.find(start)).min().unwrap_or(code.len())
}

/// What is wrong with a file.
pub struct Fault {
    path: String,
    what: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.what)
    }
}

/// A pure module that uses the outside.
pub fn impure(source: &Source) -> Vec<Fault> {
    if !PURE.iter().any(|pure| source.path.starts_with(pure)) {
        return Vec::new();
    }
    let roots = ["std", "tokio", "tracing", "nix", "libc", "socket2", "hyper", "sendfd", "rand"];
    let used = roots.iter().flat_map(|root| {
        paths(&source.code, root).into_iter().map(move |path| format!("{root}::{}", path.join("::")))
    });
    used.filter(|path| OUTSIDE.iter().any(|outside| is_or_is_in(path, outside)))
        .filter(|path| !VALUES.iter().any(|value| is_or_is_in(path, value)))
        // Signal numbers, which differ from system to system.
        .filter(|path| !path.starts_with("libc::SIG"))
        .map(|path| source.fault(&format!("a pure module may not use {path}")))
        .collect()
}

fn is_or_is_in(path: &str, outer: &str) -> bool {
    path.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// `unsafe` where it may not be.
pub fn unsafe_outside_os(source: &Source) -> Vec<Fault> {
    let found = !source.path.starts_with("src/os/") && has_word(&source.code, "unsafe");
    if found { vec![source.fault("unsafe code may stand in src/os only")] } else { Vec::new() }
}

/// A file that is too long to be read.
pub fn too_long(source: &Source) -> Vec<Fault> {
    let lines = source.text.lines().count();
    if lines > LINES_MAX {
        vec![source.fault(&format!("{lines} lines, more than {LINES_MAX}"))]
    } else {
        Vec::new()
    }
}

/// A file that does not say what it is for. Unit tests in a file of their own are for the file beside them.
pub fn without_why(source: &Source) -> Vec<Fault> {
    if source.path.ends_with("/tests.rs") {
        return Vec::new();
    }
    let first = source.text.lines().find(|line| !line.trim().is_empty() && !line.starts_with("#!["));
    let found = first.is_some_and(|line| line.starts_with("//! "));
    if found { Vec::new() } else { vec![source.fault("does not open with a //! comment")] }
}

/// Macros that mark work to do.
pub fn unfinished(source: &Source) -> Vec<Fault> {
    let macros = ["todo!", "unimplemented!", "dbg!"];
    let found = macros.iter().filter(|name| source.all_code.contains(*name));
    found.map(|name| source.fault(&format!("{name} is left in it"))).collect()
}

/// Sleeping in tests. (In the daemon clippy forbids it.) The scripted worker plays bad programs and may.
pub fn sleeping(source: &Source) -> Vec<Fault> {
    if source.path.starts_with("tests/scripted_worker/") {
        return Vec::new();
    }
    let tests = if source.path.starts_with("src/") {
        &source.all_code[source.code.len()..]
    } else {
        &source.all_code
    };
    let calls = ["thread::sleep", "time::sleep"];
    let found = calls.iter().filter(|call| tests.contains(*call));
    found.map(|call| source.fault(&format!("{call}: wait on an event"))).collect()
}

fn has_word(code: &str, word: &str) -> bool {
    code.split(|c: char| !c.is_alphanumeric() && c != '_').any(|candidate| candidate == word)
}
