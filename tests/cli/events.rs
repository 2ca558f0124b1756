//! `handover events`: its lines, and how it ends.

use std::process::Stdio;

use handover::control::event::What;
use handover::control::protocol::Request;
use handover::control::{Event, Telling};
use handover::exit;

use super::{Daemon, code, golden, on_the_way, read};

/// The stream of the page, and the daemon's end.
fn stream() -> Vec<Event> {
    let page = include_str!("../../docs/control.md");
    let example = page.split("```jsonl\n").nth(2).and_then(|rest| rest.split("```").next());
    let lines = example.expect("the page has a stream").lines();
    let mut events: Vec<Event> = lines.map(|line| serde_json::from_str(line).expect("an event")).collect();
    let reason = "app.toml:2:1: unknown key\n2 | wokers = 3\n\u{1b}[2J".to_owned();
    for what in [What::ReloadRefused { reason }, What::DaemonEnded { failure: None }] {
        let number = 44 + u64::try_from(events.len()).expect("few") - 4;
        events.push(Event::new(number, std::time::UNIX_EPOCH, what));
    }
    events
}

#[test]
fn events_are_lines_for_people_and_json_for_programs() {
    let daemon = Daemon::new(|call| {
        let mut events = stream();
        let last = events.pop().expect("there are some");
        events.iter().for_each(|event| assert!(call.reply.tell(&Telling::new(event))));
        call.reply.tell_last(&Telling::new(&last));
    });
    let (status, out, err) = daemon.run(&["events"]);
    assert_eq!((status, err.as_str()), (code(exit::DONE), ""));
    golden("events.txt", &out);
    assert_eq!(daemon.requests.recv().unwrap(), Request::Events);
    let (status, out, _) = daemon.run(&["events", "--json"]);
    assert_eq!(status, code(exit::DONE));
    let lines: Vec<Event> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines, stream());
}

#[test]
fn a_stream_that_breaks_off_is_told_from_the_daemons_end() {
    let daemon = Daemon::new(|call| on_the_way(&call.reply));
    let (status, out, err) = daemon.run(&["events"]);
    assert_eq!((status, out.lines().count()), (code(exit::NO_DAEMON), 1));
    assert!(err.starts_with("handover: the connection ended"), "{err}");
}

#[test]
fn who_watches_events_ends_with_ctrl_c_or_with_its_reader() {
    let mut kept = Vec::new();
    let daemon = Daemon::new(move |call| {
        on_the_way(&call.reply);
        kept.push(call);
    });
    let watch = || {
        let mut client =
            daemon.client(&["events"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut out = std::io::BufReader::new(client.stdout.take().unwrap());
        let mut line = String::new();
        std::io::BufRead::read_line(&mut out, &mut line).unwrap();
        assert!(line.ends_with("rolling out generation 4\n"), "{line}");
        (client, out)
    };
    let (client, out) = watch();
    let pid = nix::unistd::Pid::from_raw(i32::try_from(client.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
    let ended = read(client.wait_with_output().unwrap());
    assert_eq!(ended, (code(exit::INTERRUPTED), String::new(), String::new()));
    drop(out);
    // Nothing more happens, and it ends all the same.
    let (client, out) = watch();
    drop(out);
    assert_eq!(read(client.wait_with_output().unwrap()), (code(exit::DONE), String::new(), String::new()));
}
