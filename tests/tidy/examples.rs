//! Each public item of the modules that programs build on shows how it is used: types in an example of their own, functions there or in another
//! example of their file that calls them.
//!
//! rustfmt puts items of a module at the left margin and those of an `impl` four spaces in, so lines are enough. That what is `pub` can be
//! reached is what the lint `unreachable_pub` sees to.

use crate::rules::{Fault, Source};

/// Where every public item needs an example, and the files with what `worker` gives on.
const SHOWN: [&str; 7] = [
    "src/worker/",
    "src/pipe/",
    "src/embed/",
    "src/worker.rs",
    "src/embed.rs",
    "src/wire/payload.rs",
    "src/id.rs",
];

/// No part of the promise.
const LEFT_OUT: [&str; 2] = ["src/worker/session.rs", "src/worker/session/"];

const KINDS: [&str; 7] = ["fn", "struct", "enum", "trait", "type", "const", "static"];

/// Public items without an example.
pub fn missing(source: &Source) -> Vec<Fault> {
    let is_in = |places: &[&str]| places.iter().any(|place| source.path.starts_with(place));
    if !is_in(&SHOWN) || is_in(&LEFT_OUT) {
        return Vec::new();
    }
    let examples = examples(&source.text);
    let (mut docs, mut block) = (String::new(), String::new());
    let mut found = Vec::new();
    for (line, code) in source.text.lines().zip(source.code.lines()) {
        let (text, code) = (line.trim(), code.trim_end());
        if text.starts_with("///") {
            docs.push_str(text);
            docs.push('\n');
            continue;
        }
        if code.trim_start().starts_with("impl") {
            block = owner(code);
        }
        if let Some(item) = item(code.trim_start()) {
            let (kind, name) = item;
            let calls = [format!(".{name}("), format!(".{name}::<"), format!("{block}::{name}(")];
            let is_called = kind == "fn" && calls.iter().any(|call| examples.contains(call));
            if !docs.contains("```") && !is_called {
                let of = if line.starts_with(' ') { &*block } else { "" };
                found.push(source.fault(&format!("no example of {kind} {of}::{name}")));
            }
        }
        if !text.starts_with("#[") && !text.is_empty() {
            docs.clear();
        }
    }
    found
}

/// What an `impl` is for.
fn owner(code: &str) -> String {
    let code = code.split(" for ").last().unwrap_or(code).trim_start_matches("impl");
    let code =
        if code.starts_with('<') { code.split_once("> ").map_or(code, |(_, rest)| rest) } else { code };
    code.trim().split(['<', ' ', '{']).next().unwrap_or_default().to_owned()
}

/// What stands in the examples of a file.
fn examples(text: &str) -> String {
    let mut inside = false;
    let mut out = String::new();
    for line in text.lines() {
        let Some(docs) = line.trim().strip_prefix("///").or_else(|| line.trim().strip_prefix("//!")) else {
            inside = false;
            continue;
        };
        if docs.trim().starts_with("```") {
            inside = !inside;
        } else if inside {
            out.push_str(docs);
            out.push('\n');
        }
    }
    out
}

/// A public item: its kind and its name.
fn item(code: &str) -> Option<(&str, &str)> {
    let words: Vec<&str> = code.strip_prefix("pub ")?.split([' ', '(', '<', ':', ';', '{']).collect();
    let is_qualifier = |word: &&&str| ["const", "async", "unsafe"].contains(*word) && words.contains(&"fn");
    let mut rest = words.iter().skip_while(is_qualifier).filter(|word| !word.is_empty());
    let kind = rest.next().filter(|kind| KINDS.contains(kind))?;
    // What a macro names has the documentation that it is given.
    rest.next().filter(|name| !name.starts_with('$')).map(|name| (*kind, *name))
}
