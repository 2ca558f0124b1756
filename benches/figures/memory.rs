//! What an idle daemon costs: memory, fds, threads and wake-ups, with few and with many workers, beside the masters of the
//! peers. One service at a time, since pages that two of them share would be counted by halves.

use crate::Result;
use crate::args::Options;
use crate::numbers::{Sample, count, megabytes, ratio};
use crate::peers::Peer;
use crate::report::{Line, Report, Table};
use crate::stand::{Place, Pool, Program, Service};
use crate::support::proc;
use crate::sys::{self, SECOND};

/// What a master is, at rest.
pub struct Holdings {
    /// Proportional set size, KiB.
    pub pss: f64,
    /// The part of it that is in no file, KiB: heap, stacks.
    pub anonymous: f64,
    /// Open fds.
    pub fds: usize,
    /// Threads.
    pub threads: usize,
}

impl Holdings {
    /// Looks at a process.
    pub fn of(pid: u32) -> Result<Self> {
        let path = format!("/proc/{pid}/smaps_rollup");
        let text = std::fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            let number = line.and_then(|line| line.split_whitespace().next());
            number.and_then(|number| number.parse().ok()).unwrap_or(f64::NAN)
        };
        let (pss, anonymous) = (field("Pss:"), field("Pss_Anon:"));
        Ok(Self { pss, anonymous, fds: proc::fds(pid).len(), threads: threads(pid).len() })
    }
}

fn threads(pid: u32) -> Vec<String> {
    let entries = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    entries.map(|entry| entry.path().join("status").display().to_string()).collect()
}

/// How often the threads of a process have begun to run: after each wait, and after each time another one came first.
fn switches(pid: u32) -> u64 {
    let of = |path: &String| {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let lines = text.lines().filter(|line| line.contains("ctxt_switches:"));
        lines.filter_map(|line| line.split_whitespace().last()?.parse::<u64>().ok()).sum::<u64>()
    };
    threads(pid).iter().map(of).sum()
}

/// One master.
struct Rest {
    name: String,
    holdings: Holdings,
    wake_ups: u64,
}

/// Lets a service come to rest, and watches its master.
fn rest(service: &Service, name: String, settle: u64, watch: u64) -> Result<Rest> {
    sys::pause(settle);
    let pid = service.master();
    let before = switches(pid);
    sys::pause(watch);
    let wake_ups = switches(pid) - before;
    Ok(Rest { name, holdings: Holdings::of(pid)?, wake_ups })
}

fn handover(workers: usize, settle: u64, watch: u64) -> Result<Rest> {
    let service = Pool::new(Program::own(&[])?, workers).start(Place::new())?;
    service.wait_for_answer()?;
    service.settle()?;
    rest(&service, format!("handover, {} workers", count(workers as f64)), settle, watch)
}

fn lines(all: &[Rest], peers: &[Rest]) -> Vec<Line> {
    let Some(small) = all.first() else { return Vec::new() };
    let least = peers.iter().min_by(|a, b| a.holdings.pss.total_cmp(&b.holdings.pss));
    let baseline = least.map(|least| (least.name.clone(), least.holdings.pss));
    let mut lines = vec![Line {
        what: "memory of the idle daemon with 4 workers (PSS)".to_owned(),
        value: megabytes(small.holdings.pss),
        baseline: baseline
            .as_ref()
            .map_or_else(String::new, |(name, pss)| format!("{} ({name})", megabytes(*pss))),
        ratio: baseline.map_or_else(String::new, |(_, pss)| ratio(small.holdings.pss / pss)),
        aim: "≤ 3 MB".to_owned(),
        met: Some(small.holdings.pss * 1024.0 <= 3e6),
    }];
    let waking: Sample = all.iter().map(|rest| rest.wake_ups as f64).collect();
    let theirs: Sample = peers.iter().map(|rest| rest.wake_ups as f64).collect();
    lines.push(Line {
        what: "wake-ups of the idle daemon, most of all sizes".to_owned(),
        value: count(waking.max()),
        baseline: if peers.is_empty() { String::new() } else { format!("{} (peers)", theirs.spread(count)) },
        ratio: String::new(),
        aim: "0".to_owned(),
        met: Some(all.iter().all(|rest| rest.wake_ups == 0)),
    });
    if let Some(large) = all.last().filter(|_| all.len() > 1) {
        lines.push(Line {
            what: format!("memory of the idle daemon: {}", large.name.trim_start_matches("handover, ")),
            value: megabytes(large.holdings.pss),
            baseline: format!("{} (4 workers)", megabytes(small.holdings.pss)),
            ratio: ratio(large.holdings.pss / small.holdings.pss),
            aim: String::new(),
            met: None,
        });
    }
    lines
}

/// The figure.
pub fn measure(options: &Options) -> Result<Report> {
    let (settle, watch) = (options.pick(12 * SECOND, SECOND), options.pick(10 * SECOND, SECOND));
    let mut report = Report {
        title: "Idle: memory, fds and wake-ups",
        how: format!(
            "A service is started, answers once, is left alone for {} s (longer than every timer of a fresh worker) and watched for {} \
             s. Memory is `Pss` of the master's `smaps_rollup`, workers left out, in MB of 1,000,000 bytes; `Pss_Anon` is the part that \
             is in no file. Wake-ups are voluntary and involuntary context switches of all its threads. All services but one \
             are down meanwhile. The ratio is through handover with 4 workers.",
            settle / SECOND,
            watch / SECOND
        ),
        not: "what the workers need, and the page cache. PSS counts a page of the C library only in part, since every other process \
              has it too: the fewer processes there are, the larger the part.",
        ..Report::default()
    };
    let sizes: &[usize] = options.pick(&[4, 200, 1000], &[4]);
    let all: Vec<Rest> =
        sizes.iter().map(|workers| handover(*workers, settle, watch)).collect::<Result<_>>()?;
    let mut peers = Vec::new();
    for peer in Peer::present(&mut report) {
        let service = peer.start(4, 0)?;
        service.wait_for_answer()?;
        peers.push(rest(
            &service,
            format!("{}, 4 workers", peer.name()),
            options.pick(3 * SECOND, SECOND),
            watch,
        )?);
    }
    let mut table = Table::new(&["master", "PSS", "ratio", "of it Pss_Anon", "fds", "threads", "wake-ups"]);
    for rest in all.iter().chain(&peers) {
        table.row([
            rest.name.clone(),
            megabytes(rest.holdings.pss),
            ratio(rest.holdings.pss / all[0].holdings.pss),
            megabytes(rest.holdings.anonymous),
            count(rest.holdings.fds as f64),
            rest.holdings.threads.to_string(),
            count(rest.wake_ups as f64),
        ]);
    }
    report.lines.extend(lines(&all, &peers));
    report.tables.push(table);
    Ok(report)
}
