//! Whether handover is out of the way of traffic: the same processes on the same kind of socket, started by hand and under
//! handover, measured in turns.

use std::path::Path;

use crate::Result;
use crate::args::Options;
use crate::load::{Load, Pace};
use crate::numbers::{Sample, count, microseconds, ratio};
use crate::peers::find;
use crate::report::{Line, Report, Table};
use crate::stand::{Place, Pool, Program, Service};
use crate::sys::{MILLISECOND, SECOND};

/// Clients at a time.
const CLIENTS: usize = 16;
/// Workers: as many processes as the smallest machine of interest has cores.
const WORKERS: usize = 2;

/// How long one side is measured at a time, and how often in a round.
const SLICE: u64 = 250 * MILLISECOND;
const SLICES: usize = 6;

/// A program to be a worker, made for the place where it is to be.
struct Subject {
    name: &'static str,
    make: fn(&Place) -> Result<Program>,
    /// Processes that are started; nginx starts its own workers.
    processes: usize,
    keeps_alive: bool,
    /// The program that has to be installed.
    needs: Option<(&'static str, &'static str)>,
}

const SUBJECTS: [Subject; 4] = [
    Subject {
        name: "the small server",
        make: |_| Program::own(&[]),
        processes: WORKERS,
        keeps_alive: true,
        needs: None,
    },
    Subject {
        name: "Node http",
        make: |_| script(("HANDOVER_NODE", "node"), "server.js", "accept"),
        processes: WORKERS,
        keeps_alive: true,
        needs: Some(("HANDOVER_NODE", "node")),
    },
    Subject {
        name: "Python asyncio",
        make: |_| script(("HANDOVER_PYTHON", "python3"), "server.py", "notify"),
        processes: WORKERS,
        keeps_alive: false,
        needs: Some(("HANDOVER_PYTHON", "python3")),
    },
    Subject {
        name: "nginx",
        make: nginx,
        processes: 1,
        keeps_alive: true,
        needs: Some(("HANDOVER_NGINX", "nginx")),
    },
];

/// A program of `tests/real`.
fn script((variable, program): (&str, &str), file: &str, ready: &'static str) -> Result<Program> {
    let program = find(variable, program).ok_or_else(|| format!("{program}: not installed"))?;
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/real").join(file);
    let command = [program, file].map(|path| path.display().to_string()).to_vec();
    Ok(Program { command, ready, environment: Vec::new() })
}

/// nginx as in `config/examples/nginx.toml`.
fn nginx(place: &Place) -> Result<Program> {
    let program = find("HANDOVER_NGINX", "nginx").ok_or("nginx: not installed")?;
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/real/nginx.conf");
    let text = std::fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
    let config = place.write("nginx.conf", &text.replace("0.0.0.0:8080", "ADDRESS")).display().to_string();
    let pid = format!("pid {};", place.scratch.join("nginx.pid").display());
    let words = [&program.display().to_string(), "-e", "stderr", "-c", &config, "-g", &pid];
    let command = words.map(str::to_owned).to_vec();
    Ok(Program { command, ready: "accept", environment: vec![("NGINX", "3;")] })
}

impl Subject {
    fn by_hand(&self) -> Result<Service> {
        let place = Place::new();
        (self.make)(&place)?.by_hand(place, self.processes)
    }

    fn handover(&self) -> Result<Service> {
        let place = Place::new();
        let socket = place.socket()?;
        Pool::new((self.make)(&place)?, self.processes).start_with(place, &socket)
    }
}

/// Rate and p99 of one side, round by round.
#[derive(Default)]
struct Side {
    rate: Sample,
    p99: Sample,
}

/// What one side gave in one round, slice by slice.
#[derive(Default)]
struct Slices {
    latencies: Sample,
    took: u64,
}

impl Slices {
    fn measure(&mut self, service: &Service, keep_alive: bool, options: &Options) -> Result<()> {
        let load = Load {
            address: service.place.address,
            pace: Pace::Closed(CLIENTS),
            keep_alive,
            warm_up: 50 * MILLISECOND,
            duration: options.pick(SLICE, SLICE / 5),
        };
        let tally = load.run().map_err(|error| service.trouble(&error.to_string()))?;
        if tally.lost() > 0 {
            return Err(service.trouble(&format!("requests failed: {:?}", tally.failed)));
        }
        self.latencies.extend(tally.latencies.iter().map(|&latency| latency as f64));
        self.took += tally.took;
        Ok(())
    }
}

impl Side {
    fn add(&mut self, slices: &Slices) {
        self.rate.add(slices.latencies.len() as f64 * SECOND as f64 / slices.took.max(1) as f64);
        self.p99.add(slices.latencies.quantile(0.99));
    }
}

