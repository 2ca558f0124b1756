//! Records in the journal: which fields they have, that none is lost, and that a journal holds nothing up.

use std::io::Read;

use crate::support::eventually;
use crate::support::journal::{Journald, Record, stream};
use crate::support::log::Line;
use crate::support::service::{Plan, Service};

/// What a worker's record says of where it comes from.
fn origin(record: &Record) -> [&str; 8] {
    ["NAME", "POOL", "SLOT", "GENERATION", "WORKER", "PID", "STREAM", "TRUNCATED"]
        .map(|name| record.field(&format!("HANDOVER_{name}")))
}

fn flood(records: &[Record], generation: &str) -> Vec<Record> {
    let wanted = |record: &&Record| {
        record.field("HANDOVER_GENERATION") == generation && record.message().starts_with("flood line")
    };
    records.iter().filter(wanted).cloned().collect()
}

#[track_caller]
fn assert_whole(flood: &[Record], lines: usize) {
    assert_eq!(flood.len(), lines);
    for (number, record) in flood.iter().enumerate() {
        assert_eq!(record.message(), format!("flood line {number}"));
    }
}

/// Started with `log.format = "journal"` and this journald.
fn start(plan: Plan, journald: &Journald) -> Service {
    let plan = plan.set("log", "format", "\"journal\"");
    let setup = journald.is_for(plan.setup());
    plan.start_with(setup)
}

#[test]
fn under_systemd_every_line_is_a_record_with_its_fields() {
    let plan = Plan::new()
        .script("print=<4>left \\e[1m=\neprint=right\nlong-line=20K\n[generation=2] exit=1\nserve\nready");
    let Some(mut journald) = Journald::absent(&plan.scratch) else { return };
    journald.serve();
    let (mut ours, stderr, named) = stream();
    let setup = journald.is_for(plan.setup().stderr(stderr).env("JOURNAL_STREAM", named));
    let service = plan.start_with(setup);
    let pid = service.ready()[0].pid.to_string();

    let left = journald.wait_for("the left line", |record| record.message() == "left \u{1b}[1m=");
    let right = journald.wait_for("the right line", |record| record.message() == "right");
    assert_eq!(origin(&left), ["test", "web", "0", "1", "1", &pid, "stdout", ""]);
    assert_eq!(origin(&right), ["test", "web", "0", "1", "1", &pid, "stderr", ""]);
    assert_eq!((left.field("PRIORITY"), right.field("PRIORITY")), ("4", "6"));
    assert_eq!((left.field("SYSLOG_IDENTIFIER"), left.field("CODE_FILE")), ("test", ""));
    let cut = journald.wait_for("a piece", |record| record.field("HANDOVER_TRUNCATED") == "true");
    let rest = journald.wait_for("its rest", |record| record.field("HANDOVER_CONTINUATION") == "true");
    assert_eq!((cut.message().len(), rest.message().len()), (16 << 10, 4 << 10));

    let ready = journald.wait_for("our own line", |record| record.message().starts_with("worker ready "));
    assert!(
        ready.message().starts_with(&format!("worker ready pool=web slot=0 generation=1 worker=1 pid={pid}"))
    );
    assert_eq!(origin(&ready), ["test", "web", "0", "1", "1", &pid, "", ""]);
    assert_eq!((ready.field("PRIORITY"), ready.field("SYSLOG_IDENTIFIER")), ("6", "test"));
    assert!(ready.field("TARGET").starts_with("handover::") && ready.field("CODE_FILE").starts_with("src/"));
    assert!(ready.field("CODE_LINE").parse::<u32>().is_ok());
    let starting = journald.wait_for("the first line", |record| record.message().starts_with("starting "));
    assert_eq!(starting.all("HANDOVER_NAME"), ["test"], "the name is there once");
    service.reload().assert_code(handover::exit::FAILED);
    let failed = journald.wait_for("a failure", |record| record.message().starts_with("worker failed "));
    assert_eq!((failed.field("PRIORITY"), failed.field("HANDOVER_GENERATION")), ("4", "2"));
    service.plan.scratch.write("c.toml", "PRIORITY=0\nnonsense");
    service.reload().assert_code(handover::exit::USAGE);
    let refused = journald.wait_for("a refusal", |record| record.message().starts_with("reload refused "));
    assert!(refused.field("HANDOVER_REASON").lines().count() > 1, "{refused:?}");
    assert_eq!((refused.message().lines().count(), refused.field("PRIORITY")), (1, "4"));

    service.stop();
    let mut text = String::new();
    ours.read_to_string(&mut text).expect("our stream");
    assert_eq!(text, "", "nothing is said twice");
}

