//! The web service.

use std::process::Command;

use crate::program::{Alone, built};
use crate::stage::Stage;
use crate::support::client::{Connection, get};
use crate::support::load::Load;
use crate::support::machine::skipped;
use crate::support::scratch::Address;
use crate::support::{eventually, machine};

#[test]
fn the_web_service_loses_no_request_in_a_deploy_and_a_bad_one_is_rolled_back() {
    let Some(stage) = Stage::new("web", &["prices.json"]) else { return };
    let mut daemon = stage.start();
    let price = || get(&stage.address, "/prices/bread").expect("an answer").body;
    assert_eq!(price(), r#"{"item":"bread","cents":380}"#);
    let loads = [
        Load::open(&stage.address, 150).start(),
        Load::closed(&stage.address, 2).start(),
        Load::closed(&stage.address, 4).keep_alive().start(),
    ];
    // Accepted, and silent until its worker drains: it is answered all the same.
    let mut silent = Connection::open(&stage.address).expect("it listens");
    let mut slow = Connection::open(&stage.address).expect("it listens");
    slow.ask("/slow/1500", false).expect("it listens");

    stage.edit("prices.json", "380", "395");
    stage.install();
    daemon.cli(&["reload"]).assert_code(handover::exit::DONE);
    // An old worker that has just been asked to end may take one more.
    eventually("the new price", || price().contains(":395").then_some(()));
    assert_eq!(slow.answer().map(|answer| answer.generation()), Ok(1));
    daemon.cli(&["restart"]).assert_code(handover::exit::DONE);
    let last = silent.get("/", true).expect("an answer");
    assert!(last.closing && last.generation() == 1, "{last:?}");

    stage.edit("prices.json", "395", "cheap");
    let failed = daemon.cli(&["reload"]);
    failed.assert_code(handover::exit::FAILED).assert_says("prices.json: expected");
    assert_eq!(price(), r#"{"item":"bread","cents":395}"#);
    loads[0].wait_for(100);
    for (load, name) in loads.into_iter().zip(["web, new connections", "web, closed loop", "web, kept alive"])
    {
        let tally = load.stop();
        tally.print(name);
        tally.assert_nothing_lost();
        assert_eq!(tally.crossed, 0);
        assert_eq!(tally.by_generation.keys().copied().collect::<Vec<_>>(), [1, 2, 3], "{name}");
    }
    assert!(daemon.status().mentions("3 prices, "));
    daemon.stop();
}

#[test]
fn the_web_service_runs_alone_and_under_systemds_socket_activation() {
    let Some(stage) = Stage::new("web", &["prices.json"]) else { return };
    let directory = stage.scratch.path();
    let mut alone = Alone::start(
        Command::new(stage.program()).current_dir(directory).env("LISTEN", format!("tcp://{}", stage.host())),
    );
    alone.says("the prices are read");
    let answer = eventually("it listens", || get(&stage.address, "/").ok());
    assert!(answer.body.starts_with("alone "), "{answer:?}");
    alone.ends_well();

    let Some(activate) = machine::find("systemd-socket-activate") else {
        skipped("systemd-socket-activate", true);
        return;
    };
    let socket = Address::unix(&stage.scratch, "socket");
    let mut activated = Alone::start(
        Command::new(activate)
            .arg("-l")
            .arg(stage.scratch.join("socket"))
            .arg(built().expect("seen before").join("web"))
            .current_dir(directory),
    );
    let answer = eventually("it listens", || get(&socket, "/prices/olives").ok());
    assert_eq!(answer.body, r#"{"item":"olives","cents":420}"#);
    activated.says("the prices are read");
    activated.ends_well();
}
