//! How long clients go without an answer while workers that take their time to start are replaced: the longest gap between two
//! answers at a steady load, beside the longest gap of the same service under the same load when nothing happens.

use std::collections::BTreeSet;

use crate::Result;
use crate::args::Options;
use crate::load::{Load, Pace, Tally};
use crate::numbers::{Sample, count, milliseconds, ratio};
use crate::peers::Peer;
use crate::report::{Line, Report, Table};
use crate::stand::{Place, Pool, Program, Service};
use crate::sys::{self, MILLISECOND, SECOND};

/// Requests a second, each on a connection of its own.
const RATE: u64 = 500;
/// Workers that are replaced.
const WORKERS: usize = 2;

/// Who replaces the workers, and how.
struct Subject {
    service: Service,
    peer: Option<Peer>,
    quiet: Runs,
    reload: Runs,
    /// Rounds in which an old worker still answered at the end.
    unfinished: usize,
}

/// What many runs of one kind gave.
#[derive(Default)]
struct Runs {
    gap: Sample,
    slowest: Sample,
    failed: u64,
    requests: u64,
}

impl Runs {
    fn add(&mut self, tally: &Tally) {
        self.gap.add(tally.gap as f64);
        self.slowest.add(tally.latencies.iter().copied().max().unwrap_or(0) as f64);
        self.failed += tally.lost();
        self.requests += tally.latencies.len() as u64 + tally.lost();
    }
}

/// The lengths of a run.
#[derive(Clone, Copy)]
struct Times {
    boot: u64,
    before: u64,
    whole: u64,
}

impl Subject {
    fn load(&self, times: Times) -> Load {
        Load {
            address: self.service.place.address,
            pace: Pace::Open(RATE),
            keep_alive: false,
            warm_up: 0,
            duration: times.whole,
        }
    }

    /// One run in which nothing happens, and one with a reload.
    fn round(&mut self, times: Times) -> Result<()> {
        let run = |load: Load| load.run().map_err(|error| self.service.trouble(&error.to_string()));
        let quiet = run(self.load(times))?;
        let old: BTreeSet<u32> = quiet.last_of.keys().copied().collect();
        let (load, service, peer) = (self.load(times), &self.service, self.peer);
        let (tally, reloaded) = std::thread::scope(|scope| {
            let under_load = scope.spawn(move || run(load));
            sys::pause(times.before);
            let reloaded = match peer {
                None => service.cli(&["reload"]).map(drop),
                Some(peer) => peer.reload(service),
            };
            (under_load.join(), reloaded)
        });
        let tally = tally.map_err(|_| self.service.trouble("the load generator panicked"))??;
        reloaded?;
        let end = tally.last_of.values().copied().max().unwrap_or(0);
        let late = tally.last_of.iter().any(|(pid, at)| old.contains(pid) && at + SECOND / 4 > end);
        self.unfinished += usize::from(late);
        self.quiet.add(&quiet);
        self.reload.add(&tally);
        Ok(())
    }

    fn row(&self, table: &mut Table) {
        let over = self.reload.gap.over(&self.quiet.gap);
        let both =
            |sample: &Sample| format!("{} ({})", milliseconds(sample.median()), sample.spread(milliseconds));
        let note = match (self.unfinished, self.peer.is_none_or(Peer::boots)) {
            (0, true) => String::new(),
            (0, false) => "its workers start at once".to_owned(),
            (rounds, _) => format!("in {rounds} rounds an old worker still answered at the end"),
        };
        table.row([
            self.service.name.to_owned(),
            both(&self.quiet.gap),
            both(&self.reload.gap),
            ratio(over.median()),
            both(&self.reload.slowest),
            count(self.reload.requests as f64),
            count(self.reload.failed as f64),
            count(self.quiet.failed as f64),
            note,
        ]);
    }
}

fn subjects(report: &mut Report, times: Times) -> Result<Vec<Subject>> {
    let own = Program::own(&["--boot", &times.boot.to_string()])?;
    let mut services = vec![(Pool::new(own, WORKERS).start(Place::new())?, None)];
    for peer in Peer::present(report) {
        if peer.reloads() {
            services.push((peer.start(WORKERS, times.boot)?, Some(peer)));
        } else {
            report.skip(peer.name(), "it has no command that replaces its workers");
        }
    }
    let subject = |(service, peer): (Service, _)| {
        service.wait_for_workers(WORKERS)?;
        let (quiet, reload) = (Runs::default(), Runs::default());
        Ok(Subject { service, peer, quiet, reload, unfinished: 0 })
    };
    services.into_iter().map(subject).collect()
}

fn lines(handover: &Subject) -> [Line; 2] {
    let over = handover.reload.gap.over(&handover.quiet.gap);
    let failed = handover.reload.failed;
    [
        Line {
            what: format!("longest gap between answers while {WORKERS} workers are replaced"),
            value: milliseconds(handover.reload.gap.median()),
            baseline: milliseconds(handover.quiet.gap.median()),
            ratio: format!("{} ({})", ratio(over.median()), over.spread(ratio)),
            aim: String::new(),
            met: None,
        },
        Line {
            what: "requests that failed meanwhile".to_owned(),
            value: format!("{failed} of {}", count(handover.reload.requests as f64)),
            baseline: format!("{} of {}", handover.quiet.failed, count(handover.quiet.requests as f64)),
            ratio: String::new(),
            aim: "0".to_owned(),
            met: Some(failed == 0),
        },
    ]
}

/// The figure.
pub fn measure(options: &Options) -> Result<Report> {
    let rounds = options.rounds.unwrap_or(options.pick(3, 1));
    let times = Times {
        boot: options.pick(700, 100),
        before: options.pick(SECOND, SECOND / 4),
        whole: options.pick(5 * SECOND, 3 * SECOND / 2),
    };
    let mut report = Report {
        title: "A reload of slow workers: the longest gap between answers",
        how: format!(
            "{WORKERS} workers that take {} ms to start are replaced under {RATE} requests a second, each on a new connection and \
             due at its time whatever became of those before (open loop). In each of {rounds} rounds a run of {:.1} s without a \
             reload is followed by one with a reload after {:.2} s: `handover reload` (with `bake_time = \"0s\"`), `SIGHUP` to \
             gunicorn and nginx, `circusctl reload`. A gap is the time between two answers that follow each other; the slowest answer \
             counts from when its request was due. The median and, in parentheses, the smallest and largest of the rounds.",
            times.boot,
            times.whole as f64 / SECOND as f64,
            times.before as f64 / SECOND as f64,
        ),
        not: "kept-alive connections, and workers that need more than their share of the machine to start: these sleep.",
        ..Report::default()
    };
    let mut subjects = subjects(&mut report, times)?;
    for _ in 0..rounds {
        for subject in &mut subjects {
            subject.round(times)?;
            sys::pause(200 * MILLISECOND);
        }
    }
    let mut table = Table::new(&[
        "supervisor",
        "longest gap, nothing happens",
        "longest gap, reload",
        "ratio",
        "slowest answer, reload",
        "requests",
        "failed, reload",
        "failed, nothing happens",
        "",
    ]);
    subjects.iter().for_each(|subject| subject.row(&mut table));
    report.lines.extend(lines(&subjects[0]));
    report.tables.push(table);
    Ok(report)
}
