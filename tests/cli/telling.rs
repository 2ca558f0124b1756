//! What long work tells of its end, and where.

use std::fs;
use std::process::Stdio;

use handover::control::document::Failure;
use handover::control::{Finish, Verdict};
use handover::exit;

use super::{Daemon, code, example, finishing, output, read};

#[test]
fn a_rollback_shows_what_the_worker_wrote_last() {
    let failure = example().1.last_failed_rollout.unwrap().failure;
    let finish = Finish { failure: Some(failure), ..Finish::new(Verdict::RolledBack, "rolled back: why") };
    let (_, _, err) = finishing(finish).run(&["reload"]);
    assert_eq!(
        err,
        "rolling out generation 4\nhandover: rolled back: why\nthe last lines that the worker wrote:\n  \
         cannot read /etc/myapp/key: permission denied\n"
    );
}

#[test]
fn nothing_in_an_answer_reaches_the_terminal_as_a_command() {
    for verdict in [Verdict::Done, Verdict::Refused] {
        let daemon = finishing(Finish::new(verdict, "line 1 \u{1b}[2J\nline 2 \u{9b}2J\n"));
        let mut client = daemon.client(&["reload"]);
        let (_, out, err) = output(client.env("CLICOLOR_FORCE", "1"));
        let told = out + &err;
        assert!(told.contains("line 1 \\u{1b}[2J\nline 2 \\u{9b}2J\n"), "{told:?}");
    }
}

/// Runs a client with the journal as standard error, as `ExecReload=` does; what it printed and what it told.
fn in_the_journal(daemon: &Daemon, arguments: &[&str], is_control: bool) -> (i32, String, String) {
    let journal = tempfile::NamedTempFile::new().expect("a file");
    let file = nix::sys::stat::stat(journal.path()).expect("it is there");
    let mut client = daemon.client(arguments);
    client.env("JOURNAL_STREAM", format!("{}:{}", file.st_dev, file.st_ino));
    if is_control {
        client.env("MAINPID", "4711");
    }
    client.stdout(Stdio::piped()).stderr(journal.reopen().expect("our file"));
    let (status, out, _) = read(client.spawn().expect("it starts").wait_with_output().expect("it ends"));
    (status, out, fs::read_to_string(journal.path()).expect("UTF-8"))
}

#[test]
fn in_the_daemons_journal_only_a_failure_is_told() {
    let daemon = finishing(Finish::new(Verdict::Done, "done"));
    assert_eq!(in_the_journal(&daemon, &["reload"], true), (0, String::new(), String::new()));
    let output = (1..=9).map(|number| format!("line {number}")).collect();
    let failure = Failure { output: Some(output), ..Failure::default() };
    let finish = Finish { failure: Some(failure), ..Finish::new(Verdict::RolledBack, "rolled back: why") };
    let daemon = finishing(finish);
    let (status, out, told) = in_the_journal(&daemon, &["reload"], true);
    assert_eq!((status, out.as_str()), (code(exit::FAILED), ""));
    let lines = "  line 5\n  line 6\n  line 7\n  line 8\n  line 9\n";
    assert_eq!(told, format!("handover: rolled back: why\nthe last lines that the worker wrote:\n{lines}"));
}

#[test]
fn in_a_journal_of_its_own_a_client_tells_what_it_tells_elsewhere() {
    let daemon = finishing(Finish::new(Verdict::Done, "done"));
    let (status, out, told) = in_the_journal(&daemon, &["reload"], false);
    assert_eq!((status, &*out, &*told), (code(exit::DONE), "done\n", "rolling out generation 4\n"));
    let (status, out, told) = in_the_journal(&daemon, &["reload", "--json"], true);
    assert_eq!((status, out.lines().count(), &*told), (code(exit::DONE), 2, ""));
}
