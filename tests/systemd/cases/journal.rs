//! What the journal has of a service: records with the fields that docs/output.md lists, all of them, and a journal that stalls.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Case, alone, case};
use crate::booted::Machine;
use crate::site::Site;
use crate::support::eventually;

pub const CASES: &[Case] = &[
    case("ten thousand last lines of a worker are in the journal as its own", last_words),
    case("the journal has the documented fields of each kind of line", fields),
    alone("a journal that stalls holds up neither a rollout nor the watchdog", stalled),
];

/// Records of the service that also match `matches`, in their order.
fn records(site: &Site<'_>, matches: &[&str]) -> Vec<Value> {
    let unit = format!("{}.service", site.name);
    let command = ["journalctl", "--no-pager", "--all", "-o", "json", "-u", &unit];
    let said = site.machine.run(&[&command[..], matches].concat()).stdout;
    said.lines().map(|line| serde_json::from_str(line).expect("a record")).collect()
}

/// A field as text; "" where there is none.
fn field<'a>(record: &'a Value, name: &str) -> &'a str {
    record.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// The first record of which a message is so.
#[track_caller]
fn find(site: &Site<'_>, what: &str, is_it: impl Fn(&str) -> bool) -> Value {
    eventually(&format!("the journal has {what}"), || {
        records(site, &[]).into_iter().find(|record| is_it(field(record, "MESSAGE")))
    })
}

