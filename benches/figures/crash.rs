//! How soon a killed worker is followed: from `SIGKILL` to the execution of its successor, to that program's first statement,
//! and to its first answer. handover, a bare loop that waits and starts anew, and every peer, killed in turns.

use crate::Result;
use crate::args::Options;
use crate::kernel::Witness;
use crate::numbers::{Sample, milliseconds, ratio};
use crate::peers::Peer;
use crate::report::{Line, Report, Table};
use crate::stand::{ANSWER_WITHIN, Place, Pool, Program, Service};
use crate::support::child::Handle;
use crate::sys::{self, MILLISECOND, SECOND};

/// A worker is left alone for so long before it is killed: it has settled, and has lived longer than `stable_after`.
const LIFE: u64 = 250 * MILLISECOND;

/// What is killed again and again.
struct Subject {
    service: Service,
    /// Started anew by the bench itself, with the program.
    loops: Option<(Program, std::os::fd::OwnedFd)>,
    victim: u32,
    /// When the kernel reported the victim's end, the successor's fork, and its first execution.
    ended: Sample,
    forked: Sample,
    helped: Sample,
    born: Sample,
    began: Sample,
    answered: Sample,
    executes: bool,
    /// How often its supervisor looks, where it waits for no event: kills are spread over that time.
    period: u64,
    /// When the last answer came.
    last: u64,
    spent: u64,
}

impl Subject {
    fn new(service: Service) -> Result<Self> {
        let victim = service.wait_for_answer()?.pid;
        let [ended, forked, helped, born, began, answered] = [(); 6].map(|()| Sample::default());
        Ok(Self {
            service,
            loops: None,
            victim,
            ended,
            forked,
            helped,
            born,
            began,
            answered,
            executes: true,
            period: 0,
            last: sys::now(),
            spent: 0,
        })
    }

    /// The least that anybody could do: wait for the worker's end, start the program again on the same socket.
    fn bare() -> Result<Self> {
        let (place, program) = (Place::new(), Program::own(&[])?);
        let socket = place.socket()?;
        let mut service = Service::new("a bare loop: wait, start", place);
        service.start_program(&program, &socket)?;
        Ok(Self { loops: Some((program, socket)), ..Self::new(service)? })
    }

    fn kill(&mut self, witness: Option<&mut Witness>) -> Result<()> {
        // Multiples of the golden ratio come near every part of the period.
        let phase = (self.answered.len() as f64 * 0.618_034).fract() * self.period as f64;
        sys::pause((self.last + LIFE + phase as u64).saturating_sub(sys::now()));
        let mut witness = witness;
        if let Some(witness) = &mut witness {
            witness.clear();
        }
        let victim = self.victim;
        let handle = Handle::open(victim).ok_or_else(|| self.service.trouble("its worker is gone"))?;
        let killed = sys::now();
        handle.signal(libc::SIGKILL);
        if let Some((program, socket)) = &self.loops {
            self.service.end_children();
            self.service.start_program(program, socket)?;
        }
        let answer = self.service.wait_for_answer_of(|answer| answer.pid != victim)?;
        let answered = sys::now();
        let after = |at: u64| at.saturating_sub(killed) as f64;
        if let Some(seen) = witness.map(|witness| witness.succession(victim, answer.pid)) {
            self.executes = !seen.executed.is_empty();
            self.born.extend(seen.born().map(after));
            self.ended.extend(seen.ended.map(after));
            self.forked.extend(seen.forked.map(after));
            self.helped.extend(seen.executed.first().copied().map(after));
        }
        if answer.began > 0 {
            self.began.add(after(answer.began));
        }
        self.answered.add((answered - killed) as f64);
        self.victim = answer.pid;
        self.last = answered;
        self.spent += answered - killed + phase as u64;
        Ok(())
    }
}

fn subjects(report: &mut Report) -> Result<Vec<Subject>> {
    let mut subjects =
        vec![Subject::new(Pool::new(Program::own(&[])?, 1).start(Place::new())?)?, Subject::bare()?];
    for peer in Peer::present(report) {
        subjects.push(Subject { period: peer.looks_every(), ..Subject::new(peer.start(1, 0)?)? });
    }
    Ok(subjects)
}

fn three(sample: &Sample) -> String {
    if sample.is_empty() {
        return "–".to_owned();
    }
    [sample.median(), sample.quantile(0.99), sample.max()].map(milliseconds).join(" / ")
}

