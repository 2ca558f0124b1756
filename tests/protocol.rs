//! The page on the channel and the code that speaks it are one: each line that the page shows is read and written, its conversation is
//! played, and its tables are what the code declares.

#![cfg(any(feature = "worker", feature = "supervisor"))]
#![allow(unreachable_pub, reason = "a test program")]

#[allow(dead_code, reason = "shared with tests/docs")]
#[path = "docs/blocks.rs"]
mod blocks;

use std::collections::{BTreeMap, BTreeSet};

use blocks::{blocks, page};
use handover::wire::{
    Capabilities, Capability, Conversation, ErrorCode, Fault, Heard, Kind, Ledger, Line, Received,
    ToHandover, ToWorker, Until, limits, version,
};
use serde_json::Value;

const PAGE: &str = "docs/protocol.md";

/// The lines of all blocks with these words.
fn lines(words: &[&str]) -> Vec<String> {
    let page = page(PAGE);
    let found = blocks(&page).into_iter().filter(|block| block.words() == words);
    let lines: Vec<String> =
        found.flat_map(|block| block.text.lines().map(str::to_owned).collect::<Vec<_>>()).collect();
    assert!(!lines.is_empty(), "no block {words:?}");
    lines
}

/// The rows of the table that follows this text, as their cells.
fn table(after: &str) -> Vec<Vec<String>> {
    let page = page(PAGE);
    let (_, rest) = page.split_once(after).unwrap_or_else(|| panic!("{after} is not on the page"));
    let rows =
        rest.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
    let cells = |row: &str| row.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect();
    rows.skip(2).map(cells).collect()
}

/// What stands in backticks, parentheses left out.
fn words(cell: &str) -> Vec<String> {
    let outside: String = cell.split('(').enumerate().fold(String::new(), |text, (at, part)| {
        let part = if at == 0 { part } else { part.split_once(')').map_or("", |(_, rest)| rest) };
        text + part
    });
    outside.split('`').skip(1).step_by(2).map(|word| word.trim_matches('"').to_owned()).collect()
}

/// Reads a line of a known type, and writes it so that it says the same.
fn comes_back<L: Line>(text: &str) -> String {
    let (line, fds) = L::decode(text.as_bytes()).unwrap_or_else(|fault| panic!("{fault}: {text}"));
    let kind = line.kind().unwrap_or_else(|| panic!("it cannot be said: {text}"));
    let bytes = line.encode(fds).unwrap_or_else(|refused| panic!("{refused}: {text}"));
    let read = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).expect("JSON");
    assert_eq!(read(&bytes), read(text.as_bytes()));
    kind.name.to_owned()
}

#[test]
fn every_line_on_the_page_is_read_and_written() {
    let shown: BTreeSet<String> =
        lines(&["json", "line", "to-worker"]).iter().map(|line| comes_back::<ToWorker>(line)).collect();
    assert!(ToWorker::KINDS.iter().all(|kind| kind.name == "ack" || shown.contains(kind.name)), "{shown:?}");
    let shown: BTreeSet<String> =
        lines(&["json", "line", "to-handover"]).iter().map(|line| comes_back::<ToHandover>(line)).collect();
    let shared = ["ack", "refused"];
    assert!(
        ToHandover::KINDS.iter().all(|kind| shared.contains(&kind.name) || shown.contains(kind.name)),
        "{shown:?}"
    );
}

#[test]
fn no_block_of_the_page_is_left_out() {
    for block in blocks(&page(PAGE)) {
        let is_known = matches!(
            block.words()[..],
            ["json", "line", "to-worker" | "to-handover"] | ["json", "conversation"] | ["text"]
        );
        assert!(is_known, "{:?} is tried by nobody", block.words);
    }
}

#[test]
fn the_conversation_on_the_page_keeps_the_rules() {
    let all = lines(&["json", "conversation"]);
    let (ToWorker::Hello(hello), _) = ToWorker::decode(&all[0].as_bytes()[2..]).expect("a hello") else {
        panic!("the first line is handover's hello")
    };
    let mut handover: Conversation<(), u32> = Conversation::new(hello.capabilities);
    let mut worker: Ledger<(), u32> = Ledger::new();
    for line in all {
        let (side, text) = line.split_at(2);
        match side {
            "< " => worker_reads(&mut handover, &mut worker, text),
            "> " => handover_reads(&mut handover, &mut worker, text),
            _ => panic!("who says that? {line}"),
        }
    }
    assert!(handover.ledger.is_empty(), "handover waits for {:?}", handover.ledger);
    assert!(worker.is_empty(), "the worker waits for {worker:?}");
    assert_eq!(handover.owed(), 0);
    assert!(handover.is_draining());
}

