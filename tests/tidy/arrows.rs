//! Who may use whom: the direction of dependencies inside the library.

use crate::lexer::paths;
use crate::rules::{Fault, Source};

/// Each module at the top, and the paths that it may use beside its own. Bottom up; what is not here is
/// forbidden.
const ARROWS: [(&str, &[&str]); 21] = [
    ("exit", &[]),
    ("visible", &[]),
    ("id", &[]),
    ("time", &[]),
    ("stamp", &[]),
    ("os", &[]),
    ("config", &["id", "time", "visible"]),
    ("units", &["config::model", "id", "time", "visible"]),
    ("wire", &["id", "time"]),
    ("supervisor", &["config::model", "id", "time"]),
    ("listeners", &["config::model", "config::change", "os", "id", "time"]),
    ("notify", &["os", "id", "time", "visible"]),
    ("worker", &["wire", "os", "id"]),
    ("pipe", &["wire", "os"]),
    (
        "control",
        &[
            "supervisor",
            "config::model",
            "wire::Payload",
            "wire::limits",
            "os",
            "exit",
            "id",
            "time",
            "stamp",
            "visible",
        ],
    ),
    ("observe", &["supervisor", "config::model", "os", "id", "time", "stamp", "visible"]),
    (
        "daemon",
        &[
            "supervisor",
            "listeners",
            "wire",
            "notify",
            "control",
            "observe",
            "config",
            "os",
            "exit",
            "id",
            "time",
            "stamp",
            "visible",
        ],
    ),
    ("embed", &["daemon", "control", "observe", "config", "wire", "os", "id"]),
    ("demo", &["worker", "wire", "os"]),
    (
        "cli",
        &[
            "daemon",
            "demo",
            "control",
            "supervisor",
            "observe",
            "config",
            "units",
            "os",
            "exit",
            "id",
            "time",
            "stamp",
            "visible",
        ],
    ),
    ("main", &["cli", "exit", "os"]),
];

/// The module at the top that a source belongs to; `None` for `lib.rs` and for what is no part of the library.
fn module(path: &str) -> Option<&str> {
    let first = path.strip_prefix("src/")?.split('/').next()?;
    let name = first.strip_suffix(".rs").unwrap_or(first);
    (name != "lib").then_some(name)
}

/// Modules without a line in the table.
pub fn unknown(source: &Source) -> Vec<Fault> {
    let known = module(&source.path).is_none_or(|module| ARROWS.iter().any(|(name, _)| *name == module));
    if known { Vec::new() } else { vec![source.fault("this module has no arrows in tests/tidy/arrows.rs")] }
}

/// Paths to modules that this one may not use.
pub fn forbidden(source: &Source) -> Vec<Fault> {
    let Some(module) = module(&source.path) else { return Vec::new() };
    let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| *name == module) else { return Vec::new() };
    let root = if module == "main" { "handover" } else { "crate" };
    let mut used = paths(&source.code, root);
    used.extend(above(source));
    used.into_iter()
        .filter(|path| {
            path.first().is_some_and(|first| first != module && ARROWS.iter().any(|(m, _)| m == first))
        })
        .map(|path| path.join("::"))
        .filter(|path| !allowed.iter().any(|allowed| covers(allowed, path)))
        .map(|path| source.fault(&format!("{module} may not use {path}")))
        .collect()
}

fn covers(allowed: &str, path: &str) -> bool {
    path.strip_prefix(allowed).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// Paths of `super::…` that leave the module at the top.
fn above(source: &Source) -> Vec<Vec<String>> {
    let inner = source.path.trim_start_matches("src/").trim_end_matches(".rs").trim_end_matches("/mod");
    let depth = inner.split('/').count();
    paths(&source.code, "super")
        .into_iter()
        .filter_map(|path| {
            let supers = 1 + path.iter().take_while(|segment| *segment == "super").count();
            (supers >= depth).then(|| path[supers - 1..].to_vec())
        })
        .collect()
}
