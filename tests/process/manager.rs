//! What handover says to the service manager, in which order, and that it never waits for it.

use std::os::unix::net::UnixDatagram;

use crate::support::clock::monotonic_usec;
use crate::support::service::Plan;

/// The lines of the conversation.
const WORDS: [&str; 3] = ["READY", "RELOADING", "STOPPING"];

#[test]
fn a_whole_life_is_told_in_order() {
    let service = Plan::new().start();
    let before = monotonic_usec();
    service.reload_well();
    let reloading = service.manager().wait_for("RELOADING=1");
    let stamp: u64 =
        reloading.get("MONOTONIC_USEC").and_then(|usec| usec.parse().ok()).expect("in the same datagram");
    assert!(before <= stamp && stamp <= monotonic_usec(), "{before} {stamp}");
    let mut daemon = service.daemon;
    daemon.stop();
    assert_eq!(service.plan.manager.said(&WORDS), ["READY=1", "RELOADING=1", "READY=1", "STOPPING=1"]);
}

#[test]
fn a_reload_that_fails_or_is_refused_is_answered_as_well() {
    let service = Plan::new().start();
    service.deploy("exit=1");
    service.reload().assert_code(handover::exit::FAILED);
    assert_eq!(
        service.manager().said(&WORDS),
        ["READY=1", "RELOADING=1", "READY=1"],
        "before the client's answer"
    );
    service.plan.scratch.write("c.toml", "nonsense");
    service.reload().assert_code(handover::exit::USAGE);
    assert_eq!(service.manager().said(&WORDS).len(), 5);
    service.stop();
}

#[test]
fn reloads_by_signal_are_answered_even_while_one_runs() {
    let service = Plan::new().script("serve\n[generation=2] wait=100ms\nready").start();
    service.daemon.signal(libc::SIGHUP);
    let first = service.manager().wait_for("RELOADING=1");
    service.reports().wait("the canary", |report| report.what == "started" && report.generation == 2);
    let second_asked = monotonic_usec();
    service.daemon.signal(libc::SIGHUP);
    // systemd waits for a stamp that is younger than its signal.
    let second = service.manager().wait("a younger RELOADING=1", |message| {
        message
            .get("MONOTONIC_USEC")
            .and_then(|usec| usec.parse::<u64>().ok())
            .is_some_and(|usec| usec >= second_asked)
    });
    assert!(first.has("RELOADING=1") && second.has("RELOADING=1"));
    service.manager().wait_for("READY=1");
    service.reload_well();
    service.stop();
}

#[test]
fn the_managers_watchdog_is_fed_at_half_its_time() {
    let plan = Plan::new();
    // For the process that is executed: the shell's pid is the daemon's.
    let wrapper = "export WATCHDOG_PID=$$ WATCHDOG_USEC=200000; exec \"$@\"";
    let setup = plan.setup().under(["sh", "-c", wrapper, "sh"]);
    let service = plan.start_with(setup);
    for _ in 0..5 {
        service.manager().wait_for("WATCHDOG=1");
    }
    let dump = service.get("/dump").expect("an answer").body;
    assert!(!dump.contains("WATCHDOG_USEC"), "the manager's watchdog is not the worker's");
    service.stop();
}

#[test]
fn more_time_is_asked_for_again_as_long_as_it_is_needed_and_never_delays_the_watchdog() {
    let plan = Plan::new().script("serve\n[generation=2] wait=1s\nready");
    let wrapper = "export WATCHDOG_PID=$$ WATCHDOG_USEC=200000; exec \"$@\"";
    let setup = plan.setup().under(["sh", "-c", wrapper, "sh"]);
    let service = plan.start_with(setup);
    service.reload_well();
    let said = service.manager().said(&["RELOADING", "EXTEND_TIMEOUT_USEC", "WATCHDOG", "READY"]);
    let words: Vec<&str> = said.iter().map(|line| line.split('=').next().unwrap_or_default()).collect();
    let reload = words.iter().position(|word| *word == "RELOADING").expect("there was one");
    let rollout: Vec<&str> = words[reload..].iter().copied().take_while(|word| *word != "READY").collect();
    let asked = rollout.iter().filter(|word| **word == "EXTEND_TIMEOUT_USEC").count();
    assert!(asked > 2, "{said:#?}");
    for pair in rollout.windows(2) {
        assert!(pair[0] != "EXTEND_TIMEOUT_USEC" || pair[1] == "WATCHDOG", "{said:#?}");
    }
    // Once it is over nothing is asked for any more.
    for _ in 0..3 {
        service.manager().wait_for("WATCHDOG=1");
    }
    let after = service.manager().said(&["EXTEND_TIMEOUT_USEC", "READY"]);
    assert_eq!(after.last().map(String::as_str), Some("READY=1"), "{after:#?}");
    service.stop();
}

