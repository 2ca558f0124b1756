//! The declaration of the keys as a page: `docs/configuration.md`.

use super::schema::sections;
use super::walk::{Default, Key, Kind};

const HEAD: &str = include_str!("reference/head.md");

/// The page. It is written from the declaration that also reads the file, so it cannot say anything else.
pub fn markdown() -> String {
    let mut page = HEAD.to_owned();
    page += "| key | type | default | meaning | since |\n|---|---|---|---|---|\n";
    for (path, keys) in sections() {
        for key in keys.iter().filter(|key| !is_section(key)) {
            page += &row(&path, key);
        }
    }
    page
}

/// Sections have rows for their keys instead of one of their own.
fn is_section(key: &Key) -> bool {
    matches!((key.kind)(), Kind::Table(_) | Kind::Named(_))
}

fn row(path: &str, key: &Key) -> String {
    let dot = if path.is_empty() { "" } else { "." };
    let only = key.on.map(|on| format!(" Only for {}.", on.what)).unwrap_or_default();
    format!(
        "| `{path}{dot}{}` | {} | {} | {}{only} | {} |\n",
        key.name,
        kind((key.kind)()),
        default(&key.default),
        key.meaning,
        key.since
    )
}

fn kind(kind: Kind) -> String {
    match kind {
        Kind::Value(what, _) => what.trim_start_matches("a ").trim_start_matches("an ").to_owned(),
        Kind::List(of) => format!("list of {}", self::kind(*of)),
        Kind::Table(_) | Kind::Named(_) => "table".to_owned(),
    }
}

fn default(default: &Default) -> String {
    match default {
        Default::Required => "required".to_owned(),
        Default::Value(toml) => format!("`{}`", toml.replace('\'', "\"")),
        Default::Unset(meaning) => (*meaning).to_owned(),
        Default::Later => String::new(),
    }
}