/// Whose records have a field, as the manual says it.
fn documented(whose: &str) -> BTreeSet<String> {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/output.md"));
    let page = page.expect("a page of the manual");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` | "));
    let fields: BTreeSet<String> = rows
        .filter(|(_, rest)| [whose, "all"].contains(&rest.split(" |").next().unwrap_or_default()))
        .map(|(name, _)| name.to_owned())
        .collect();
    assert!(fields.len() > 8, "{fields:?}");
    fields
}

/// The fields that handover gave a record; others are journald's, and begin with `_`.
fn given(record: &Value) -> BTreeSet<String> {
    let names = record.as_object().expect("an object").keys();
    names.filter(|name| !name.starts_with('_')).cloned().collect()
}

fn fields(machine: &Machine) {
    let site = Site::new(machine, "spoken").pool("workers", "3");
    site.put();
    site.script(
        "[slot=0] print=to standard output\n[slot=1] eprint=to standard error\n[slot=2] print=<3>with a priority\n\
         [slot=2] eprint=<4>with another\n[slot=0] long-line=20K\n[slot=1] hello=messages\n\
         [slot=1] say={\"type\":\"log\",\"level\":\"warn\",\"message\":\"a record\",\"target\":\"a::b\",\"fields\":{\"ms\":5}}\n\
         serve\nready\n",
    );
    site.open();
    site.serves();
    site.settle();
    let of_record = documented("workers");
    let of_worker = &of_record - &BTreeSet::from(["TARGET", "F_…"].map(str::to_owned));
    let cutting = BTreeSet::from(["HANDOVER_TRUNCATED", "HANDOVER_CONTINUATION"].map(str::to_owned));
    for (message, slot, stream, priority) in [
        ("to standard output", "0", "stdout", "6"),
        ("to standard error", "1", "stderr", "6"),
        ("with a priority", "2", "stdout", "3"),
        ("with another", "2", "stderr", "4"),
    ] {
        let record = find(&site, message, |said| said == message);
        assert_eq!(given(&record), &of_worker - &cutting, "{record}");
        let [pid, worker] = ["HANDOVER_PID", "HANDOVER_WORKER"].map(|name| field(&record, name));
        let status = site.status();
        let workers = status.workers("web");
        let is_it = |found: &&crate::support::status::Worker| found.slot.to_string() == slot;
        let found = workers.iter().find(is_it).unwrap_or_else(|| panic!("no slot {slot}: {status:#?}"));
        assert_eq!((worker, field(&record, "HANDOVER_GENERATION")), (&*found.worker.to_string(), "1"));
        // Both are numbers of the machine: handover and its workers share its pids.
        assert_eq!((pid, field(&record, "_PID")), (&*found.pid.to_string(), &*site.main_pid().to_string()));
        for (name, value) in [
            ("HANDOVER_NAME", "spoken"),
            ("SYSLOG_IDENTIFIER", "spoken"),
            ("HANDOVER_POOL", "web"),
            ("HANDOVER_SLOT", slot),
            ("HANDOVER_STREAM", stream),
            ("PRIORITY", priority),
            ("_SYSTEMD_UNIT", "spoken.service"),
        ] {
            assert_eq!(field(&record, name), value, "{name}: {record}");
        }
    }
    // A record of a worker, with fields of its own.
    let record = find(&site, "a record", |said| said == "a record");
    let mut expected = &of_record - &cutting;
    assert!(expected.remove("F_…") && expected.insert("F_MS".to_owned()), "{expected:?}");
    assert_eq!(given(&record), expected, "{record}");
    for (name, value) in
        [("HANDOVER_STREAM", "channel"), ("PRIORITY", "4"), ("TARGET", "a::b"), ("F_MS", "5")]
    {
        assert_eq!(field(&record, name), value, "{name}: {record}");
    }
    // A line that is cut: two records.
    let pieces = records(&site, &["HANDOVER_TRUNCATED=true", "+", "HANDOVER_CONTINUATION=true"]);
    let pieces: Vec<_> = pieces.iter().filter(|piece| field(piece, "HANDOVER_NAME") == "spoken").collect();
    let lengths: Vec<usize> = pieces.iter().map(|piece| field(piece, "MESSAGE").len()).collect();
    assert_eq!(lengths, [16 << 10, 4 << 10]);
    assert_eq!(given(pieces[0]), &of_worker - &BTreeSet::from(["HANDOVER_CONTINUATION".to_owned()]));
    assert_eq!(given(pieces[1]), &of_worker - &BTreeSet::from(["HANDOVER_TRUNCATED".to_owned()]));

    our_own(&site);
    of_one_slot(&site);
    site.stop();
}

/// Lines of handover's own: about a worker, and about none.
fn our_own(site: &Site<'_>) {
    let ours = documented("handover");
    let values = |record: &Value| -> BTreeSet<String> { &given(record) - &ours };
    let ready = find(site, "our line on a worker", |said| said.starts_with("worker ready "));
    assert!(
        ours.iter().filter(|name| *name != "HANDOVER_…").all(|name| given(&ready).contains(name)),
        "{ready}"
    );
    assert!(values(&ready).iter().all(|name| name.starts_with("HANDOVER_")), "{ready}");
    assert_eq!((field(&ready, "PRIORITY"), field(&ready, "SYSLOG_IDENTIFIER")), ("6", "spoken"));
    assert!(field(&ready, "TARGET").starts_with("handover::") && field(&ready, "CODE_FILE").ends_with(".rs"));
    let starting = find(site, "our first line", |said| said.starts_with("starting "));
    assert_eq!((field(&starting, "HANDOVER_NAME"), field(&starting, "HANDOVER_SLOT")), ("spoken", ""));
    site.script("eprint=no such module: zebra\nexit=3\n");
    site.systemctl("reload").assert_code(1);
    let failed = find(site, "a failure", |said| said.starts_with("worker failed "));
    assert_eq!((field(&failed, "PRIORITY"), field(&failed, "HANDOVER_GENERATION")), ("4", "2"));
    assert!(field(&failed, "HANDOVER_REASON").contains("exited with status 3"), "{failed}");
}

/// The question of the manual.
fn of_one_slot(site: &Site<'_>) {
    let slot = records(site, &["HANDOVER_SLOT=2"]);
    assert!(slot.iter().all(|record| field(record, "HANDOVER_SLOT") == "2"), "{slot:#?}");
    let messages: Vec<&str> = slot.iter().map(|record| field(record, "MESSAGE")).collect();
    for wanted in ["with a priority", "with another", "worker ready "] {
        assert!(messages.iter().any(|message| message.starts_with(wanted)), "{wanted}: {messages:#?}");
    }
    let warnings =
        site.machine.shell("journalctl --no-pager -o cat -u spoken HANDOVER_STREAM=stderr -p warning");
    assert_eq!(warnings, "with another\n");
    let tagged =
        site.machine.shell("journalctl --no-pager -o cat -t spoken HANDOVER_STREAM=stderr HANDOVER_SLOT=1");
    assert_eq!(tagged, "to standard error\n");
}

/// Messages of a flood, by worker.
#[track_caller]
fn assert_whole(site: &Site<'_>, worker: &str, lines: usize) {
    let last = format!("flood line {}", lines - 1);
    let of_worker = format!("HANDOVER_WORKER={worker}");
    eventually("the journal has the last line", || {
        let newest = records(site, &[&of_worker, "HANDOVER_STREAM=stdout", "--lines=1"]);
        newest.iter().any(|record| field(record, "MESSAGE") == last).then_some(())
    });
    let said = records(site, &[&of_worker]);
    let flood =
        said.iter().map(|record| field(record, "MESSAGE")).filter(|line| line.starts_with("flood line "));
    let wanted = (0..lines).map(|number| format!("flood line {number}"));
    assert!(flood.eq(wanted), "lines of worker {worker} are missing, or in another order");
}

fn last_words(machine: &Machine) {
    const LINES: usize = 10_000;
    let site = Site::new(machine, "wordy");
    site.put();
    // `crash` is what it does next: there is no time for anybody to read.
    site.script(&format!("serve\nready\n[worker=1] flood={LINES}\n[worker=1] crash\n"));
    site.open();
    site.serves();
    assert_whole(&site, "1", LINES);
    site.settle();
    assert_eq!(site.status().counter("lines_lost"), 0);
    site.stop();
}

fn stalled(machine: &Machine) {
    const LINES: usize = 5000;
    let site = Site::new(machine, "patient");
    site.put();
    site.add("[Service]\nWatchdogSec=2s\n");
    site.open();
    site.serves();
    let load = site.load();
    let fed = || site.show("WatchdogTimestampMonotonic").parse::<u64>().expect("microseconds");
    let journald = machine.succeed(&["systemctl", "show", "--value", "-p", "MainPID", "systemd-journald"]);
    machine.succeed(&["kill", "-STOP", &journald]);
    let began = fed();
    site.script(&format!("serve\nready\nflood={LINES}\n"));
    site.handover(&["reload"]).assert_code(0);
    eventually("three times of the watchdog are over", || (fed() > began + 6_000_000).then_some(()));
    load.wait_for(50);
    let status = site.status();
    assert_eq!(status.ready("web").len(), 2, "{status:#?}");
    machine.succeed(&["kill", "-CONT", &journald]);
    for worker in status.ready("web") {
        assert_eq!(worker.generation, 2);
        assert_whole(&site, &worker.worker.to_string(), LINES);
    }
    load.stop().assert_nothing_lost();
    assert_eq!(
        (site.show("NRestarts"), site.show("StatusText")),
        ("0".into(), "2 of 2 workers ready, generation 2".into())
    );
    site.assert_active();
    site.stop();
}