#[test]
fn a_watchdog_that_is_meant_for_another_process_is_not_fed() {
    let plan = Plan::new();
    let setup = plan.setup().env("WATCHDOG_PID", "1").env("WATCHDOG_USEC", "20000");
    let service = plan.start_with(setup);
    service.reload_well();
    let mut daemon = service.daemon;
    daemon.stop();
    assert!(service.plan.manager.said(&["WATCHDOG"]).is_empty());
}

#[test]
fn more_time_is_asked_for_while_a_start_and_a_stop_make_progress() {
    let service = Plan::new().script("serve\nwait=100ms\nready\nend-takes=100ms").start();
    let extended = service.manager().said(&["EXTEND_TIMEOUT_USEC"]);
    assert!(!extended.is_empty(), "during the start");
    let mut daemon = service.daemon;
    daemon.stop();
    assert!(service.plan.manager.said(&["EXTEND_TIMEOUT_USEC"]).len() > extended.len(), "during the stop");
}

#[test]
fn the_status_line_is_one_line_from_the_facts() {
    let service = Plan::new().workers(2).start();
    service.deploy("exit=1");
    service.reload().assert_code(handover::exit::FAILED);
    service.manager().wait("a STATUS= that tells of the failure", |message| {
        message
            .get("STATUS")
            .is_some_and(|status| status.contains("rolled back") || status.contains("failed"))
    });
    service.stop();
}

#[test]
fn a_manager_that_does_not_read_holds_nothing_up() {
    let plan = Plan::new();
    let path = plan.scratch.join("deaf");
    let deaf = UnixDatagram::bind(&path).expect("a free path");
    let wrapper = "export WATCHDOG_PID=$$ WATCHDOG_USEC=2000; exec \"$@\"";
    let setup = plan.setup().env("NOTIFY_SOCKET", &path).under(["sh", "-c", wrapper, "sh"]);
    let service = plan.begin_with(setup);
    service.reports().wait_for("ready");
    for _ in 0..20 {
        service.reload_well();
    }
    service.get("/").expect("an answer");
    drop(deaf);
    service.reload_well();
    service.stop();
}

#[test]
fn a_notify_socket_that_is_missing_or_abstract_is_fine() {
    use std::os::linux::net::SocketAddrExt;
    let plan = Plan::new();
    let setup = plan.setup().env("NOTIFY_SOCKET", "/nonexistent/notify");
    let service = plan.begin_with(setup);
    service.reports().wait_for("ready");
    service.reload_well();
    service.stop();

    let name = format!("handover-manager-{}", std::process::id());
    let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).expect("a short name");
    let socket = UnixDatagram::bind_addr(&address).expect("a free name");
    socket.set_read_timeout(Some(crate::support::PATIENCE)).expect("our socket");
    let plan = Plan::new();
    let setup = plan.setup().env("NOTIFY_SOCKET", format!("@{name}"));
    let service = plan.begin_with(setup);
    let mut buffer = [0; 4096];
    loop {
        let length = socket.recv(&mut buffer).expect("it speaks");
        if String::from_utf8_lossy(&buffer[..length]).contains("READY=1") {
            break;
        }
    }
    service.stop();
}

#[test]
fn the_pid_file_is_written_when_ready_and_removed_at_the_end() {
    let plan = Plan::new();
    let path = plan.scratch.join("pid");
    let quoted = crate::support::service::quoted(&path.display().to_string());
    let service = plan.top("pid_file", &quoted).start();
    let text = std::fs::read_to_string(&path).expect("it was ready");
    assert_eq!(text.trim(), service.daemon.pid().to_string());
    let mut daemon = service.daemon;
    daemon.stop();
    assert!(!path.exists());
}