fn worker_reads(handover: &mut Conversation<(), u32>, worker: &mut Ledger<(), u32>, text: &str) {
    comes_back::<ToWorker>(text);
    let (line, fds) = ToWorker::decode(text.as_bytes()).expect("it came back");
    assert!(handover.say(&line), "handover may not say this: {text}");
    if let Some(id) = line.id() {
        let until = if fds > 0 { Until::Ack } else { Until::Answer };
        assert_eq!(handover.ledger.open(until, (), vec![0; fds]), id, "ids are counted up: {text}");
    }
    if let Some(re) = line.re() {
        worker.answered(re).unwrap_or_else(|| panic!("nobody asked that: {text}"));
    }
}

fn handover_reads(handover: &mut Conversation<(), u32>, worker: &mut Ledger<(), u32>, text: &str) {
    comes_back::<ToHandover>(text);
    let (line, fds) = ToHandover::decode(text.as_bytes()).expect("it came back");
    if let Some(id) = line.id() {
        assert_eq!(worker.open(Until::Answer, (), vec![0; fds]), id, "ids are counted up: {text}");
    }
    let (heard, _) =
        handover.hear(Received { line, fds: vec![0; fds] }).unwrap_or_else(|fault| panic!("{fault}: {text}"));
    assert!(!matches!(heard, Heard::Refuse(_) | Heard::Nothing), "{heard:?}: {text}");
}

fn types_on_page(after: &str) -> BTreeMap<String, BTreeSet<String>> {
    let row = |cells: Vec<String>| (words(&cells[0]).remove(0), words(&cells[1]).into_iter().collect());
    table(after).into_iter().map(row).collect()
}

fn types_in_code(kinds: &[Kind]) -> BTreeMap<String, BTreeSet<String>> {
    let members = |kind: &Kind| kind.members.iter().map(|member| (*member).to_owned()).collect();
    kinds.iter().map(|kind| (kind.name.to_owned(), members(kind))).collect()
}

#[test]
fn the_types_on_the_page_are_those_of_the_code() {
    assert_eq!(types_on_page("\n## What a worker says\n"), types_in_code(ToHandover::KINDS));
    assert_eq!(types_on_page("\n## What handover says\n"), types_in_code(ToWorker::KINDS));
}

#[test]
fn what_a_type_needs_is_the_base_or_a_capability() {
    for after in ["\n## What a worker says\n", "\n## What handover says\n"] {
        for row in table(after) {
            let needed = words(&row[2]);
            let is_known = |word: &String| Capability::ALL.iter().any(|one| one.to_string() == *word);
            assert!(needed.iter().all(is_known) && (!needed.is_empty() || row[2] == "base"), "{row:?}");
        }
    }
}

/// The members that the page says may be missing, by type.
fn optional_on_page(after: &str) -> BTreeMap<String, BTreeSet<String>> {
    let of = |cell: &str| -> BTreeSet<String> {
        let (alone, group) = cell.split_once("may have").unwrap_or((cell, ""));
        let missing = alone.split(", `").filter(|part| part.contains("may be missing"));
        let missing = missing.map(|part| part.trim_matches('`').split('`').next().unwrap_or(part).to_owned());
        missing.chain(words(group)).collect()
    };
    table(after).iter().map(|row| (words(&row[0]).remove(0), of(&row[1]))).collect()
}

/// Reads each line that is shown without each of its members, and with `null` in its place.
fn members_are_as_declared<L: Line>(shown: &[&str], after: &str) {
    assert!(page(PAGE).contains("All members are required but `client`."));
    let optional = optional_on_page(after);
    for text in lines(shown) {
        let whole: serde_json::Map<String, Value> = serde_json::from_str(&text).expect("an object");
        let kind = whole["type"].as_str().expect("a word");
        let is_bound = |member: &str| match member {
            // A line with fds has an id, and so has one that wants a reply; one of the two names what is wanted.
            "id" => whole.contains_key("fds") || whole.contains_key("reply"),
            "name" | "address" => kind == "listen",
            "type" => true,
            _ => false,
        };
        for member in whole.keys().filter(|member| !is_bound(member)) {
            let read = |line: &serde_json::Map<String, Value>| {
                L::decode(Value::from(line.clone()).to_string().as_bytes()).is_ok()
            };
            let mut line = whole.clone();
            line.remove(member);
            let is_optional =
                optional[kind].contains(member) || (kind, member.as_str()) == ("hello", "client");
            assert_eq!(read(&line), is_optional, "without {member}: {text}");
            line.insert(member.clone(), Value::Null);
            assert_eq!(read(&line), member == "data", "{member} is null: {text}");
        }
    }
}