/// The three sides of one kind of load: started by hand, the same again, and under handover.
#[derive(Default)]
struct Sides([Side; 3]);

const NAMES: [&str; 3] = ["by hand", "by hand, again", "handover"];

/// A round: all sides are started afresh, so that no accident of one start lasts. They are measured in short slices, in
/// turns, so that what else happens on the machine meets all of them; the order changes from slice to slice.
fn round(subject: &Subject, short: &mut Sides, kept: &mut Sides, options: &Options) -> Result<()> {
    let services = [subject.by_hand()?, subject.by_hand()?, subject.handover()?];
    services.iter().try_for_each(|service| service.wait_for_workers(WORKERS))?;
    for (sides, keep_alive) in [(short, false), (kept, true)] {
        if keep_alive && !subject.keeps_alive {
            continue;
        }
        let mut slices = [(); 3].map(|()| Slices::default());
        for number in 0..options.pick(SLICES, 1) {
            for turn in 0..services.len() {
                let side = (turn + number) % services.len();
                slices[side].measure(&services[side], keep_alive, options)?;
            }
        }
        sides.0.iter_mut().zip(&slices).for_each(|(side, slices)| side.add(slices));
    }
    Ok(())
}

fn rows(table: &mut Table, name: &str, kind: &str, sides: &Sides) {
    let [base, ..] = &sides.0;
    for (side, called) in sides.0.iter().zip(NAMES) {
        let (rate, p99) = (side.rate.over(&base.rate), side.p99.over(&base.p99));
        table.row([
            format!("{name}, {kind}"),
            called.to_owned(),
            count(side.rate.median()),
            ratio(rate.median()),
            rate.spread(ratio),
            microseconds(side.p99.median()),
            ratio(p99.median()),
            p99.spread(ratio),
        ]);
    }
}

/// The lines that count: handover through by hand.
fn lines(name: &str, kind: &str, sides: &Sides) -> [Line; 2] {
    let [base, _, handover] = &sides.0;
    let (rate, p99) = (handover.rate.over(&base.rate), handover.p99.over(&base.p99));
    let said = |sample: &Sample| format!("{} ({})", ratio(sample.median()), sample.spread(ratio));
    [
        Line {
            what: format!("answers a second, {name}, {kind}"),
            value: count(handover.rate.median()),
            baseline: count(base.rate.median()),
            ratio: said(&rate),
            aim: "≥ 0.97".to_owned(),
            met: Some(rate.median() >= 0.97),
        },
        Line {
            what: format!("p99 of the answers' times, {name}, {kind}"),
            value: microseconds(handover.p99.median()),
            baseline: microseconds(base.p99.median()),
            ratio: said(&p99),
            aim: "≤ 1.03".to_owned(),
            met: Some(p99.median() <= 1.03),
        },
    ]
}

/// The figure.
pub fn measure(options: &Options) -> Result<Report> {
    let rounds = options.rounds.unwrap_or(options.pick(7, 1));
    let (slices, length) = options.pick((SLICES, SLICE), (1, SLICE / 5));
    let mut report = Report {
        title: "Traffic: the same workers by hand and under handover",
        how: format!(
            "{WORKERS} processes share one inherited, non-blocking TCP socket (nginx: one master with two workers of its own). \
             They are started by hand, by hand once more as a control, and under handover; all are started afresh in each \
             of {rounds} rounds and then measured in turns, {slices} times {} ms each, by {CLIENTS} clients that ask again as soon as \
             they are answered. A ratio is taken within its round, through \"by hand\"; the median and the smallest and \
             largest of these ratios are given. The control tells how much of a difference is noise. A short connection carries \
             one request.",
            length / MILLISECOND
        ),
        not: "a network, more than two cores, and the most that a server can do alone: clients and server share the cores. In \
              a closed loop p99 is mostly time spent in the queue for a core.",
        ..Report::default()
    };
    let mut table =
        Table::new(&["program", "started", "answers a second", "ratio", "spread", "p99", "ratio", "spread"]);
    for subject in &SUBJECTS {
        if subject.needs.is_some_and(|(variable, program)| find(variable, program).is_none()) {
            report.skip(subject.name, "not installed");
            continue;
        }
        let (mut short, mut kept) = (Sides::default(), Sides::default());
        (0..rounds).try_for_each(|_| round(subject, &mut short, &mut kept, options))?;
        rows(&mut table, subject.name, "short connections", &short);
        report.lines.extend(lines(subject.name, "short connections", &short));
        if subject.keeps_alive {
            rows(&mut table, subject.name, "keep-alive", &kept);
            report.lines.extend(lines(subject.name, "keep-alive", &kept));
        } else {
            report.skip(&format!("{}, keep-alive", subject.name), "it closes each connection");
        }
    }
    report.tables.push(table);
    Ok(report)
}
