//! Fds a second through a pipe, beside a bare loop of `sendmsg` and `recvmsg`. The program is a package of its own, because a pipe is compiled
//! into its user's program, with its profile, and not with that of our command.

use std::process::Command;

use crate::Result;
use crate::args::Options;
use crate::numbers::{Sample, count, ratio};
use crate::report::{Line, Report, Table};
use crate::sdk::Package;

/// What the program measures, in its order; each with the place of what it is compared with.
const ROWS: [(&str, usize); 5] = [
    ("bare loop, one by one", 0),
    ("pipe, sent one by one, taken as they come", 0),
    ("pipe, sent one by one, taken one by one", 0),
    ("bare loop, 32 together", 3),
    ("pipe, 32 together", 3),
];

/// The least that is wanted of the bare loop's rate.
const AIM: f64 = 0.8;

fn run(options: &Options) -> Result<[Sample; 5]> {
    let dependencies = "handover = { HANDOVER, default-features = false, features = [\"pipe\"] }\n\
                        serde_json = { version = \"1\", features = [\"raw_value\"] }";
    let program = Package::new("pipe", dependencies, include_str!("../programs/pipe.rs"))?.build()?;
    let words = options.pick(["9", "192000"], ["1", "3200"]);
    let output = Command::new(&program).args(words).output();
    let output = output.map_err(|error| format!("{}: {error}", program.display()))?;
    let mut samples = [(); 5].map(|()| Sample::default());
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        for (sample, word) in samples.iter_mut().zip(line.split(' ')) {
            sample.add(word.parse().map_err(|_| format!("the pipe's program said {line}"))?);
        }
    }
    if samples[4].is_empty() {
        return Err(format!("the pipe's program: {}", String::from_utf8_lossy(&output.stderr)));
    }
    Ok(samples)
}

/// The figure.
pub fn measure(options: &Options) -> Result<Report> {
    let mut report = Report {
        title: "Pipes: fds a second",
        how: "One thread duplicates a TCP socket and sends it with 63 bytes of data, another one receives and closes it, over a Unix stream socket: in a \
              bare loop of `sendmsg` and `recvmsg` that neither counts, checks, acknowledges nor keeps a copy, and through `handover::pipe`. One by one, \
              and 32 in a message. One by one the receiver either takes what has come (`recv_many`), or one at a time (`recv`), which costs a system \
              call more for each, because each is acknowledged before the program has it. The program is built with Cargo's release profile. Ratios are \
              taken within a round."
            .to_owned(),
        not: "two processes on more than two cores, and data that the receiver's program reads: here it is passed on as it is.",
        ..Report::default()
    };
    let samples = run(options)?;
    let mut table = Table::new(&["way", "fds a second", "ratio", "spread"]);
    for ((name, base), sample) in ROWS.iter().zip(&samples) {
        let over = sample.over(&samples[*base]);
        table.row([(*name).to_owned(), count(sample.median()), ratio(over.median()), over.spread(ratio)]);
        if !name.starts_with("bare") {
            report.lines.push(Line {
                what: format!("fds a second, {name}"),
                value: count(sample.median()),
                baseline: count(samples[*base].median()),
                ratio: format!("{} ({})", ratio(over.median()), over.spread(ratio)),
                aim: format!("≥ {AIM}"),
                met: Some(over.median() >= AIM),
            });
        }
    }
    report.tables.push(table);
    Ok(report)
}
