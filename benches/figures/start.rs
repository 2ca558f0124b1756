//! What handover adds to the start of a service, and how long `handover check` takes for a very large file.

use std::fmt::Write;
use std::process::{Command, Stdio};

use crate::Result;
use crate::args::Options;
use crate::numbers::{Sample, milliseconds, ratio};
use crate::report::{Line, Report, Table};
use crate::stand::{Place, Pool, Program, Service, handover};
use crate::support::scratch::Scratch;
use crate::sys;

/// From the start of the first process to the first answer, and to the first statement of the program that answered. The socket
/// listens before, so the client waits in its queue and nobody polls.
fn first_answer(
    start: impl FnOnce(Place) -> Result<Service>,
    begun: &mut Sample,
    answered: &mut Sample,
) -> Result<()> {
    let place = Place::new();
    let at = sys::now();
    let service = start(place)?;
    let answer = service.wait_for_answer()?;
    answered.add((sys::now() - at) as f64);
    begun.add(answer.began.saturating_sub(at) as f64);
    Ok(())
}

fn starts(rounds: usize, report: &mut Report) -> Result<()> {
    let program = Program::own(&[])?;
    let [mut hand_begun, mut hand, mut ours_begun, mut ours] =
        [const { None }; 4].map(Option::unwrap_or_default);
    for _ in 0..rounds {
        first_answer(|place| program.by_hand(place, 1), &mut hand_begun, &mut hand)?;
        let under = |place: Place| {
            let socket = place.socket()?;
            Pool::new(program.clone(), 1).start_with(place, &socket)
        };
        first_answer(under, &mut ours_begun, &mut ours)?;
    }
    let mut table =
        Table::new(&["started", "the program's first statement", "its first answer", "smallest … largest"]);
    for (name, begun, answered) in [("by hand", &hand_begun, &hand), ("handover", &ours_begun, &ours)] {
        table.row([
            name.to_owned(),
            milliseconds(begun.median()),
            milliseconds(answered.median()),
            answered.spread(milliseconds),
        ]);
    }
    let over = ours.over(&hand);
    report.lines.push(Line {
        what: "start to the first answer, one worker".to_owned(),
        value: format!(
            "{} ({} more)",
            milliseconds(ours.median()),
            milliseconds(ours.median() - hand.median())
        ),
        baseline: milliseconds(hand.median()),
        ratio: format!("{} ({})", ratio(over.median()), over.spread(ratio)),
        aim: String::new(),
        met: None,
    });
    report.tables.push(table);
    Ok(())
}

/// A configuration of so many pools, each with a listener of its own.
fn configuration(pools: usize) -> String {
    let mut text = String::from("name = \"many\"\n");
    for number in 0..pools {
        let _ = write!(
            text,
            "[listener.l{number}]\naddress = \"tcp://127.0.0.1:{}\"\n[pool.p{number}]\ncommand = [\"/bin/true\", \"--serve\"]\n\
             workers = 4\nlisteners = [\"l{number}\"]\nenvironment = {{ POOL = \"{number}\" }}\n[pool.p{number}.rollout]\n\
             bake_time = \"1s\"\n",
            20_000 + number
        );
    }
    text
}

fn took(arguments: &[&str]) -> Result<f64> {
    let mut command = Command::new(handover());
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null());
    let at = sys::now();
    let output = command.output().map_err(|error| format!("handover {arguments:?}: {error}"))?;
    let took = (sys::now() - at) as f64;
    if output.status.success() {
        return Ok(took);
    }
    Err(format!("handover {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr)))
}

fn checks(rounds: usize, pools: usize, report: &mut Report) -> Result<()> {
    let scratch = Scratch::new();
    let write = |name: &str, pools: usize| scratch.write(name, configuration(pools)).display().to_string();
    let (one, many) = (write("one.toml", 1), write("many.toml", pools));
    let (mut version, mut small, mut large) = (Sample::default(), Sample::default(), Sample::default());
    for _ in 0..rounds {
        version.add(took(&["--version"])?);
        small.add(took(&["check", &one])?);
        large.add(took(&["check", &many])?);
    }
    let mut table = Table::new(&["command", "median", "smallest … largest"]);
    let many = format!("handover check, {pools} pools and listeners");
    for (name, sample) in
        [("handover --version", &version), ("handover check, 1 pool", &small), (many.as_str(), &large)]
    {
        table.row([name.to_owned(), milliseconds(sample.median()), sample.spread(milliseconds)]);
    }
    let over = large.over(&small);
    report.lines.push(Line {
        what: many,
        value: milliseconds(large.median()),
        baseline: format!("{} (1 pool)", milliseconds(small.median())),
        ratio: format!("{} ({})", ratio(over.median()), over.spread(ratio)),
        aim: String::new(),
        met: None,
    });
    report.tables.push(table);
    Ok(())
}

/// The figure.
pub fn measure(options: &Options) -> Result<Report> {
    let (rounds, pools) = (options.pick(30, 3), options.pick(1000, 50));
    let mut report = Report {
        title: "Starting: the daemon, and a check of a large configuration",
        how: format!(
            "The same program with the same listening socket is started by hand and under handover, in turns, {rounds} times each; a \
             client that waits in the socket's queue sees the first answer. Both ways begin with a stand-in for the service manager \
             that passes the socket and becomes the program. The commands are timed as whole processes, {rounds} times each in \
             turns."
        ),
        not: "a cold page cache.",
        ..Report::default()
    };
    starts(rounds, &mut report)?;
    checks(rounds, pools, &mut report)?;
    Ok(report)
}
