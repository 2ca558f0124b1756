//! The fields of our records, and how a worker's line becomes one.
//!
//! Pure. Names are upper-case letters and underscores; a value that may hold a line break is preceded by its length,
//! all others are texts that the configuration has checked, or numbers (`systemd.journal-fields(7)` and systemd's
//! page on the journal's native protocol).

use std::io::Write as _;

use crate::observe::output::{Line, Said};
use crate::observe::render::{Origin, PRIORITY_INFO};

/// What stands before the name of a field of our own.
pub const PREFIX: &str = "HANDOVER";

/// The fields, as docs/output.md lists them: the name, and whether lines of workers have it, our own, or both.
pub const FIELDS: [(&str, Who); 17] = [
    ("MESSAGE", Who::Both),
    ("PRIORITY", Who::Both),
    ("SYSLOG_IDENTIFIER", Who::Both),
    ("HANDOVER_NAME", Who::Both),
    ("HANDOVER_POOL", Who::Both),
    ("HANDOVER_SLOT", Who::Both),
    ("HANDOVER_GENERATION", Who::Both),
    ("HANDOVER_WORKER", Who::Both),
    ("HANDOVER_PID", Who::Both),
    ("HANDOVER_STREAM", Who::Worker),
    ("HANDOVER_TRUNCATED", Who::Worker),
    ("HANDOVER_CONTINUATION", Who::Worker),
    ("TARGET", Who::Both),
    ("F_…", Who::Worker),
    ("CODE_FILE", Who::Own),
    ("CODE_LINE", Who::Own),
    ("HANDOVER_…", Who::Own),
];

/// Which records have a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// Lines of workers.
    Worker,
    /// Our own events.
    Own,
    /// All, those of our own where they are about such a thing.
    Both,
}

/// A worker's line as the bytes of a record. `name` is the daemon's.
pub fn worker_record(name: &str, origin: &Origin, line: &Line) -> Vec<u8> {
    let mut record = Vec::with_capacity(line.text.len() + 256);
    let Origin { pool, slot, generation, worker, pid, stream } = origin;
    let priority = line.priority.unwrap_or(PRIORITY_INFO);
    // Writing to a Vec cannot fail.
    let _ = write!(
        record,
        "PRIORITY={priority}\nSYSLOG_IDENTIFIER={name}\nHANDOVER_NAME={name}\nHANDOVER_POOL={pool}\n\
         HANDOVER_SLOT={slot}\nHANDOVER_GENERATION={generation}\nHANDOVER_WORKER={worker}\n\
         HANDOVER_PID={pid}\nHANDOVER_STREAM={}\n",
        stream.as_str()
    );
    if line.truncated {
        record.extend_from_slice(b"HANDOVER_TRUNCATED=true\n");
    }
    if line.continuation {
        record.extend_from_slice(b"HANDOVER_CONTINUATION=true\n");
    }
    if let Some(Said { target, fields }) = line.said.as_deref() {
        if let Some(target) = target {
            put(&mut record, "TARGET", target.as_bytes());
        }
        for (name, value) in fields {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            put(&mut record, &workers_field(name), text.as_bytes());
        }
    }
    put(&mut record, "MESSAGE", line.text.as_bytes());
    record
}

/// The name of a field of a worker's own: letters, digits and underscores, at most 64 bytes
/// (`journal_field_valid` in systemd), and none of those that somebody trusts.
fn workers_field(name: &str) -> String {
    const LENGTH_MAX: usize = 64;
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    let mut field = format!("F_{}", name.chars().map(plain).collect::<String>());
    field.truncate(LENGTH_MAX);
    field
}

/// A field whose value may be anything.
fn put(record: &mut Vec<u8>, name: &str, value: &[u8]) {
    record.extend_from_slice(name.as_bytes());
    record.push(b'\n');
    record.extend_from_slice(&(value.len() as u64).to_le_bytes());
    record.extend_from_slice(value);
    record.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::super::tests::origin;
    use super::*;

    fn names(record: &[u8]) -> Vec<String> {
        let text = String::from_utf8_lossy(record).into_owned();
        let lines = text.lines().map(|line| line.split('=').next().unwrap_or(line));
        lines
            .filter(|name| name.chars().all(|c| c.is_ascii_uppercase() || c == '_'))
            .map(Into::into)
            .collect()
    }

    #[test]
    fn a_line_break_in_a_message_makes_no_field() {
        let line = Line { text: "a\nPRIORITY=0\0\n".into(), priority: Some(3), ..Line::default() };
        let expected = b"PRIORITY=3\nSYSLOG_IDENTIFIER=myapp\nHANDOVER_NAME=myapp\nHANDOVER_POOL=web\n\
            HANDOVER_SLOT=2\nHANDOVER_GENERATION=3\nHANDOVER_WORKER=7\nHANDOVER_PID=4711\n\
            HANDOVER_STREAM=stderr\nMESSAGE\n\x0e\0\0\0\0\0\0\0a\nPRIORITY=0\0\n\n";
        assert_eq!(worker_record("myapp", &origin(), &line), expected);
    }

    #[test]
    fn a_workers_record_has_the_fields_of_the_list() {
        let said = Said { target: Some("a::b".into()), fields: vec![("ms".into(), 5.into())] };
        let line = Line {
            text: "=".into(),
            priority: None,
            truncated: true,
            continuation: true,
            said: Some(Box::new(said)),
        };
        let mut found = names(&worker_record("myapp", &origin(), &line));
        let own = found.iter_mut().find(|name| *name == "F_MS").expect("a field of its own");
        "F_…".clone_into(own);
        let mut listed: Vec<_> =
            FIELDS.iter().filter(|(_, who)| *who != Who::Own).map(|(name, _)| (*name).to_owned()).collect();
        found.sort();
        listed.sort();
        assert_eq!(found, listed);
    }

    #[test]
    fn a_field_of_a_worker_is_none_that_somebody_trusts() {
        let names = ["MESSAGE", "_PID", "prix €", "a\nPRIORITY=0", "", &"x".repeat(100)].map(workers_field);
        assert_eq!(names[..5], ["F_MESSAGE", "F__PID", "F_PRIX__", "F_A_PRIORITY_0", "F_"]);
        assert_eq!(names[5].len(), 64);
    }

    #[test]
    fn the_documentation_lists_the_same_fields() {
        let page = include_str!("../../../docs/output.md");
        let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` | "));
        let documented: Vec<_> =
            rows.map(|(name, rest)| (name, rest.split(" |").next().unwrap_or(""))).collect();
        let listed: Vec<_> = FIELDS
            .iter()
            .map(|(name, who)| {
                let word = match who {
                    Who::Both => "all",
                    Who::Worker => "workers",
                    Who::Own => "handover",
                };
                (*name, word)
            })
            .collect();
        assert_eq!(documented, listed);
    }
}
