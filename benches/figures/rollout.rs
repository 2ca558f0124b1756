//! How long a rollout takes, and how that grows with the number of workers; beside it the bare cost of starting and ending as
//! many of them one after the other.

use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};

use crate::Result;
use crate::args::Options;
use crate::numbers::{Sample, count, milliseconds, ratio};
use crate::report::{Line, Report, Table};
use crate::stand::{Place, Pool, Program};
use crate::support::child::OwnedChild;
use crate::support::scratch::Scratch;
use crate::sys;

/// Starts and ends so many workers one by one, each ready before it is ended: what a script could do.
fn bare(program: &Program, workers: usize) -> Result<f64> {
    let scratch = Scratch::new();
    let path = scratch.join("notify");
    let socket = UnixDatagram::bind(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let timeout = Some(std::time::Duration::from_secs(10));
    socket.set_read_timeout(timeout).map_err(|error| format!("{}: {error}", path.display()))?;
    let begun = sys::now();
    for _ in 0..workers {
        let mut command = Command::new(&program.command[0]);
        command.args(&program.command[1..]).env("NOTIFY_SOCKET", &path).stdin(Stdio::null());
        let child = OwnedChild::spawn(&mut command);
        socket.recv(&mut [0; 64]).map_err(|error| format!("a worker did not become ready: {error}"))?;
        child.signal(libc::SIGTERM);
        drop(child);
    }
    Ok((sys::now() - begun) as f64)
}

/// The times of one number of workers.
struct Size {
    workers: usize,
    bare: Sample,
    one_by_one: Sample,
    at_once: Sample,
    start: Sample,
}

impl Size {
    fn new(workers: usize) -> Self {
        let [bare, one_by_one, at_once, start] = [(); 4].map(|()| Sample::default());
        Self { workers, bare, one_by_one, at_once, start }
    }

    fn measure(&mut self, rounds: usize) -> Result<()> {
        let program = Program::own(&["--idle"])?;
        for _ in 0..rounds {
            self.bare.add(bare(&program, self.workers)?);
        }
        for surge in ["1", "\"100%\""] {
            let pool = Pool { listens: false, surge, ..Pool::new(program.clone(), self.workers) };
            let begun = sys::now();
            let service = pool.start(Place::new())?;
            service.settle()?;
            self.start.add((sys::now() - begun) as f64);
            let into = if surge == "1" { &mut self.one_by_one } else { &mut self.at_once };
            for _ in 0..rounds {
                let begun = sys::now();
                service.cli(&["reload"])?;
                into.add((sys::now() - begun) as f64);
                service.settle()?;
            }
        }
        Ok(())
    }

    fn row(&self, table: &mut Table) {
        let each = |sample: &Sample| {
            let apiece = milliseconds(sample.median() / self.workers as f64);
            format!("{} ({apiece} a worker)", milliseconds(sample.median()))
        };
        table.row([
            count(self.workers as f64),
            each(&self.bare),
            each(&self.one_by_one),
            ratio(self.one_by_one.median() / self.bare.median()),
            each(&self.at_once),
            ratio(self.at_once.median() / self.bare.median()),
            each(&self.start),
        ]);
    }

    fn line(&self) -> Line {
        let over = self.one_by_one.over(&self.bare);
        Line {
            what: format!("rollout of {} workers, one by one", count(self.workers as f64)),
            value: milliseconds(self.one_by_one.median()),
            baseline: format!("{} (bare)", milliseconds(self.bare.median())),
            ratio: format!("{} ({})", ratio(over.median()), over.spread(ratio)),
            aim: String::new(),
            met: None,
        }
    }
}

/// The figure.
pub fn measure(options: &Options) -> Result<Report> {
    let mut report = Report {
        title: "Rollouts: how long, and how that grows",
        how: "Workers that do nothing: they say `READY=1` and wait; SIGTERM ends them at once. `handover reload` is timed as a whole \
              process, with `bake_time = \"0s\"`, and with `max_surge = 1` (the default) and `max_surge = \"100%\"`; it ends when \
              the new generation serves, the last old workers may still be on their way out. The baseline is this bench, which starts a \
              worker, waits for its `READY=1`, ends it, waits for its end, and goes on with the next. \"Start\" is from the start of the \
              daemon until `handover status` shows every worker ready. Medians."
            .to_owned(),
        not: "programs that take their time to start or to end: theirs comes on top, once for each step of `max_surge`.",
        ..Report::default()
    };
    let mut table = Table::new(&[
        "workers",
        "bare, one after the other",
        "rollout, max_surge 1",
        "ratio to bare",
        "rollout, max_surge 100%",
        "ratio to bare",
        "start",
    ]);
    let sizes: &[(usize, usize)] = options.pick(&[(4, 10), (200, 5), (1000, 3)], &[(4, 2), (20, 1)]);
    for &(workers, rounds) in sizes {
        let mut size = Size::new(workers);
        size.measure(rounds)?;
        size.row(&mut table);
        report.lines.push(size.line());
    }
    report.tables.push(table);
    Ok(report)
}
