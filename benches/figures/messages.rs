//! Messages from one worker to another by way of handover, beside the same lines over plain sockets by way of nobody, and beside Node, whose
//! parent passes on what its children send.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use crate::Result;
use crate::args::Options;
use crate::numbers::{Sample, count, microseconds, ratio};
use crate::peers::Peer;
use crate::report::{Line, Report, Table};
use crate::stand::{Place, Service, handover, own_program};
use crate::support::child::OwnedChild;
use crate::sys::{self, MILLISECOND, SECOND};
use crate::talker::{Asking, Took, ask_sockets};

/// How many messages are under way where it is not one.
const WINDOW: usize = 64;
/// How long one measurement may take.
const PATIENCE: u64 = 120 * SECOND;

/// By which way messages go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Plain,
    Handover,
    Node,
}

impl Way {
    const fn name(self) -> &'static str {
        match self {
            Self::Plain => "a socket pair for each, nobody between",
            Self::Handover => "handover between",
            Self::Node => "Node, its parent between",
        }
    }

    fn measure(self, asking: Asking) -> Result<Took> {
        match self {
            Self::Plain => plain(asking),
            Self::Handover => by_handover(asking),
            Self::Node => by_node(asking),
        }
    }
}

fn plain(asking: Asking) -> Result<Took> {
    let fault = |error: std::io::Error| format!("plain sockets: {error}");
    let (mut children, mut sockets) = (Vec::new(), Vec::new());
    for _ in 0..asking.peers {
        let (here, there) = UnixStream::pair().map_err(fault)?;
        let mut command = Command::new(own_program()?);
        command.args(["talker", "plain-echo"]).stdin(Stdio::from(OwnedFd::from(there)));
        children.push(OwnedChild::spawn(&mut command));
        sockets.push(here);
    }
    ask_sockets(&sockets, asking).map_err(fault)
}

/// Waits until the one that asks has written what it took.
fn result(service: &Service) -> Result<Took> {
    let path = service.place.scratch.join("result");
    let end = sys::now() + PATIENCE;
    while sys::now() < end {
        match Took::read(&path) {
            Some(took) => return Ok(took),
            None => sys::pause(5 * MILLISECOND),
        }
    }
    Err(service.trouble("its messages were not answered"))
}

fn by_handover(asking: Asking) -> Result<Took> {
    let (place, program) = (Place::new(), own_program()?);
    let result_path = place.scratch.join("result").display().to_string();
    let Asking { count, window, peers } = asking;
    let config = place.scratch.write(
        "bench.toml",
        format!(
            "name = \"bench\"\n\
             [pool.ask]\ncommand = [{program:?}, \"talker\", \"ask\", {result_path:?}, \"{count}\", \"{window}\", \"{peers}\"]\n\
             ready = \"notify\"\nstop_timeout = \"1s\"\n\
             [pool.echo]\ncommand = [{program:?}, \"talker\", \"echo\"]\nworkers = {peers}\n\
             ready = \"notify\"\nstop_timeout = \"1s\"\n"
        ),
    );
    let config = config.display().to_string();
    let mut service = Service::new("handover", place);
    service.start(&[&handover(), "run", &config], &[])?;
    service.settle()?;
    service.place.scratch.write("result.go", String::new());
    result(&service)
}

fn by_node(asking: Asking) -> Result<Took> {
    let place = Place::new();
    let program = Peer::Node.program()?.display().to_string();
    let script = place.write("messages.js", include_str!("../programs/messages.js")).display().to_string();
    let path = place.scratch.join("result").display().to_string();
    let words = [asking.count, asking.window, asking.peers].map(|number| number.to_string());
    let mut service = Service::new("Node", place);
    let [count, window, peers] = &words;
    service.start(&[&program, &script, "parent", &path, count, window, peers], &[])?;
    result(&service)
}

/// What was measured of one way.
struct Measured {
    way: Way,
    /// Messages a second; in each round one.
    rate: Sample,
    /// Medians of the times of single messages and their answers.
    median: Sample,
    p99: Sample,
}

