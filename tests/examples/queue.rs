//! The queue: no job is lost, whatever becomes of its worker.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use crate::program::Alone;
use crate::stage::Stage;
use crate::support::child::Handle;
use crate::support::daemon::Daemon;
use crate::support::eventually;

const JOBS: usize = 300;

/// Puts a job in, as anybody would: whole or not at all.
fn put(stage: &Stage, name: &str, text: impl AsRef<[u8]>) {
    let draft = stage.scratch.join("spool/tmp").join(name);
    fs::write(&draft, text).expect("our directory");
    fs::rename(draft, stage.scratch.join("spool/new").join(name)).expect("our directory");
}

/// What is in one of its directories, if it is there.
fn names(stage: &Stage, part: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(stage.scratch.join("spool").join(part)).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().into_string().expect("text")).collect()
}

#[track_caller]
fn wait_for(stage: &Stage, done: usize) {
    eventually("jobs are done", || (names(stage, "done").len() >= done).then_some(()));
}

/// Kills a worker that has a job in hand.
#[track_caller]
fn kill_a_busy_worker(stage: &Stage, daemon: &Daemon) {
    let pid = eventually("a worker has a job", || {
        let busy = daemon.status().ready("queue").into_iter().find(|worker| {
            let directory = stage.scratch.join(&format!("spool/claimed/{}.0", worker.pid));
            fs::read_dir(directory).is_ok_and(|mut jobs| jobs.next().is_some())
        });
        busy.map(|worker| worker.pid)
    });
    Handle::open(pid).expect("it was seen").signal(libc::SIGKILL);
}

#[test]
fn no_job_of_the_queue_is_lost_by_kills_deploys_and_scaling() {
    let Some(stage) = Stage::new("queue", &[]) else { return };
    stage.edit("queue.toml", "SPOOL = \"spool\"", "SPOOL = \"spool\", EFFORT_MS = \"25\"");
    let mut daemon = stage.start();
    let wanted: BTreeSet<String> = (0..JOBS).map(|number| format!("job-{number:04}")).collect();
    for (number, name) in wanted.iter().enumerate() {
        put(&stage, name, "some words\n".repeat(number));
    }
    put(&stage, "bad", [0xff, 0xfe]);
    wait_for(&stage, 20);
    kill_a_busy_worker(&stage, &daemon);
    wait_for(&stage, 60);
    stage.install();
    daemon.cli(&["reload"]).assert_code(handover::exit::DONE);
    daemon.cli(&["scale", "queue", "5"]).assert_code(handover::exit::DONE);
    kill_a_busy_worker(&stage, &daemon);
    daemon.cli(&["scale", "queue", "2"]).assert_code(handover::exit::DONE);
    daemon.cli(&["restart"]).assert_code(handover::exit::DONE);
    eventually("all are done", || (names(&stage, "done") == wanted).then_some(()));
    eventually("nothing is left in hand", || {
        let claimed = stage.scratch.join("spool/claimed");
        let owners = fs::read_dir(claimed).expect("it is there").flatten();
        let mut jobs = owners.flat_map(|owner| fs::read_dir(owner.path()).into_iter().flatten());
        jobs.next().is_none().then_some(())
    });
    for (number, name) in wanted.iter().enumerate() {
        let result = fs::read_to_string(stage.scratch.join("spool/done").join(name)).expect("it is done");
        assert_eq!(result, format!("{number} lines, {} words, {} bytes\n", number * 2, number * 11));
    }
    assert_eq!(names(&stage, "new").len(), 0);
    assert_eq!(names(&stage, "failed"), BTreeSet::from(["bad".to_owned()]));
    assert!(daemon.status().mentions("done, "));
    daemon.stop();
    assert_eq!(names(&stage, "claimed"), BTreeSet::new(), "each worker that ended took its directory away");
}

#[test]
fn what_kills_every_worker_is_set_aside_and_the_queue_runs_alone() {
    let Some(stage) = Stage::new("queue", &[]) else { return };
    let start = || {
        let mut alone = Command::new(stage.program());
        alone.current_dir(stage.scratch.path()).env("EFFORT_MS", "0");
        alone
    };
    fs::create_dir_all(stage.scratch.join("spool/claimed/1.0")).expect("our directory");
    fs::create_dir_all(stage.scratch.join("spool/tmp")).expect("our directory");
    fs::create_dir_all(stage.scratch.join("spool/new")).expect("our directory");
    // As five workers left them that died with these in hand: one each, and the same one all the time.
    fs::write(stage.scratch.join("spool/claimed/1.0/once"), "a b\n").expect("our directory");
    fs::write(stage.scratch.join("spool/claimed/1.0/poison~4"), "a b\n").expect("our directory");
    put(&stage, "fresh", "a\n");
    let alone = Alone::start(&mut start());
    eventually("all are done", || (names(&stage, "done").len() == 2).then_some(()));
    assert_eq!(names(&stage, "failed"), BTreeSet::from(["poison".to_owned()]));
    alone.ends_well();
    assert_eq!(names(&stage, "claimed"), BTreeSet::new());
}
