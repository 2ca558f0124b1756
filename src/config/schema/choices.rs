//! Keys whose value is one of a few words. A word that is not built yet is known, and refused as such.

use toml::de::DeValue;

use crate::config::error::Wrong;
use crate::config::model::{LogFormat, LogLevel, Start, UnusedSockets, WorkerOutput};
use crate::config::nearest::nearest;
use crate::config::walk::{Kind, Log, Place, Read, Shape, mismatch};

/// `mode`: how the connections of a listener reach workers.
#[derive(Clone, Copy, Debug)]
pub(in crate::config) enum Mode {
    Shared,
}

/// `ready`, without the number of the fd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::config) enum ReadyKind {
    Notify,
    Accept,
    Exec,
    Fd,
}

/// `channel`, without the stop message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::config) enum ChannelKind {
    Handover,
    Node,
    Nothing,
}

macro_rules! choices {
    ($type:ident { $($word:literal => $variant:ident),* $(; later $($later:literal),*)? }) => {
        impl Read for $type {
            fn kind() -> Kind {
                let words: &[&str] = &[$($word),*];
                Kind::value(listed(words), [$(concat!("\"", $word, "\"")),*][0], Shape::Words(words.to_vec()))
            }

            fn read(value: &DeValue<'_>, at: &Place, log: &mut Log) -> Option<Self> {
                let words: &[&str] = &[$($word),*];
                let result = match value.as_str() {
                    $( Some($word) => Ok(Self::$variant), )*
                    $($( Some($later) => Err(later($later, words)), )*)?
                    Some(other) => Err(unknown(other, words)),
                    None => Err(mismatch(&Self::kind(), value)),
                };
                log.take(at, result)
            }
        }
    };
}

choices!(Mode { "shared" => Shared; later "per-slot", "dispatch" });
choices!(ReadyKind { "notify" => Notify, "accept" => Accept, "exec" => Exec, "fd" => Fd });
choices!(ChannelKind { "handover" => Handover, "node" => Node, "none" => Nothing });
choices!(Start { "socket" => Socket, "service" => Service, "none" => Nothing });
choices!(UnusedSockets { "error" => Error, "close" => Close });
choices!(LogFormat { "auto" => Auto, "human" => Human, "json" => Json, "journal" => Journal });
choices!(LogLevel { "error" => Error, "warn" => Warn, "info" => Info, "debug" => Debug, "trace" => Trace });
choices!(WorkerOutput { "capture" => Capture, "inherit" => Inherit });

/// `"a", "b" or "c"`
fn listed(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("{word:?}")).collect();
    match quoted.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
        None => String::new(),
    }
}

fn later(word: &str, known: &[&str]) -> Wrong {
    Wrong::new(format!("{word:?} is not supported yet")).hint(format!("use {}", listed(known)))
}

fn unknown(word: &str, known: &[&str]) -> Wrong {
    let hint = match nearest(word, known.iter().copied()) {
        Some(near) => format!("did you mean {near:?}?"),
        None => format!("it is {}", listed(known)),
    };
    Wrong::new(format!("{word:?} is not known")).hint(hint)
}
