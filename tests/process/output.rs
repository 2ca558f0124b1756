//! What workers write: every line with its origin, none lost, none that blocks.

use std::os::fd::OwnedFd;

use crate::support::child::Handle;
use crate::support::daemon::Daemon;
use crate::support::eventually;
use crate::support::log::Line;
use crate::support::service::Plan;

fn output_of(daemon: &Daemon) -> Vec<Line> {
    daemon.log.lines().into_iter().filter(Line::is_worker_output).collect()
}

#[test]
fn each_line_bears_its_origin() {
    let service = Plan::new().script("print=to the left\neprint=<4>to the right\nserve\nready").start();
    let pid = service.ready()[0].pid.to_string();
    let left = service.daemon.log.wait_for("stdout", |line| line.message() == "to the left");
    let right = service.daemon.log.wait_for("stderr", |line| line.message() == "to the right");
    for (line, stream, level) in [(left, "stdout", "info"), (right, "stderr", "warn")] {
        let text = |name: &str| line.text(name).unwrap_or_default();
        assert_eq!((text("pool"), text("slot"), text("generation")), ("web".into(), "0".into(), "1".into()));
        assert_eq!((text("worker"), text("pid"), text("stream")), ("1".into(), pid.clone(), stream.into()));
        assert_eq!(text("level").to_lowercase(), level);
    }
    service.stop();
}

#[test]
fn every_line_of_our_own_log_is_json_too() {
    let service = Plan::new().start();
    service.reload_well();
    let mut daemon = service.daemon;
    daemon.stop();
    let lines = daemon.log.read_to_end();
    assert!(!lines.is_empty());
    assert!(lines.iter().all(Line::is_json), "{}", daemon.log.text());
}

#[test]
fn a_flood_is_complete_and_in_order_and_holds_nothing_up() {
    const LINES: usize = 20_000;
    let service = Plan::new().workers(2).script(&format!("serve\nready\n[slot=1] flood={LINES}")).start();
    service.get("/").expect("an answer during the flood");
    service.reload_well();
    let last = format!("flood line {}", LINES - 1);
    service.daemon.log.wait_for("the last line of the first flood", |line| line.message() == last);
    let mut daemon = service.daemon;
    daemon.stop();
    daemon.log.read_to_end();
    let flood: Vec<String> = output_of(&daemon)
        .iter()
        .filter(|line| line.text("generation").as_deref() == Some("1"))
        .map(Line::message)
        .filter(|message| message.starts_with("flood line"))
        .collect();
    assert_eq!(flood.len(), LINES);
    assert!(flood.iter().enumerate().all(|(number, line)| *line == format!("flood line {number}")));
}

#[test]
fn a_line_of_ten_megabytes_comes_in_marked_pieces() {
    let service = Plan::new().script("serve\nlong-line=10M\nprint=after\nready").start();
    service.daemon.log.wait_for("the next line", |line| line.message() == "after");
    let pieces: Vec<Line> =
        output_of(&service.daemon).into_iter().filter(|line| line.message().starts_with('x')).collect();
    let bytes: usize = pieces.iter().map(|line| line.message().len()).sum();
    assert_eq!(bytes, 10 << 20, "{} pieces", pieces.len());
    assert!(pieces[0].field("truncated").is_some());
    service.stop();
}

#[test]
fn what_a_worker_wrote_last_is_there_though_it_ended_without_a_newline() {
    let service = Plan::new()
        .script("serve\nready\n[worker=1] print-partial=famous last words\n[worker=1] crash")
        .start();
    service.daemon.log.wait_for("the last words", |line| line.message() == "famous last words");
    service.stop();
}

