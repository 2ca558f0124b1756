//! Characters that steer, turn around or hide: what a worker writes is seen by people as it is, and programs get it unchanged.

use handover::visible::is_hidden;

use crate::support::eventually;
use crate::support::service::Plan;

/// DEL, a C1 control sequence, right-to-left override, zero-width space, zero-width joiner, a tag.
const HIDDEN: &str = "a\u{7f}b\u{9b}2Jc\u{202e}d\u{200b}e\u{200d}f\u{e0041}g";
const SEEN: &str = "a\\u{7f}b\\u{9b}2Jc\\u{202e}d\\u{200b}e\\u{200d}f\\u{e0041}g";

fn script() -> String {
    format!("eprint={HIDDEN}\nstatus=s\u{202e}t\u{200b}u\nserve\nready")
}

#[track_caller]
fn assert_all_is_seen(text: &str) {
    let hidden: Vec<char> = text.chars().filter(|c| is_hidden(*c) && *c != '\n').collect();
    assert!(hidden.is_empty(), "{hidden:?} in {text:?}");
}

#[test]
fn json_says_what_a_worker_wrote_and_hides_nothing_of_it() {
    let service = Plan::new().script(&script()).start();
    let line = service.daemon.log.wait_for("the worker's line", |line| line.message() == HIDDEN);
    assert_all_is_seen(&line.text);
    let json = eventually("the status", || {
        let json = service.daemon.cli(&["status", "--json"]).stdout;
        json.contains("\\u202e").then_some(json)
    });
    assert_all_is_seen(&json);
    let document: serde_json::Value = serde_json::from_str(&json).expect("it is JSON");
    assert!(document.to_string().contains("s\u{202e}t\u{200b}u"), "{document}");
    let events = service.daemon.begin(&["events", "--json"]);
    service.daemon.settle();
    let mut daemon = service.daemon;
    daemon.stop();
    assert_all_is_seen(&events.finish().stdout);
    assert_all_is_seen(&daemon.log.text());
}

#[test]
fn people_see_all_that_a_worker_wrote() {
    let service = Plan::new().set("log", "format", "\"human\"").script(&script()).start();
    service.daemon.log.wait_for("the worker's line", |line| line.text.ends_with(SEEN));
    eventually("the status", || {
        let text = service.daemon.cli(&["status", "--slots"]).stdout;
        assert_all_is_seen(&text);
        text.contains("s\\u{202e}t\\u{200b}u").then_some(())
    });
    assert!(service.manager().said(&["STATUS"]).iter().all(|status| !status.contains(is_hidden)));
    let mut daemon = service.daemon;
    daemon.stop();
    assert_all_is_seen(&daemon.log.text());
}
