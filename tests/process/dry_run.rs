//! `reload --dry-run`: it says what a reload does, and does nothing.

use serde_json::Value;

use crate::support::daemon::Output;
use crate::support::eventually;
use crate::support::lease::Lease;
use crate::support::scratch::Address;
use crate::support::service::{Plan, Service, quoted};

/// The plan of a dry run that ends with `code`.
#[track_caller]
fn plan(service: &Service, words: &[&str], code: u8) -> Value {
    let output = service.daemon.cli(&[&["reload", "--dry-run", "--json"], words].concat());
    output.assert_code(code);
    let lines: Vec<Value> =
        output.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON lines")).collect();
    assert_eq!(lines.len(), 1, "{output:#?}");
    assert_eq!(lines[0]["result"], if code == 0 { "done" } else { "refused" });
    assert_eq!(lines[0]["message"], lines[0]["plan"]["summary"]);
    lines[0]["plan"].clone()
}

fn named<'a>(list: &'a Value, name: &str) -> &'a Value {
    let list = list.as_array().expect("a list");
    list.iter().find(|entry| entry["name"] == name).unwrap_or_else(|| panic!("no {name} in {list:#?}"))
}

/// The keys that changed, as `key: old -> new`.
fn changes(entry: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or("none").to_owned();
    let change = |change: &Value| {
        let secret = if change["secret"] == true { " (secret)" } else { "" };
        format!("{}: {} -> {}{secret}", text(&change["key"]), text(&change["old"]), text(&change["new"]))
    };
    entry["changes"].as_array().expect("a list").iter().map(change).collect()
}

/// The status without what only time changes.
fn without_times(mut value: Value) -> Value {
    match &mut value {
        Value::Object(object) => {
            object
                .retain(|key, _| !key.ends_with("seconds_ago") && !key.ends_with("seconds") && key != "time");
            object.values_mut().for_each(|value| *value = without_times(value.take()));
        }
        Value::Array(list) => list.iter_mut().for_each(|value| *value = without_times(value.take())),
        _ => {}
    }
    value
}

/// A second pool, `jobs`, without listeners.
fn with_jobs(service: &mut Service) {
    let worker = format!("[{}]", quoted(&crate::support::scripted_worker().display().to_string()));
    service.configure("pool.jobs", "command", Some(&worker));
    service.configure("pool.jobs", "ready", Some("\"exec\""));
    service.configure("pool.jobs.rollout", "bake_time", Some("\"20ms\""));
}

#[test]
fn a_dry_run_changes_nothing_and_the_reload_does_what_it_said() {
    let mut service = Plan::new().workers(2).start();
    let before = without_times(service.daemon.status().0);
    let extra = Address::unix(&service.plan.scratch, "extra");
    service.configure("listener.extra", "address", Some(&quoted(&extra.to_string())));
    service.configure("listener.http", "backlog", Some("77"));
    service.configure("pool.web", "listeners", Some("[\"http\", \"extra\"]"));
    service.configure("pool.web", "workers", Some("3"));
    service.configure("log", "level", Some("\"debug\""));
    with_jobs(&mut service);
    for _ in 0..3 {
        let plan = plan(&service, &[], 0);
        assert_eq!(
            plan["summary"], "would roll 1 of 1 pool to generation 2, add 1; 1 listener bound",
            "the number is not used up"
        );
        assert_eq!((&plan["generation"], &plan["compared_with"]), (&2.into(), &1.into()));
        let web = named(&plan["pools"], "web");
        assert_eq!((&web["action"], &web["reason"]), (&"roll".into(), &"changed".into()));
        assert_eq!(changes(web), ["listeners: [\"http\"] -> [\"http\", \"extra\"]", "workers: 2 -> 3"]);
        assert_eq!(named(&plan["pools"], "jobs")["action"], "add");
        assert_eq!(changes(named(&plan["listeners"], "http")), ["backlog: none -> 77"]);
        let bound = named(&plan["listeners"], "extra");
        assert_eq!((&bound["action"], &bound["tried"]), (&"bind".into(), &false.into()));
        assert_eq!(plan["log"][0]["new"], "\"debug\"");
    }
    assert_eq!(without_times(service.daemon.status().0), before);
    assert!(!service.plan.scratch.join("extra").exists());
    assert_eq!(service.manager().said(&["READY", "RELOADING"]), ["READY=1"], "it is no reload");
    assert_eq!(service.reports().count("started"), 2);
    service.reload_and_settle();
    assert!(service.ready().iter().all(|worker| worker.generation == 2));
    let listener = service.daemon.status();
    assert_eq!(listener.listener("http").expect("it stays")["queue_max"], 77);
    let plan = plan(&service, &["--changed"], 0);
    assert_eq!(plan["summary"], "would roll 0 of 2 pools to generation 3");
    service.stop();
}