#[test]
fn what_may_be_missing_is_what_the_page_says() {
    members_are_as_declared::<ToHandover>(&["json", "line", "to-handover"], "\n## What a worker says\n");
    members_are_as_declared::<ToWorker>(&["json", "line", "to-worker"], "\n## What handover says\n");
}

#[test]
fn half_a_surrogate_pair_is_read_as_the_page_says() {
    let text = page(PAGE);
    let rule = "(`\"\\ud83d\"` without the other half), which JSON can write and many languages cannot hold, is read as `\\ufffd`";
    assert!(text.contains(rule));
    let (line, _) = ToHandover::decode(br#"{"type":"status","text":"\ud83d"}"#).expect("no fault");
    assert_eq!(line, ToHandover::Status { text: "\u{fffd}".to_owned() });
}

#[test]
fn the_errors_on_the_page_are_those_of_the_code() {
    let on_page: Vec<String> = table("\n### Errors\n").iter().map(|row| words(&row[0]).remove(0)).collect();
    let in_code: Vec<String> = ErrorCode::KNOWN.iter().map(ToString::to_string).collect();
    assert_eq!(on_page, in_code);
    for word in on_page {
        assert!(!matches!(ErrorCode::from(word.clone()), ErrorCode::Other(_)), "{word}");
    }
}

#[test]
fn the_capabilities_on_the_page_are_those_of_the_code() {
    let rows = table("One that said hello without looking is answered");
    let on_page: Vec<String> = rows.iter().map(|row| words(&row[0]).remove(0)).collect();
    let in_code: Vec<String> = Capability::ALL.iter().map(ToString::to_string).collect();
    assert_eq!(on_page, in_code);
    assert!(
        page(PAGE)
            .contains(&format!("the newest version that the side speaks; this page is {}", version::NEWEST))
    );
}

#[test]
fn the_limits_on_the_page_are_those_of_the_code() {
    let in_code: [(&str, u64); 15] = [
        ("a line, in bytes with its newline", limits::LINE_MAX as u64),
        ("a `message` or `reply`", limits::LARGE_LINE_MAX as u64),
        ("`data`", limits::DATA_MAX as u64),
        ("nesting", limits::DEPTH_MAX as u64),
        ("nesting of `data` by itself", limits::DEPTH_MAX as u64 - 1),
        ("fds of one line", limits::FDS_MAX as u64),
        ("a number", limits::NUMBER_MAX),
        ("`text` and `reason`, in bytes", limits::TEXT_MAX as u64),
        ("`client`", limits::CLIENT_MAX as u64),
        ("`message` of a record: the line's", limits::LINE_MAX as u64),
        ("`target` of a record", limits::LOG_TARGET_MAX as u64),
        ("`fields` of a record", limits::LOG_FIELDS_MAX as u64),
        ("`timeout_ms`", limits::REPLY_TIMEOUT_MS_MAX),
        ("questions that wait", limits::QUESTIONS_MAX as u64),
        ("workers named in `sent`", limits::SENT_REFUSED_MAX as u64),
    ];
    let number = |text: &str| text.replace(',', "").parse::<u64>().expect("a number");
    let rows = table("\n### Limits\n");
    let on_page: Vec<(&str, u64)> = rows.iter().map(|row| (row[0].as_str(), number(&row[1]))).collect();
    assert_eq!(on_page, in_code);
    let text = page(PAGE);
    assert!(text.contains("(default 30,000; more than 3,600,000 counts as that)"));
    assert_eq!(limits::REPLY_TIMEOUT_MS, 30_000);
    assert!(text.contains(&format!("with room for {} fds", limits::FDS_READ_MAX)));
}

#[test]
fn what_the_page_calls_the_channels_end_is_a_fault() {
    let mut handover: Conversation<(), u32> = Conversation::new(Capabilities::none());
    let early = handover.hear(Received { line: ToHandover::Ready, fds: vec![] });
    assert_eq!(early, Err(Fault::BeforeHello { kind: "ready".to_owned() }));
    for line in
        ["", "ready", "[]", "{}", "{\"type\":7}", "{\"type\":\"pong\"}", "{\"type\":\"pong\",\"re\":\"1\"}"]
    {
        assert!(ToHandover::decode(line.as_bytes()).is_err(), "{line}");
    }
}