#[test]
fn ten_thousand_last_lines_of_a_worker_arrive_as_its_own() {
    const LINES: usize = 10_000;
    let plan = Plan::new().workers(2);
    let plan = plan.script(&format!("serve\nready\n[worker=1] flood={LINES}\n[worker=1] crash"));
    let Some(mut journald) = Journald::absent(&plan.scratch) else { return };
    journald.serve();
    let service = start(plan, &journald);
    let last = format!("flood line {}", LINES - 1);
    journald.wait_for("the last line", |record| record.message() == last);
    service.reports().wait("the successor", |report| report.what == "ready" && report.worker == 3);
    let all = flood(&journald.records(), "1");
    assert_whole(&all, LINES);
    assert!(all.iter().all(|record| record.field("HANDOVER_WORKER") == "1"));
    service.stop();
}

#[test]
fn a_journal_that_stalls_stops_neither_the_loop_nor_a_watchdog() {
    const LINES: usize = 100_000;
    let plan = Plan::new().workers(2).script(&format!("serve\nready\n[slot=1] flood={LINES}"));
    let Some(mut journald) = Journald::absent(&plan.scratch) else { return };
    journald.stall();
    let plan = plan.set("log", "format", "\"journal\"");
    // For the process that is executed: the shell's pid is the daemon's.
    let watchdog = "export WATCHDOG_PID=$$ WATCHDOG_USEC=200000; exec \"$@\"";
    let setup = journald.is_for(plan.setup());
    let setup = setup.also_under(["sh", "-c", watchdog, "sh"]);
    let service = plan.start_with(setup);
    for _ in 0..5 {
        service.manager().wait_for("WATCHDOG=1");
        service.get("/").expect("an answer");
        assert_eq!(service.ready().len(), 2);
    }
    journald.serve();
    let last = format!("flood line {}", LINES - 1);
    journald.wait_for("the last line", |record| record.message() == last);
    assert_whole(&flood(&journald.records(), "1"), LINES);
    assert_eq!(service.daemon.status().0["counters"]["lines_lost"], 0);
    service.stop();
}

#[test]
fn a_journal_that_goes_and_returns_costs_no_line() {
    let plan = Plan::new().script("print=one\nserve\nready");
    let Some(mut journald) = Journald::absent(&plan.scratch) else { return };
    journald.serve();
    let service = start(plan, &journald);
    journald.wait_for("the first line", |record| record.message() == "one");
    journald.vanish();
    service.deploy("print=two\nserve\nready");
    service.reload_and_settle();
    let written = service.daemon.log.wait_for("the line on the way around", |line| line.message() == "two");
    assert_eq!(written.text("generation").as_deref(), Some("2"));
    let said = |line: &Line| line.message().starts_with("journal not reached");
    service.daemon.log.wait_for("the reason", said);
    journald.serve();
    service.deploy("print=three\nserve\nready");
    service.reload_and_settle();
    journald.wait_for("the third line", |record| record.message() == "three");
    journald.wait_for("the return", |record| record.message().starts_with("journal reached"));
    let of_workers = |record: &Record| !record.field("HANDOVER_STREAM").is_empty();
    let lines: Vec<String> =
        journald.records().iter().filter(|r| of_workers(r)).map(|r| r.message().to_owned()).collect();
    assert_eq!(lines, ["one", "three"]);
    assert_eq!(service.daemon.log.lines().iter().filter(|line| line.message() == "two").count(), 1);
    assert_eq!(service.daemon.log.lines().into_iter().filter(said).count(), 1);
    service.stop();
}

#[test]
fn a_journal_that_is_not_there_ends_nothing_and_is_taken_when_it_comes() {
    let plan = Plan::new().script("print=hello\nserve\nready");
    let Some(mut journald) = Journald::absent(&plan.scratch) else { return };
    let service = start(plan, &journald);
    let line = service.daemon.log.wait_for("the line", |line| line.message() == "hello");
    assert!(line.is_json(), "as it would be without a journal");
    service.daemon.log.wait_for("the reason", |line| line.message().starts_with("journal not reached"));
    journald.serve();
    eventually("lines are records again", || {
        service.reload_well();
        journald.records().iter().any(|record| record.message() == "hello").then_some(())
    });
    service.stop();
}