#[test]
fn what_goes_is_said_and_what_is_not_asked_for_is_left() {
    let mut service = Plan::new().start();
    with_jobs(&mut service);
    let (old, new) = (Address::tcp(), Address::tcp());
    service.configure("listener.jobs", "address", Some(&quoted(&old.to_string())));
    service.configure("pool.jobs", "listeners", Some("[\"jobs\"]"));
    service.reload_and_settle();
    service.configure("listener.jobs", "address", Some(&quoted(&new.to_string())));
    let moved = plan(&service, &["--changed"], 0);
    assert_eq!(moved["summary"], "would roll 1 of 2 pools to generation 3; 1 listener bound, 1 closed");
    let jobs = named(&moved["pools"], "jobs");
    let from_to = format!("listener.jobs.address: \"{old}\" -> \"{new}\"");
    assert_eq!((&jobs["action"], changes(jobs)), (&"roll".into(), vec![from_to]));
    let web = named(&moved["pools"], "web");
    assert_eq!((&web["action"], &web["reason"]), (&"leave".into(), &"unchanged".into()));
    let sockets: Vec<&Value> = moved["listeners"].as_array().expect("a list").iter().collect();
    let actions: Vec<&Value> = sockets.iter().map(|listener| &listener["action"]).collect();
    assert_eq!(actions, ["keep", "bind", "close"]);
    assert_eq!(sockets[1]["tried"], true);
    let only_web = plan(&service, &["--pool", "web"], 0);
    assert_eq!(only_web["summary"], "would roll 1 of 2 pools to generation 3");
    assert_eq!(named(&only_web["pools"], "web")["reason"], "always");
    assert_eq!(named(&only_web["pools"], "jobs")["reason"], "not_named");
    for key in ["command", "ready", "listeners"] {
        service.configure("pool.jobs", key, None);
    }
    service.configure("pool.jobs.rollout", "bake_time", None);
    service.configure("listener.jobs", "address", None);
    let gone = plan(&service, &[], 0);
    assert_eq!(gone["summary"], "would roll 1 of 2 pools to generation 3, remove 1; 1 listener closed");
    service.stop();
}

#[test]
fn no_secret_is_shown() {
    let plan_of = Plan::new();
    let path = plan_of.scratch.write("environment", "TOKEN=from-a-file\n");
    let files = format!("[{}]", quoted(&path.display().to_string()));
    let mut service = plan_of.pool("environment_files", &files).variable("KEY", "hush-one").start();
    assert_eq!(named(&plan(&service, &["--changed"], 0)["pools"], "web")["action"], "leave");
    service.plan.scratch.write("environment", "TOKEN=from-a-file-2\n");
    let changed = plan(&service, &["--changed"], 0);
    let web = named(&changed["pools"], "web");
    assert_eq!(changes(web), ["environment_files (their content): none -> none (secret)"]);
    let environment = "{ KEY = \"hush-two\" }";
    service.configure("pool.web", "environment", Some(environment));
    let output = service.daemon.cli(&["reload", "--dry-run"]);
    output
        .assert_code(0)
        .assert_says("environment.KEY: changed")
        .assert_says("environment_files (their content): changed");
    let all = format!("{changed}{}", output.text());
    assert!(!all.contains("hush") && !all.contains("from-a-file"), "{all}");
    service.stop();
}

