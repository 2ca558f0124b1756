//! Fds that a worker puts away and its successor finds. The worker is `tests/real/keeper.py`.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::channel::printed;
use crate::support::eventually;
use crate::support::machine::{find, skipped};
use crate::support::service::{Plan, Service};

pub(crate) const KEEPER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/real/keeper.py");

/// A pool of keepers that do this.
pub(crate) fn keeper(steps: &[&str]) -> Option<Plan> {
    keeper_with(Plan::new(), steps)
}

pub(crate) fn keeper_with(plan: Plan, steps: &[&str]) -> Option<Plan> {
    if skipped("python3", find("python3").is_none()) {
        return None;
    }
    let python = find("python3")?;
    let words: Vec<&str> = [python.as_str(), KEEPER].into_iter().chain(steps.iter().copied()).collect();
    Some(plan.command(&words).without_script())
}

/// What a worker was given, as `NAME=INODE`.
fn given(service: &Service, worker: u64) -> Vec<String> {
    let said = printed(service, worker, "has ");
    let said = said.trim_start_matches("has ").trim_end_matches('.');
    said.split_whitespace().map(str::to_owned).collect()
}

/// What a worker stored, as `NAME=INODE`.
fn stored(service: &Service, worker: u64, name: &str) -> String {
    printed(service, worker, &format!("stores {name}=")).trim_start_matches("stores ").to_owned()
}

/// The names that status shows for a slot, and how many were refused there.
fn shown(service: &Service, pool: &str, slot: usize) -> (Vec<String>, u64) {
    let status = service.daemon.status();
    let Some(slot) = status.pool(pool).and_then(|pool| pool["slots"].get(slot)) else {
        return (Vec::new(), 0);
    };
    let names = slot["stored_fds"].as_array().into_iter().flatten();
    let names = names.map(|name| name.as_str().unwrap_or_default().to_owned()).collect();
    (names, slot["stored_fds_refused"].as_u64().unwrap_or(0))
}

/// A pipe in the file system: a worker opens it for writing, and we see when the last of its writers is gone.
fn pipe(path: &Path) -> File {
    nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).expect("a free path");
    let mut options = File::options();
    options.read(true).custom_flags(libc::O_NONBLOCK).open(path).expect("it was made above")
}

fn wait_for_end(pipe: &mut File) {
    eventually("nobody has the other end", || {
        pipe.read(&mut [0]).is_ok_and(|length| length == 0).then_some(())
    });
}

fn is_open(pipe: &mut File) -> bool {
    pipe.read(&mut [0]).is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
}

#[test]
fn the_worker_that_follows_gets_them_by_name_after_a_crash_and_after_a_rollout() {
    let steps = [
        "[worker=1] store=memory,memory",
        "[worker=1] store=door,listener",
        "[worker=1] store=memory,memory",
        "notify=READY=1",
    ];
    let Some(plan) = keeper(&steps) else { return };
    let service = plan.start();
    assert_eq!(given(&service, 1).len(), 1);
    eventually("three are kept", || {
        (shown(&service, "web", 0).0 == ["memory", "door", "memory"]).then_some(())
    });
    let table = service.daemon.cli(&["status"]).text();
    assert!(table.contains("3 stored fds"), "{table}");
    service.kill(&service.ready()[0]);
    let second = given(&service, 2);
    assert!(second[0].starts_with("http="), "{second:?}");
    assert_eq!(second[1], stored(&service, 1, "memory"));
    assert_eq!(second[2], stored(&service, 1, "door"));
    assert!(second[3].starts_with("memory=") && second[3] != second[1], "{second:?}");
    service.daemon.settle();
    service.reload_and_settle();
    assert_eq!(given(&service, 3), second);
    service.stop();
}

#[test]
fn what_is_removed_is_closed_and_not_given_again() {
    let Some(plan) = keeper(&[]) else { return };
    let path = plan.scratch.join("pipe");
    let mut ours = pipe(&path);
    let store = format!("[worker=1] store=a,{}", path.display());
    let steps = [
        &store,
        "[worker=1] store=b,memory",
        "notify=READY=1",
        "[worker=2] notify=FDSTOREREMOVE=1\\nFDNAME=a",
    ];
    let Some(plan) = keeper_with(plan, &steps) else { return };
    let service = plan.start();
    eventually("both", || (shown(&service, "web", 0).0 == ["a", "b"]).then_some(()));
    assert!(is_open(&mut ours));
    service.reload_and_settle();
    // Given to the second, which has it open still.
    assert!(is_open(&mut ours));
    eventually("one", || (shown(&service, "web", 0).0 == ["b"]).then_some(()));
    service.reload_and_settle();
    wait_for_end(&mut ours);
    assert_eq!(given(&service, 3)[1..], [stored(&service, 1, "b")]);
    service.stop();
}

#[test]
fn what_may_not_be_stored_is_refused_and_told_once() {
    let steps = [
        "store=many,memory,70",
        "store=more,memory,5",
        "store=many,memory,3",
        "store=http,memory",
        "notify=FDSTORE=1\\nFDNAME=none",
        "stranger=store=foreign,memory",
        "barrier",
        "notify=READY=1",
    ];
    let Some(plan) = keeper(&steps) else { return };
    let service = plan.start();
    let (names, refused) = shown(&service, "web", 0);
    assert_eq!((names.len(), refused), (64, 6 + 5 + 3 + 1));
    assert!(names.iter().all(|name| name == "many"));
    let told = |what: &str| {
        let text = service.daemon.log.text();
        text.lines().filter(|line| line.contains(what)).map(str::to_owned).collect::<Vec<_>>()
    };
    let full = told("64 are kept for this slot");
    assert!(full.len() == 1 && full[0].contains("\"fds\":6"), "{full:?}");
    assert_eq!(told("http is the name of a listener").len(), 1);
    assert_eq!(told("FDSTORE=1 came without fds").len(), 1);
    assert_eq!(told("sender outside the worker's process group").len(), 1);
    service.stop();
}

