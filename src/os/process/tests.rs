//! Real children: `sh` in a process group of its own.

#![expect(clippy::zombie_processes, reason = "the tests reap through pidfds")]

use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::*;

/// Starts `script` as the leader of its own group, and returns its pid and what it prints.
fn sh(script: &str) -> (u32, std::process::ChildStdout) {
    let mut child =
        Command::new("/bin/sh").args(["-c", script]).process_group(0).stdout(Stdio::piped()).spawn().unwrap();
    (child.id(), child.stdout.take().unwrap())
}

/// Lines of what a child prints; blocking, which a child that prints ends.
fn line(out: &mut std::process::ChildStdout) -> String {
    use std::io::Read;
    let mut text = String::new();
    loop {
        let mut byte = [0];
        assert_eq!(out.read(&mut byte).unwrap(), 1, "the child ended before it had printed a line");
        match byte[0] {
            b'\n' => return text,
            byte => text.push(byte.into()),
        }
    }
}

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(Duration::from_secs(20), future).await {
        Ok(done) => done,
        Err(_) => panic!("{what} did not happen"),
    }
}

#[tokio::test(flavor = "current_thread")]
async fn an_exit_is_seen_and_can_be_looked_at_before_it_is_reaped() {
    let (pid, _out) = sh("exit 3");
    let pidfd = Pidfd::open(pid).unwrap();
    soon("the exit", pidfd.exited()).await.unwrap();
    soon("the exit, again", pidfd.exited()).await.unwrap();
    assert_eq!(pidfd.peek().unwrap(), Some(Exit::Code(3)));
    assert_eq!(pidfd.peek().unwrap(), Some(Exit::Code(3)));
    assert!(kill_group(pid, 0).unwrap(), "its number is still its own");
    assert_eq!(pidfd.reap().unwrap(), Some(Exit::Code(3)));
    assert_eq!(pidfd.reap().unwrap(), Some(Exit::Unknown));
    assert!(!pidfd.send_signal(0).unwrap());
    assert!(!kill_group(pid, 0).unwrap());
}

#[tokio::test(flavor = "current_thread")]
async fn a_group_is_reached_though_its_leader_was_reaped_by_somebody_else() {
    let (pid, mut out) = sh("sleep 1000 >/dev/null & echo up");
    let pidfd = Pidfd::open(pid).unwrap();
    line(&mut out);
    soon("the exit", pidfd.exited()).await.unwrap();
    assert!(pidfd.signal_group(0).unwrap());
    // It does not matter who does it.
    pidfd.reap().unwrap();
    match pidfd.signal_group(libc::SIGKILL) {
        Err(error) if error.kind() == std::io::ErrorKind::Unsupported => {
            kill_group(pid, libc::SIGKILL).unwrap();
        }
        reached => {
            assert!(reached.unwrap());
            soon("the group's end", group_empty(pid)).await.unwrap();
            while pidfd.signal_group(0).unwrap() {
                tokio::task::yield_now().await;
            }
        }
    }
}

#[tokio::test(flavor = "current_thread")]
async fn signals_end_processes_real_time_ones_too() {
    for signal in [libc::SIGTERM, libc::SIGKILL, libc::SIGRTMIN() + 3] {
        let (pid, mut out) = sh("echo up; while :; do sleep 10; done");
        let pidfd = Pidfd::open(pid).unwrap();
        line(&mut out);
        assert_eq!(pidfd.peek().unwrap(), None);
        assert!(pidfd.send_signal(0).unwrap());
        assert!(kill_group(pid, signal).unwrap());
        soon("the exit", pidfd.exited()).await.unwrap();
        assert_eq!(pidfd.peek().unwrap(), Some(Exit::Signal { signal, core: false }));
        soon("the end of its sleep", group_empty(pid)).await.unwrap();
        pidfd.reap().unwrap();
    }
}

#[tokio::test(flavor = "current_thread")]
async fn a_group_is_empty_when_the_last_descendant_has_ended() {
    // The grandchild's parent lives; the great-grandchild's has gone.
    let (pid, mut out) = sh("sh -c 'sh -c \"echo deep; exec sleep 1000\" & wait' & echo $!; exit 0");
    let pidfd = Pidfd::open(pid).unwrap();
    let first = line(&mut out);
    let second = line(&mut out);
    let child: u32 = if first == "deep" { second } else { first }.parse().unwrap();
    soon("the exit", pidfd.exited()).await.unwrap();
    let members = group_members(pid).unwrap();
    assert!(members.contains(&child) && !members.contains(&pid), "{members:?}");
    assert!(members.len() >= 2, "{members:?}");

    let mut empty = std::pin::pin!(group_empty(pid));
    let early = tokio::time::timeout(Duration::from_millis(1), &mut empty).await;
    assert!(early.is_err(), "two of them are alive");
    assert!(kill_group(pid, libc::SIGKILL).unwrap());
    soon("the end of the group", &mut empty).await.unwrap();
    assert!(group_members(pid).unwrap().is_empty());
    assert_eq!(pidfd.reap().unwrap(), Some(Exit::Code(0)));
}