fn table(subjects: &[Subject]) -> Table {
    let mut table = Table::new(&[
        "supervisor",
        "kills",
        "the successor is",
        "after (median / p99 / max)",
        "its first statement",
        "its first answer",
        "median of the second, handover = 1",
    ]);
    let ours = subjects[0].born.median();
    for subject in subjects {
        let born = if subject.executes { "executed" } else { "forked" };
        table.row([
            subject.service.name.to_owned(),
            subject.answered.len().to_string(),
            if subject.born.is_empty() { "–" } else { born }.to_owned(),
            three(&subject.born),
            three(&subject.began),
            three(&subject.answered),
            ratio(subject.born.median() / ours),
        ]);
    }
    table
}

/// The way from the kill to the answer, step by step.
fn steps(subjects: &[Subject]) -> Table {
    let mut table = Table::new(&[
        "median after the kill",
        "the worker has ended",
        "fork",
        "first execution",
        "the program's execution",
        "its first statement",
        "its first answer",
    ]);
    for subject in subjects {
        let [first, last] = match subject.executes {
            true => [&subject.helped, &subject.born],
            false => [&Sample::default(), &Sample::default()],
        };
        let samples = [&subject.ended, &subject.forked, first, last, &subject.began, &subject.answered];
        let cells = samples.map(|sample| milliseconds(sample.median()));
        table.row([subject.service.name.to_owned()].into_iter().chain(cells));
    }
    table
}

fn lines(handover: &Subject, bare: &Subject) -> [Line; 2] {
    let line = |what: &str, ours: &Sample, theirs: &Sample, aim: Option<f64>| {
        let over = ours.over(theirs);
        Line {
            what: what.to_owned(),
            value: three(ours),
            baseline: three(theirs),
            ratio: format!("{} ({})", ratio(over.median()), over.spread(ratio)),
            aim: aim.map_or_else(String::new, |aim| format!("≤ {}", milliseconds(aim))),
            met: aim.map(|aim| ours.median() <= aim),
        }
    };
    let aim = Some(3.0 * MILLISECOND as f64);
    let first = if handover.born.is_empty() {
        line("SIGKILL to the successor's first statement", &handover.began, &bare.began, aim)
    } else {
        line("SIGKILL to the execution of the successor", &handover.born, &bare.born, aim)
    };
    [first, line("SIGKILL to the successor's first answer", &handover.answered, &bare.answered, None)]
}

/// The figure.
pub fn measure(options: &Options) -> Result<Report> {
    let kills = options.pick(100, 3);
    let budget = options.pick(60, 2) * SECOND;
    let mut report = Report {
        title: "A killed worker: how soon it is followed",
        how: format!(
            "One worker each, killed {kills} times in turns (less often where that takes more than a minute), when it has served \
             for {} ms or longer. The moment of execution (or of the fork, for those that execute nothing) is the kernel's own time stamp \
             (`CONFIG_PROC_EVENTS`, `CLOCK_MONOTONIC`); the first statement is told by the program in its answer; the first answer is \
             that of a client who connects right after the kill, and once more when it has waited {} ms. handover, circus and the bare loop run the same small server. \
             circus looks after its workers every 5 s (`check_delay`); its kills are spread over that time. handover is configured with `stable_after = \"100ms\"` instead of 10s, so that each of these deaths counts as that of a \
             worker that had been stable; of workers that die younger only the first is followed at once, and the next ones wait for `backoff`, on purpose. The bare loop is this \
             bench: `waitpid`, then a start of the same program through one more execution. \
             The second table has the steps in between: handover first executes its own helper in the new process, the bare loop \
             a stand-in for a service manager.",
            LIFE / MILLISECOND,
            ANSWER_WITHIN.as_millis(),
        ),
        not: "what clients lose: a killed worker takes with it what it had accepted. gunicorn and nginx fork workers that have their \
              program already, which is no start of a new program; a Node worker has to start Node.",
        ..Report::default()
    };
    let mut witness = match Witness::new() {
        Ok(witness) => Some(witness),
        Err(error) => {
            report.skip("the moment of execution", &format!("process events of the kernel: {error}"));
            None
        }
    };
    let mut subjects = subjects(&mut report)?;
    for _ in 0..kills {
        for subject in subjects.iter_mut().filter(|subject| subject.spent < budget) {
            subject.kill(witness.as_mut())?;
        }
    }
    report.tables.push(table(&subjects));
    if witness.is_some() {
        report.tables.push(steps(&subjects));
    }
    report.lines.extend(lines(&subjects[0], &subjects[1]));
    Ok(report)
}
