//! Workers that are rude on their channel: it costs them that channel, and nobody else anything.

use crate::channel::{printed, speaker};
use crate::support::load::Load;
use crate::support::machine::{find, skipped};
use crate::support::service::{Plan, Service};
use crate::support::{eventually, proc};

#[test]
fn a_worker_that_breaks_the_rules_is_told_loses_its_channel_and_is_replaced_start_first() {
    let steps = ["hello", r#"say={"type":"ready"}"#, "[worker=1] say=nonsense", "drain"];
    let Some(plan) = speaker(&steps) else { return };
    let service = plan.start();
    printed(&service, 1, r#"got {"type":"refused","error":"protocol","reason":"a line is not JSON"#);
    printed(&service, 1, "the channel has ended");
    service.daemon.log.wait_for("why", |line| line.text("reason").as_deref() == Some("channel lost"));
    eventually("the second alone", || {
        let workers = service.daemon.status().workers("web");
        (workers.len() == 1 && workers[0].worker == 2).then_some(())
    });
    service.stop();
}

#[test]
fn a_worker_that_acknowledges_no_sockets_gets_no_more_of_them() {
    let Some(plan) = speaker(&["hello", r#"say={"type":"ready"}"#, "hoard", "drain"]) else { return };
    let service = plan.start();
    printed(&service, 1, "that is all");
    let no = printed(&service, 1, r#""re":199,"error":"queue_full""#);
    assert!(no.contains("does not acknowledge"), "{no}");
    let fds = proc::fds(service.daemon.pid()).len();
    assert!(fds < 180, "{fds} fds for a worker that took 199 sockets");
    service.stop();
}

#[test]
fn rude_workers_cost_themselves_their_channel_and_nobody_else_anything() {
    let Some(python) = find("python3").filter(|_| !skipped("python3", find("python3").is_none())) else {
        return;
    };
    let service = Plan::new()
        .workers(2)
        .set("pool.rude", "command", &serde_json::json!([python, HOSTILE]).to_string())
        .set("pool.rude", "workers", "2")
        .set("pool.rude", "ready", "\"exec\"")
        .set("pool.rude.rollout", "bake_time", "\"0s\"")
        .set("pool.rude", "ping_timeout", "\"300ms\"")
        .set("pool.rude", "stop_timeout", "\"100ms\"")
        .set("pool.rude.restart", "backoff", "\"1ms\"")
        .set("pool.rude.restart", "backoff_max", "\"2ms\"")
        .start();
    let load = Load::open(service.address(), 100).start();
    let seen = || (proc::fds(service.daemon.pid()).len(), proc::own_memory_kib(service.daemon.pid()));
    let rounds = rounds();
    let mut read = 0;
    // What is kept for each way that a thing can go is kept from then on.
    each_way(&service, &mut read);
    let before = seen();
    (0..rounds).for_each(|_| each_way(&service, &mut read));
    eventually("the fds of before", || (seen().0 <= before.0 + 8).then_some(()));
    let after = seen();
    println!(
        "hostile: {rounds} rounds of {WAYS} ways, fds {} then {}, KiB {} then {}",
        before.0, after.0, before.1, after.1
    );
    load.wait_for(100);
    load.stop().assert_nothing_lost();
    let text = service.daemon.log.text();
    for fault in FAULTS {
        assert!(text.contains(fault), "nobody was told: {fault}");
    }
    assert!(after.1 <= before.1 + 2048, "KiB of its own: {before:?}, then {after:?}");
    service.stop();
}

/// A minute and more of it: `HANDOVER_TEST_RUDE=30`. The load lasts two minutes.
fn rounds() -> usize {
    std::env::var("HANDOVER_TEST_RUDE").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(2)
}

/// Waits until as many workers as there are ways have begun, from the `read`th line of the log on.
fn each_way(service: &Service, read: &mut usize) {
    for _ in 0..WAYS {
        let from = *read;
        service.daemon.log.wait_from(from, "that one more of them has begun", |line| {
            *read += 1;
            line.is_worker_output() && line.message().starts_with("did ")
        });
    }
}

const HOSTILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/real/hostile.py");

/// So many are in `hostile.py`.
const WAYS: usize = 29;

/// What the daemon says of them.
const FAULTS: [&str; 15] = [
    "a line is not JSON: ",
    "a line is not a JSON object",
    "a line has no type",
    "nests deeper than 64",
    "not UTF-8",
    "longer than 65536 bytes",
    "longer than 1048576 bytes",
    "a line of type status has no text",
    "a second hello came",
    "a line says 2 fds, and 0 have come",
    "a line of type listen carries fds",
    "id 5 was used again",
    "fds came that no line says",
    "before hello",
    "no answer to a ping for",
];

#[test]
fn a_flood_of_fds_to_keep_costs_neither_our_fds_nor_the_siblings() {
    let Some(python) = find("python3").filter(|_| !skipped("python3", find("python3").is_none())) else {
        return;
    };
    let command = serde_json::json!([python, crate::stored::KEEPER, "notify=READY=1", "flood"]);
    let plan = Plan::new()
        .workers(2)
        .set("pool.rude", "command", &command.to_string())
        .set("pool.rude", "workers", "3")
        .set("pool.rude", "stop_timeout", "\"100ms\"");
    // 1,024 open files: a quarter of them is there for all that workers put away.
    let setup = plan.setup().under(["prlimit", "--nofile=1024:1024", "--"]);
    let service = plan.start_with(setup);
    let load = Load::open(service.address(), 100).start();
    service.daemon.log.wait_for("it has too much", |line| line.text.contains("fds were not stored"));
    for _ in 0..20 {
        let fds = proc::fds(service.daemon.pid()).len();
        assert!(fds < 700, "{fds} fds");
        service.get("/").expect("an answer");
        service.daemon.status();
    }
    service.daemon.cli(&["restart", "--pool", "web"]).assert_code(handover::exit::DONE);
    load.wait_for(100);
    load.stop().assert_nothing_lost();
    service.stop();
}