#[test]
fn what_a_barrier_waits_for_is_done_when_it_is_passed() {
    let steps = ["store=a,memory", "store=b,memory", "barrier", "notify=READY=1"];
    let Some(plan) = keeper(&steps) else { return };
    let service = plan.begin();
    printed(&service, 1, "barrier passed");
    assert_eq!(shown(&service, "web", 0).0, ["a", "b"]);
    service.stop();
}

#[test]
fn what_hangs_up_is_let_go_of() {
    let steps = ["store=b,memory", "store=a,pipe", "notify=READY=1"];
    let Some(plan) = keeper(&steps) else { return };
    let service = plan.start();
    eventually("both", || (shown(&service, "web", 0).0 == ["b", "a"]).then_some(()));
    service.kill(&service.ready()[0]);
    // The first one's other end went with it; the second has one of its own.
    eventually("the pipe of the second", || (shown(&service, "web", 0).0 == ["b", "b", "a"]).then_some(()));
    service.stop();
}

#[test]
fn scaling_down_closes_them() {
    let plan = Plan::new().workers(2);
    let path = plan.scratch.join("pipe");
    let mut ours = pipe(&path);
    let store = format!("[slot=1] store=a,{}", path.display());
    let Some(plan) = keeper_with(plan, &[&store, "[slot=0] store=b,memory", "notify=READY=1"]) else {
        return;
    };
    let service = plan.start();
    eventually("it is kept", || (shown(&service, "web", 1).0 == ["a"]).then_some(()));
    assert!(is_open(&mut ours));
    service.daemon.cli(&["scale", "web", "1"]).assert_code(handover::exit::DONE);
    wait_for_end(&mut ours);
    assert_eq!(shown(&service, "web", 0).0, ["b"]);
    service.stop();
}

#[test]
fn removing_their_pool_closes_them_and_so_does_stopping() {
    let plan = Plan::new();
    let (path, other) = (plan.scratch.join("pipe"), plan.scratch.join("other"));
    let (mut ours, mut of_other) = (pipe(&path), pipe(&other));
    let words = |path: &Path| {
        let python = find("python3").unwrap_or_default();
        serde_json::json!([python, KEEPER, format!("store=a,{}", path.display()), "notify=READY=1"])
            .to_string()
    };
    let other = words(&other);
    let plan = plan.pool("command", &words(&path)).without_script().set("pool.other", "command", &other);
    if skipped("python3", find("python3").is_none()) {
        return;
    }
    let mut service = plan.start();
    eventually("both", || {
        (shown(&service, "web", 0).0 == ["a"] && shown(&service, "other", 0).0 == ["a"]).then_some(())
    });
    service.configure("pool.other", "command", None);
    service.reload_and_settle();
    wait_for_end(&mut of_other);
    assert!(is_open(&mut ours));
    service.stop();
    wait_for_end(&mut ours);
}

#[test]
fn a_listener_wins_over_what_is_stored_under_its_name_and_the_way_back_has_it() {
    let steps = ["[worker=1] store=admin,memory", "notify=READY=1"];
    let Some(plan) = keeper(&steps) else { return };
    let mut service = plan.start();
    let kept = stored(&service, 1, "admin");
    let address = format!("\"unix://{}\"", service.plan.scratch.join("admin").display());
    service.configure("listener.admin", "address", Some(&address));
    service.configure("pool.web", "listeners", Some("[\"http\", \"admin\"]"));
    service.reload_and_settle();
    let second = given(&service, 2);
    assert!(second.len() == 2 && second[1].starts_with("admin=") && second[1] != kept, "{second:?}");
    service.daemon.log.wait_for("it is told", |line| {
        line.text("what").as_deref() == Some("there is a listener of their name")
    });
    service.configure("listener.admin", "address", None);
    service.configure("pool.web", "listeners", Some("[\"http\"]"));
    service.reload_and_settle();
    assert_eq!(given(&service, 3)[1..], [kept]);
    service.stop();
}

#[test]
fn they_end_before_the_ready_fd() {
    let steps = ["[worker=1] store=a,memory,3", "ready-fd=5"];
    let Some(plan) = keeper(&steps) else { return };
    let plan = plan.pool("ready", "\"fd\"").pool("ready_fd", "5");
    let service = plan.start();
    eventually("one has a number", || (shown(&service, "web", 0) == (vec!["a".to_owned()], 2)).then_some(()));
    service.kill(&service.ready()[0]);
    let second = given(&service, 2);
    assert_eq!(second.len(), 2);
    assert!(service.daemon.log.text().contains("ready_fd = 5 leaves no number for more"));
    service.stop();
}

#[test]
fn the_program_of_the_page_counts_on_from_worker_to_worker() {
    let Some(python) = find("python3").filter(|_| !skipped("python3", find("python3").is_none())) else {
        return;
    };
    let page = include_str!("../../docs/workers.md");
    let program = page.split("```python file=visits.py\n").nth(1).and_then(|rest| rest.split("```").next());
    let plan = Plan::new().without_script();
    let program = plan.scratch.write("visits.py", program.expect("it is on the page"));
    let service = plan.command(&[&python, program.to_str().expect("a path in /tmp")]).start();
    printed(&service, 1, "start number 1");
    service.reload_and_settle();
    printed(&service, 2, "start number 2");
    service.kill(&service.ready()[0]);
    printed(&service, 3, "start number 3");
    service.stop();
}
