//! What people look at: the status that stays, and a rollout as it goes.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use handover::control::StatusDocument;

use crate::support::child::OwnedChild;
use crate::support::daemon::command;
use crate::support::deadline;
use crate::support::log::Log;
use crate::support::screen::{Screen, text_of};
use crate::support::service::{Plan, Service};

const SIZE: (u16, u16) = (24, 100);

fn on_screen(service: &Service, arguments: &[&str]) -> Screen {
    on_screen_with(service, arguments, &[])
}

/// The same with variables of the environment.
fn on_screen_with(service: &Service, arguments: &[&str], variables: &[(&str, &str)]) -> Screen {
    let mut all = arguments.to_vec();
    let socket = service.daemon.socket().display().to_string();
    all.extend(["--socket", &socket]);
    let mut command = command(all);
    command.envs(variables.iter().copied());
    Screen::run(command, SIZE.0, SIZE.1)
}

#[test]
fn the_status_is_shown_again_when_something_happens_and_until_the_daemon_ends() {
    let service = Plan::new().workers(2).start();
    let screen = on_screen(&service, &["status", "--watch"]);
    screen.when("two workers", |text| text.contains("fine: 2 of 2 workers ready"));
    service.reload_well();
    let second = |text: &str| text.lines().filter(|line| line.contains("  2    ready")).count() == 2;
    screen.when("the next generation", second);
    service.stop();
    // The screen that was there before is back, with a last word on it.
    screen.when("the end", |text| text.trim() == "the daemon has ended");
    assert_eq!(screen.code(), Some(0));
}

#[test]
fn who_has_seen_enough_gets_the_terminal_back() {
    let service = Plan::new().start();
    let screen = on_screen(&service, &["status", "--watch"]);
    screen.when("the status", |text| text.contains("fine"));
    screen.signal(libc::SIGINT);
    screen.when("an empty screen", |text| text.trim().is_empty());
    assert_eq!(screen.code(), Some(130));
    service.stop();
}

#[test]
fn programs_get_a_document_for_each_change() {
    let service = Plan::new().start();
    let socket = service.daemon.socket().display().to_string();
    let mut watch = command(["status", "--watch", "--json", "--socket", &socket]);
    let mut watching =
        OwnedChild::spawn(watch.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()));
    let documents = Log::read(watching.inner().stdout.take().expect("a pipe"));
    let document = |text: &str| serde_json::from_str::<StatusDocument>(text).expect("a status document");
    documents.wait_for("how it is", |line| document(&line.text).rollout.is_none());
    service.reload_well();
    documents.wait_for("the next generation", |line| document(&line.text).pools[0].generation == Some(2));
    service.stop();
    assert_eq!(watching.wait(deadline()).and_then(|status| status.code()), Some(0));
}

#[test]
fn who_reads_only_the_first_line_is_not_waited_for() {
    let service = Plan::new().start();
    let socket = service.daemon.socket().display().to_string();
    let mut watch = command(["status", "--watch", "--socket", &socket]);
    let mut watching =
        OwnedChild::spawn(watch.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()));
    let mut line = String::new();
    let mut reader = BufReader::new(watching.inner().stdout.take().expect("a pipe"));
    reader.read_line(&mut line).expect("a line");
    assert!(line.contains("fine"), "{line}");
    drop(reader);
    assert_eq!(watching.wait(deadline()).and_then(|status| status.code()), Some(0));
    service.stop();
}

#[test]
fn a_rollout_on_a_terminal_shows_its_slots_and_leaves_one_line() {
    let service = Plan::new().workers(3).script("serve\nwait=300ms\nready").start();
    let screen = on_screen(&service, &["reload"]);
    let moving =
        |text: &str| text.contains("of 3 slots") && text.contains("starting") && text.contains("waiting for");
    screen.when("a slot in motion", moving);
    let text = text_of(&screen.at_the_end());
    assert_eq!(text.trim().lines().count(), 1, "{text}");
    assert!(text.contains("generation 2 serves, 3 of 3 workers ready, after "), "{text}");
    service.stop();
}

/// How a picture and a terminal are told of a style.
const STYLED: [&str; 2] = ["<tspan", "\u{1b}[3"];

#[test]
fn without_colours_the_status_still_has_a_screen_of_its_own() {
    let service = Plan::new().workers(2).start();
    let screen = on_screen_with(&service, &["status", "--watch"], &[("NO_COLOR", "1")]);
    screen.when("two workers", |text| text.contains("fine: 2 of 2 workers ready"));
    service.reload_well();
    let picture = screen.when("the next generation, and nothing else", |text| {
        text.lines().filter(|line| line.contains("  2    ready")).count() == 2
            && text.matches("workers ready").count() == 1
    });
    assert!(!picture.contains(STYLED[0]), "{picture}");
    service.stop();
    screen.when("the end", |text| text.trim() == "the daemon has ended");
    assert_eq!(screen.code(), Some(0));
}

#[test]
fn without_colours_a_rollout_still_moves_in_its_place() {
    let service = Plan::new().workers(3).script("serve\nwait=300ms\nready").start();
    let screen = on_screen_with(&service, &["reload"], &[("NO_COLOR", "1")]);
    screen.when("a slot in motion", |text| text.contains("of 3 slots") && text.contains("starting"));
    let written = screen.written();
    assert!(written.contains("\u{1b}[J") && !written.contains(STYLED[1]), "{written:?}");
    service.stop();
}

#[test]
fn a_terminal_that_cannot_be_steered_gets_lines() {
    let service = Plan::new().start();
    let dumb = [("TERM", "dumb")];
    let watching = on_screen_with(&service, &["status", "--watch"], &dumb);
    watching.when("the status", |text| text.contains("fine: 1 of 1 workers ready"));
    let reload = on_screen_with(&service, &["reload"], &dumb).written();
    assert!(reload.contains("generation 2 serves"), "{reload:?}");
    service.stop();
    for written in [reload, watching.written()] {
        assert!(!written.contains('\u{1b}'), "{written:?}");
    }
}