fn measure_all(ways: &[Way], asking: Asking, rounds: usize) -> Result<Vec<Measured>> {
    let new = |way: &Way| Measured {
        way: *way,
        rate: Sample::default(),
        median: Sample::default(),
        p99: Sample::default(),
    };
    let mut all: Vec<Measured> = ways.iter().map(new).collect();
    for _ in 0..rounds {
        for measured in &mut all {
            let took = measured.way.measure(asking)?;
            let each: Sample = took.each.iter().map(|time| *time as f64).collect();
            // Each was answered by another one.
            measured.rate.add(2.0 * asking.count as f64 * SECOND as f64 / took.all as f64);
            measured.median.add(each.median());
            measured.p99.add(each.quantile(0.99));
        }
    }
    Ok(all)
}

/// Of all ways the numbers that count: handover's beside the plain one's, and beside Node's.
fn lines(what: &str, all: &[Measured], pick: impl Fn(&Measured) -> (&Sample, String)) -> Vec<Line> {
    let Some(ours) = all.iter().find(|measured| measured.way == Way::Handover) else { return Vec::new() };
    let others = all.iter().filter(|measured| measured.way != Way::Handover);
    others
        .map(|other| {
            let over = pick(ours).0.over(pick(other).0);
            let way = if other.way == Way::Node { " (Node)" } else { "" };
            Line {
                what: what.to_owned(),
                value: pick(ours).1,
                baseline: format!("{}{way}", pick(other).1),
                ratio: format!("{} ({})", ratio(over.median()), over.spread(ratio)),
                aim: String::new(),
                met: None,
            }
        })
        .collect()
}

fn round_trips(ways: &[Way], options: &Options, report: &mut Report) -> Result<()> {
    let asking = Asking { count: options.pick(20_000, 200), window: 1, peers: 1 };
    let all = measure_all(ways, asking, options.pick(5, 1))?;
    let mut table = Table::new(&["one message and its answer", "median", "ratio", "spread", "p99"]);
    for measured in &all {
        let over = measured.median.over(&all[0].median);
        table.row([
            measured.way.name().to_owned(),
            microseconds(measured.median.median()),
            ratio(over.median()),
            over.spread(ratio),
            microseconds(measured.p99.median()),
        ]);
    }
    report.tables.push(table);
    report.lines.extend(lines("a message to another worker and its answer", &all, |measured| {
        (&measured.median, microseconds(measured.median.median()))
    }));
    Ok(())
}

fn rates(ways: &[Way], options: &Options, report: &mut Report) -> Result<()> {
    let mut table = Table::new(&["workers that answer", "way", "messages a second", "ratio", "spread"]);
    for &peers in options.pick(&[1, 8, 64][..], &[1, 8][..]) {
        let asking = Asking { count: options.pick(50_000, 500), window: WINDOW, peers };
        let all = measure_all(ways, asking, options.pick(5, 1))?;
        for measured in &all {
            let over = measured.rate.over(&all[0].rate);
            table.row([
                peers.to_string(),
                measured.way.name().to_owned(),
                count(measured.rate.median()),
                ratio(over.median()),
                over.spread(ratio),
            ]);
        }
        let what = format!("messages a second, {peers} {}", if peers == 1 { "worker" } else { "workers" });
        report.lines.extend(lines(&what, &all, |measured| (&measured.rate, count(measured.rate.median()))));
    }
    report.tables.push(table);
    Ok(())
}

/// The figure.
pub fn measure(options: &Options) -> Result<Report> {
    let mut report = Report {
        title: "Messages from worker to worker",
        how: format!(
            "One worker sends small messages (50 bytes of data) to others, which send each back. First one at a time to one worker, and the \
             time until its answer; then with {WINDOW} under way, to 1, 8 and 64 workers in turns, and the messages a second, answers \
             counted. The workers are in Rust, on the SDK. By handover a message goes through two sockets, and so does its answer. The \
             baseline is the same lines, read with the same parser, over a socket pair from one process to each of the others, with \
             nobody between: half as many sockets, one thread where the SDK has two, and no accounts of who may be told what. Node: a \
             parent that passes on what its children `send`."
        ),
        not: "large messages, broadcasts, and fds; a worker whose program is slower than its messages come.",
        ..Report::default()
    };
    let mut ways = vec![Way::Plain, Way::Handover];
    match Peer::Node.program() {
        Ok(_) => ways.push(Way::Node),
        Err(why) => report.skip(Peer::Node.name(), &why),
    }
    round_trips(&ways, options, &mut report)?;
    rates(&ways, options, &mut report)?;
    Ok(report)
}
