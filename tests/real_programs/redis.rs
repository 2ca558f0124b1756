//! Redis, which binds its own port: replaced stop-first, whatever the reason.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::stage::Stage;
use crate::support::child::Handle;
use crate::support::daemon::Daemon;
use crate::support::machine::{find, skipped};
use crate::support::scratch::Address;

/// The answer to a command, as its lines; none: nobody is there.
fn ask(to: SocketAddr, command: &str, lines: usize) -> Option<Vec<String>> {
    let mut stream = TcpStream::connect(to).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    stream.write_all(format!("{command}\r\n").as_bytes()).ok()?;
    let answer: Vec<String> = BufReader::new(stream).lines().take(lines).map_while(Result::ok).collect();
    (answer.len() == lines).then_some(answer)
}

fn pid(daemon: &Daemon) -> u32 {
    daemon.status().ready("redis").first().expect("it is ready").pid
}

/// The version of the configuration that answers.
fn version(to: SocketAddr) -> Option<String> {
    ask(to, "CONFIG GET maxclients", 5)?.pop()
}

#[test]
fn redis_which_binds_its_own_port() {
    let Some(redis) = find("redis-server") else {
        skipped("redis-server", true);
        return;
    };
    let stage = Stage::new("redis.toml", &["redis.conf"]);
    stage.replace("/usr/bin/redis-server", &redis);
    let Address::Tcp(to) = stage.address else { unreachable!("it is TCP") };
    let good = std::fs::read_to_string(stage.scratch.join("redis.conf")).expect("our file");
    let good = good.replace("port 6379", &format!("port {}", to.port()));
    let good = good.replace("bind 127.0.0.1", &format!("bind {}", to.ip()));
    stage.scratch.write("redis.conf", &good);
    let daemon = stage.start();
    stage.manager.wait_for("READY=1");
    assert_eq!(version(to).as_deref(), Some("101"));
    assert_eq!(ask(to, "SET key value", 1), Some(vec!["+OK".to_owned()]));

    // Another configuration, at another place, so that a rollback finds the last one.
    stage.scratch.write("redis-2.conf", good.replace("maxclients 101", "maxclients 102"));
    stage.replace("redis.conf", "redis-2.conf");
    daemon.cli(&["reload"]).assert_code(handover::exit::DONE);
    assert_eq!(version(to).as_deref(), Some("102"));
    assert_eq!(ask(to, "GET key", 2).expect("an answer")[1], "value");

    let before = pid(&daemon);
    Handle::open(before).expect("it lives").signal(libc::SIGKILL);
    crate::support::eventually("its successor answers", || {
        let successor = daemon.status().ready("redis").first().is_some_and(|worker| worker.pid != before);
        (successor && version(to).is_some()).then_some(())
    });

    daemon.cli(&["restart"]).assert_code(handover::exit::DONE);
    assert_eq!(version(to).as_deref(), Some("102"));

    stage.scratch.write("redis-3.conf", format!("{good}no_such_directive yes\n"));
    stage.replace("redis-2.conf", "redis-3.conf");
    daemon.cli(&["reload"]).assert_code(handover::exit::FAILED).assert_says("no_such_directive");
    assert_eq!(version(to).as_deref(), Some("102"), "the last good one is back when the command returns");
    assert_eq!(ask(to, "GET key", 2).expect("an answer")[1], "value");
    let log = daemon.log.text();
    assert!(!log.contains("in use"), "{log}");
    stage.finish(daemon);
}