#[test]
fn everything_that_is_wrong_is_said_at_once() {
    let mut service = Plan::new().start();
    let before = without_times(service.daemon.status().0);
    let holder = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let taken = format!("tcp://{}", holder.local_addr().expect("it is bound"));
    service.configure("", "name", Some("\"other\""));
    service.configure("listener.http", "nonblocking", Some("true"));
    service.configure("listener.taken", "address", Some(&quoted(&taken)));
    service.configure("listener.path", "address", Some("\"unix:/no/such/directory/s\""));
    service.configure("pool.web", "listeners", Some("[\"http\", \"taken\", \"path\"]"));
    service.configure("pool.web", "environment_files", Some("[\"/no/such/file\"]"));
    let plan = plan(&service, &[], handover::exit::USAGE);
    let refusals: Vec<&str> =
        plan["refusals"].as_array().expect("a list").iter().filter_map(Value::as_str).collect();
    assert_eq!(refusals.len(), 5, "{refusals:#?}");
    for (text, what) in [
        ("name: ", "needs a restart"),
        ("listener.http.nonblocking: ", "needs a restart"),
        ("environment file /no/such/file", "no such file"),
        ("listener taken: ", "already in use"),
        ("listener path: ", "no such directory"),
    ] {
        assert!(refusals.iter().any(|why| why.contains(text) && why.contains(what)), "{text}: {refusals:#?}");
    }
    let output: Output = service.daemon.cli(&["reload", "--dry-run"]);
    output.assert_code(handover::exit::USAGE).assert_says("refused: name: ").assert_says("(and 4 more)");
    service.plan.scratch.write("c.toml", "wrong = 1\n");
    let output = service.daemon.cli(&["reload", "--dry-run"]);
    output.assert_code(handover::exit::USAGE).assert_says("c.toml:1:1").assert_says("refused: ");
    assert_eq!(without_times(service.daemon.status().0), before);
    service.stop();
}

#[test]
fn a_program_that_is_another_one_or_gone_is_said() {
    let plan_of = Plan::new();
    let program = plan_of.scratch.join("program");
    std::fs::copy(crate::support::scripted_worker(), &program).expect("our directory");
    let service = plan_of.command(&[&program.display().to_string()]).start();
    let same = plan(&service, &[], 0);
    assert_eq!(named(&same["pools"], "web")["program"]["differs"], Value::Null);
    let next = service.plan.scratch.join("next");
    std::fs::copy(crate::support::scripted_worker(), &next).expect("our directory");
    std::fs::rename(&next, &program).expect("our directory");
    let other = plan(&service, &[], 0);
    let web = named(&other["pools"], "web");
    assert_eq!(web["program"]["differs"], "inode differs since generation 1");
    assert_eq!(web["reason"], "always");
    std::fs::remove_file(&program).expect("our file");
    let gone = plan(&service, &[], 0);
    assert!(gone["summary"].as_str().expect("a line").ends_with("; and it would fail"), "{gone}");
    assert_eq!(gone["warnings"].as_array().map(Vec::len), Some(1));
    service.stop();
}

#[test]
fn while_a_rollout_runs_it_is_compared_with_what_that_makes() {
    let mut service = Plan::new().script("serve\n[generation=2] hang\nready").start();
    service.configure("pool.web", "workers", Some("2"));
    let reload = service.daemon.begin(&["reload"]);
    service.reports().wait("the canary", |report| report.what == "started" && report.generation == 2);
    let running = plan(&service, &["--changed"], 0);
    assert_eq!((&running["rollout_running"], &running["compared_with"]), (&true.into(), &2.into()));
    assert_eq!(running["summary"], "would roll 0 of 1 pool to generation 3");
    service.daemon.cli(&["cancel"]).assert_code(0);
    reload.finish().assert_code(handover::exit::FAILED);
    let after = plan(&service, &["--changed"], 0);
    assert_eq!((&after["rollout_running"], &after["compared_with"]), (&false.into(), &1.into()));
    assert_eq!(changes(named(&after["pools"], "web")), ["workers: 1 -> 2"]);
    service.stop();
}

#[test]
fn a_dry_run_that_hangs_ends_with_the_daemon_and_keeps_no_reload_from_being_made() {
    let mut service = Plan::new().start();
    let path = service.plan.scratch.write("environment", "A=1\n");
    let files = format!("[{}]", quoted(&path.display().to_string()));
    service.configure("pool.web", "environment_files", Some(&files));
    let _lease = Lease::take(&path);
    let hanging: Vec<_> = (0..5).map(|_| service.daemon.begin(&["reload", "--dry-run"])).collect();
    eventually("four of them hang", || {
        let readings = service.daemon.status().0["readings"].as_array().map(Vec::len);
        (readings == Some(4)).then_some(())
    });
    service.configure("pool.web", "environment_files", None);
    service.reload_well();
    service.daemon.stop();
    let ended: Vec<Output> = hanging.into_iter().map(|client| client.finish()).collect();
    let said = |text: &str| ended.iter().filter(|output| output.text().contains(text)).count();
    assert_eq!((said("too many readings"), said("stopping")), (1, 4), "{ended:#?}");
}