#[test]
fn a_child_that_keeps_the_pipes_open_delays_no_exit() {
    let plan = Plan::new()
        .script("[worker=1] fork=setsid ignore-term\n[worker=1] print=bye\nserve\nready\n[worker=1] exit=1");
    let service = plan.start();
    let forked = service.reports().wait("a child", |report| report.what.starts_with("forked"));
    let stray = forked.child().expect("its pid");
    service.reports().wait("the successor", |report| report.what == "ready" && report.worker == 2);
    service.daemon.log.wait_for("its last line", |line| line.message() == "bye");
    eventually("the open pipes are counted", || {
        (service.daemon.status().0["counters"]["stray_outputs"] == 2).then_some(())
    });
    // It has left the worker's group, so it is nobody's but ours to end.
    Handle::open(stray).expect("it lives").signal(libc::SIGKILL);
    service.stop();
}

#[test]
fn a_worker_may_close_its_output() {
    let service = Plan::new().script("close-output\nserve\nready").start();
    service.reload_well();
    service.get("/").expect("an answer");
    service.stop();
}

#[test]
fn control_characters_do_not_reach_the_readers_terminal() {
    let service = Plan::new().script("print=\\e[31mred\nserve\nready").start();
    let line = service.daemon.log.wait_for("the line", |line| line.text.contains("red"));
    assert!(!line.text.contains('\u{1b}'), "{:?}", line.text);
    let status = service.daemon.cli(&["status"]).stdout;
    assert!(!status.contains("\u{1b}[31m"), "{status:?}");
    service.stop();
}

#[test]
fn a_closed_or_broken_standard_error_ends_nothing() {
    for broken in ["closed", "pipe", "full"] {
        let plan = Plan::new().script("eprint=hello\nserve\nready");
        let setup = match broken {
            "closed" => plan.setup().under(["sh", "-c", "exec 2>&-; exec \"$@\"", "sh"]),
            "full" => plan.setup().stderr(std::fs::File::create("/dev/full").expect("/dev/full")),
            _ => {
                let (reader, writer) = std::io::pipe().expect("a pipe");
                drop(reader);
                plan.setup().stderr(OwnedFd::from(writer))
            }
        };
        let service = plan.start_with(setup);
        service.reload_well();
        service.get("/").expect("an answer");
        service.stop();
    }
}

#[test]
fn a_standard_error_that_nobody_reads_holds_no_request_up() {
    let plan = Plan::new().workers(2).script("serve\nready\n[slot=1] flood=0");
    // A worker that waits for room in its pipe cannot end by itself.
    let plan = plan.pool("stop_timeout", "\"200ms\"");
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let setup = plan.setup().stderr(OwnedFd::from(writer));
    let service = plan.start_with(setup);
    service.reload_well();
    service.get("/").expect("an answer");
    assert_eq!(service.ready().len(), 2);
    service.stop();
    drop(reader);
}

#[test]
fn output_can_be_left_to_the_workers() {
    let service =
        Plan::new().set("log", "workers", "\"inherit\"").script("eprint=as it is\nserve\nready").start();
    service.daemon.log.wait_for("the line itself", |line| line.text == "as it is");
    let fds = crate::support::proc::fds(service.ready()[0].pid);
    assert_eq!(fds.get(&2), crate::support::proc::fds(service.daemon.pid()).get(&2));
    service.stop();
}

#[test]
fn a_log_for_people_has_a_line_for_each_change_and_says_who_wrote_what() {
    let service =
        Plan::new().set("log", "format", "\"human\"").script("eprint=hello\\e[31m\nserve\nready").start();
    let pid = service.ready()[0].pid;
    let wait = |text: &str| service.daemon.log.wait_for(text, |line| line.text.contains(text)).text;
    assert!(wait("hello").ends_with(&format!("Z web/0[{pid}]| hello\\u{{1b}}[31m")));
    assert!(
        wait("worker ready")
            .contains(&format!("Z INFO  worker ready pool=web slot=0 generation=1 worker=1 pid={pid} "))
    );
    service.deploy("eprint=Address already in use\nexit=1");
    service
        .reload()
        .assert_code(handover::exit::FAILED)
        .assert_says("hint: this program must listen on fd 3");
    assert!(
        wait("worker failed").contains(r#" hint="this program must listen on fd 3 ($LISTEN_FDS), not bind""#)
    );
    assert!(!service.daemon.log.text().contains('\u{1b}'), "no colours but on a terminal");
    service.stop();
}
