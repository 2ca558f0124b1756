//! Whether anything grows with the number of rollouts: what the daemon holds before and after a thousand of them.

use crate::Result;
use crate::args::Options;
use crate::memory::Holdings;
use crate::numbers::{count, megabytes, ratio};
use crate::report::{Line, Report, Table};
use crate::stand::{Place, Pool, Program, Service};
use crate::sys::{self, SECOND};

/// What there is after some number of rollouts.
struct Mark {
    rollouts: usize,
    holdings: Holdings,
    processes: usize,
    files: usize,
}

impl Mark {
    fn of(service: &Service, rollouts: usize) -> Result<Self> {
        service.settle()?;
        sys::pause(SECOND / 2);
        let holdings = Holdings::of(service.master())?;
        let files = files(&service.place.scratch.join("run"));
        Ok(Self { rollouts, holdings, processes: service.processes(), files })
    }

    fn row(&self, table: &mut Table) {
        table.row([
            count(self.rollouts as f64),
            count(self.holdings.fds as f64),
            megabytes(self.holdings.pss),
            megabytes(self.holdings.anonymous),
            self.processes.to_string(),
            self.holdings.threads.to_string(),
            self.files.to_string(),
        ]);
    }
}

fn files(directory: &std::path::Path) -> usize {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| if entry.path().is_dir() { files(&entry.path()) } else { 1 }).sum()
}

fn lines(before: &Mark, after: &Mark) -> Vec<Line> {
    let line = |what: &str, value: String, baseline: String, ratio: String, met: Option<bool>| Line {
        what: format!("{what} after {} rollouts", count(after.rollouts as f64)),
        value,
        baseline: format!("{baseline} (after {})", before.rollouts),
        ratio,
        aim: if met.is_some() { "no more".to_owned() } else { String::new() },
        met,
    };
    let numbers = |name: &str, now: usize, then: usize| {
        line(name, now.to_string(), then.to_string(), ratio(now as f64 / then as f64), Some(now <= then))
    };
    let (now, then) = (after.holdings.pss, before.holdings.pss);
    vec![
        numbers("fds", after.holdings.fds, before.holdings.fds),
        numbers("processes", after.processes, before.processes),
        line("memory (PSS)", megabytes(now), megabytes(then), ratio(now / then), None),
    ]
}

/// The figure.
pub fn measure(options: &Options) -> Result<Report> {
    let stops: &[usize] = options.pick(&[0, 10, 100, 500, 1000], &[0, 10, 20]);
    let mut report = Report {
        title: "A thousand rollouts: what stays behind",
        how: "Two workers that do nothing are replaced by `handover reload` again and again, with `bake_time = \"0s\"`. At each stop \
              the daemon is left alone until no old worker is left, and half a second more. Processes are counted by a mark in their \
              environment; files are those in the runtime directory. The baseline is the same daemon after its tenth rollout, when all \
              of its code has run."
            .to_owned(),
        not: "time: a thousand rollouts in a row are not three years of uptime.",
        ..Report::default()
    };
    let pool = Pool { listens: false, ..Pool::new(Program::own(&["--idle"])?, 2) };
    let service = pool.start(Place::new())?;
    let mut table =
        Table::new(&["rollouts", "fds", "PSS", "of it Pss_Anon", "processes", "threads", "files"]);
    let mut marks = Vec::new();
    let (mut done, mut spent) = (0, 0);
    service.settle()?;
    for &stop in stops {
        let begun = sys::now();
        for _ in done..stop {
            service.cli(&["reload"])?;
        }
        spent += sys::now() - begun;
        done = stop;
        let mark = Mark::of(&service, stop)?;
        mark.row(&mut table);
        marks.push(mark);
    }
    if let [_, before, .., after] = marks.as_slice() {
        report.lines.extend(lines(before, after));
    }
    let each = spent as f64 / done.max(1) as f64;
    report.how.push_str(&format!(" One rollout took {} on average.", crate::numbers::milliseconds(each)));
    report.tables.push(table);
    Ok(report)
}
