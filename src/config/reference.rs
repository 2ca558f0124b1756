//! The declaration of the keys for readers: as data, and as the page `docs/configuration.md`.

use super::schema;
use super::walk::{Default, Key, Kind};

const HEAD: &str = include_str!("reference/head.md");
/// What the text before the keys ends with on the page, and where it ends elsewhere.
const KEYS: &str = "## All keys\n";

/// A section of the file.
#[derive(Debug)]
pub struct SectionReference {
    /// Its path as it stands in brackets, with NAME for a name that the user chooses; empty at the top.
    pub path: String,
    /// Its keys, without those that are sections themselves.
    pub keys: Vec<KeyReference>,
}

/// What is said of a key; texts are in Markdown.
#[derive(Debug)]
pub struct KeyReference {
    /// As it is written in the file.
    pub name: &'static str,
    /// What its value is: `duration`.
    pub kind: String,
    /// What holds where it is left out; `required` where that cannot be.
    pub default: String,
    /// What it does.
    pub meaning: String,
    /// The release that brought it.
    pub since: &'static str,
    /// Keys that are not built yet are refused.
    pub is_built: bool,
}

/// Every section with its keys, in the order of their declaration; without sections that have no keys of their own.
pub fn sections() -> Vec<SectionReference> {
    let sections = schema::sections().into_iter().map(|(path, keys)| SectionReference {
        path,
        keys: keys.iter().filter(|key| !is_section(key)).map(reference).collect(),
    });
    sections.filter(|section| !section.keys.is_empty()).collect()
}

/// What is to be known of the file as a whole, in Markdown.
pub fn introduction() -> &'static str {
    let text = HEAD.split(KEYS).next().unwrap_or(HEAD);
    text.trim_start_matches("# Configuration\n")
}

/// The page. It is written from the declaration that also reads the file, so it cannot say anything else.
pub fn markdown() -> String {
    let mut page = HEAD.to_owned();
    page += "| key | type | default | meaning | since |\n|---|---|---|---|---|\n";
    for SectionReference { path, keys } in sections() {
        let dot = if path.is_empty() { "" } else { "." };
        for KeyReference { name, kind, default, meaning, since, .. } in keys {
            page += &format!("| `{path}{dot}{name}` | {kind} | {default} | {meaning} | {since} |\n");
        }
    }
    page
}

/// Sections have rows for their keys instead of one of their own.
fn is_section(key: &Key) -> bool {
    matches!((key.kind)(), Kind::Table(_) | Kind::Named(_))
}

fn reference(key: &Key) -> KeyReference {
    let only = key.on.map(|on| format!(" Only for {}.", on.what)).unwrap_or_default();
    KeyReference {
        name: key.name,
        kind: kind((key.kind)()),
        default: default(&key.default),
        meaning: format!("{}{only}", key.meaning),
        since: key.since,
        is_built: !matches!(key.default, Default::Later),
    }
}

fn kind(kind: Kind) -> String {
    match kind {
        Kind::Value(what, ..) => what.trim_start_matches("a ").trim_start_matches("an ").to_owned(),
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