#[tokio::test(flavor = "current_thread")]
async fn a_process_that_joins_while_the_group_is_awaited_is_awaited_too() {
    let (stdin, mut go) = std::io::pipe().unwrap();
    let script = "exec 3<&0; sh -c 'echo up; read x; sleep 1000 & echo $!' <&3 & exit 0";
    let mut leader = Command::new("/bin/sh");
    let mut leader =
        leader.args(["-c", script]).process_group(0).stdin(stdin).stdout(Stdio::piped()).spawn().unwrap();
    let (pid, mut out) = (leader.id(), leader.stdout.take().unwrap());
    let pidfd = Pidfd::open(pid).unwrap();
    line(&mut out);
    soon("the exit", pidfd.exited()).await.unwrap();
    let waiting = group_members(pid).unwrap();
    assert_eq!(waiting.len(), 1);
    let first = Pidfd::open(waiting[0]).unwrap();

    let mut empty = std::pin::pin!(group_empty(pid));
    assert!(tokio::time::timeout(Duration::from_millis(1), &mut empty).await.is_err());
    std::io::Write::write_all(&mut go, b"\n").unwrap();
    let joined: u32 = line(&mut out).parse().unwrap();
    soon("the first one's exit", first.exited()).await.unwrap();
    assert!(tokio::time::timeout(Duration::from_millis(1), &mut empty).await.is_err());
    assert_eq!(group_members(pid).unwrap(), [joined]);
    assert!(kill_group(pid, libc::SIGKILL).unwrap());
    soon("the end of the group", empty).await.unwrap();
    pidfd.reap().unwrap();
}

#[test]
fn groups_that_mean_something_else_to_kill_are_refused() {
    for group in [0, 1, u32::MAX] {
        assert_eq!(kill_group(group, 0).unwrap_err().raw_os_error(), Some(libc::EINVAL));
    }
}

/// Reaping strangers reaps whatever this process started and does not know, so it has a process of its own.
#[test]
fn orphans_are_reaped_behind_a_worker_that_is_kept() {
    if std::env::var_os("HANDOVER_TEST_ORPHANS").is_none() {
        let name = "os::process::tests::orphans_are_reaped_behind_a_worker_that_is_kept";
        let alone = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture"])
            .env("HANDOVER_TEST_ORPHANS", "1")
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&alone.stdout);
        assert!(alone.status.success() && text.contains("1 passed"), "{text}");
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        become_subreaper().unwrap();
        let (worker, _out) = sh("exit 5");
        let worker = Pidfd::open(worker).unwrap();
        soon("the worker's exit", worker.exited()).await.unwrap();
        let (parent, mut out) = sh("sh -c 'echo $$; sleep 0.05' & sh -c 'echo $$; sleep 0.05' & exit 0");
        let orphans: Vec<Pidfd> =
            (0..2).map(|_| Pidfd::open(line(&mut out).parse().unwrap()).unwrap()).collect();
        let parent = Pidfd::open(parent).unwrap();
        soon("the parent's exit", parent.exited()).await.unwrap();
        parent.reap().unwrap();
        for orphan in &orphans {
            soon("an orphan's exit", orphan.exited()).await.unwrap();
        }
        let known = |pid| pid == worker.pid();
        let behind_the_worker = Reaped { count: 0, kept: Some(worker.pid()) };
        assert_eq!(reap_orphans(&known).unwrap(), behind_the_worker, "the worker is the older one");
        assert_eq!(reap_hidden_orphans(&known).unwrap(), 2);
        assert_eq!(reap_hidden_orphans(&known).unwrap(), 0);
        for orphan in &orphans {
            assert_eq!(orphan.reap().unwrap(), Some(Exit::Unknown), "already reaped");
        }
        assert_eq!(worker.reap().unwrap(), Some(Exit::Code(5)), "not touched");
        assert_eq!(reap_orphans(&|_| false).unwrap(), Reaped::default());
    });
}

/// Prints what the promise of the group module costs.
#[test]
fn a_thousand_processes_are_looked_through_quickly() {
    let children: Vec<_> =
        (0..200).map(|_| Command::new("/bin/sleep").arg("1000").spawn().unwrap()).collect();
    let begun = crate::os::clock::monotonic();
    let rounds = 20;
    for _ in 0..rounds {
        assert!(group_members(std::process::id() + 1_000_000).unwrap().is_empty());
    }
    let each = (crate::os::clock::monotonic() - begun) / rounds;
    let count = std::fs::read_dir("/proc").unwrap().count();
    println!("a look at {count} entries of /proc took {each:?}");
    for mut child in children {
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
