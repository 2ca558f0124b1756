//! What a load client got.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::{Duration, Instant};

use super::client::{Answer, Failure};

/// One request that failed.
#[derive(Clone, Debug)]
pub struct Lost {
    /// How.
    pub failure: Failure,
    /// Whom the connection belonged to, where an earlier answer on it had told.
    pub pid: Option<u32>,
    /// When its connecting began.
    pub began: Instant,
    /// When it had failed.
    pub failed: Instant,
}

/// Counts.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Whole answers.
    pub ok: u64,
    /// Connections opened.
    pub connections: u64,
    /// Requests that failed, crossed ones left out.
    pub lost: Vec<Lost>,
    /// Requests that crossed the end of an idle connection.
    pub crossed: u64,
    /// Whole answers by generation.
    pub by_generation: BTreeMap<u64, u64>,
    /// Whole answers by pid.
    pub by_pid: BTreeMap<u32, u64>,
    /// Whole answers by version.
    pub by_version: BTreeMap<String, u64>,
    /// The longest time that an answer took, connecting included.
    pub slowest: Duration,
    /// How long the load ran.
    pub took: Duration,
}

impl Tally {
    /// Counts a whole answer.
    pub fn count(&mut self, answer: &Answer, took: Duration) {
        self.ok += 1;
        *self.by_generation.entry(answer.generation()).or_default() += 1;
        *self.by_pid.entry(answer.pid()).or_default() += 1;
        *self.by_version.entry(answer.version()).or_default() += 1;
        self.slowest = self.slowest.max(took);
    }

    /// Counts a failed request.
    pub fn fail(&mut self, failure: Failure, pid: Option<u32>, began: Instant) {
        if failure == Failure::Crossed {
            self.crossed += 1;
        } else {
            self.lost.push(Lost { failure, pid, began, failed: Instant::now() });
        }
    }

    /// Adds another's counts.
    pub fn add(&mut self, other: Self) {
        self.ok += other.ok;
        self.connections += other.connections;
        self.crossed += other.crossed;
        self.lost.extend(other.lost);
        self.slowest = self.slowest.max(other.slowest);
        sum(&mut self.by_generation, other.by_generation);
        sum(&mut self.by_pid, other.by_pid);
        sum(&mut self.by_version, other.by_version);
    }

    /// Writes down how much load there was and what became of it; not `println`, which is swallowed where a test passes.
    pub fn print(&self, what: &str) {
        let (connections, requests) = (self.connections, self.ok + self.crossed + self.lost.len() as u64);
        let rate = u128::from(connections) * 1000 / self.took.as_millis().max(1);
        let _ = writeln!(
            std::io::stderr(),
            "load: {what}: {connections} connections in {:.1?} ({rate} a second), {requests} requests, {} crossed, {} lost",
            self.took,
            self.crossed,
            self.lost.len()
        );
    }

    /// # Panics
    ///
    /// Where a request was lost, or there were hardly any.
    #[track_caller]
    pub fn assert_nothing_lost(&self) {
        assert!(self.ok > 0, "no request was answered: {self:#?}");
        assert!(self.lost.is_empty(), "{} of {} requests were lost: {self:#?}", self.lost.len(), self.ok);
    }
}

fn sum<K: Ord>(into: &mut BTreeMap<K, u64>, from: BTreeMap<K, u64>) {
    for (key, count) in from {
        *into.entry(key).or_default() += count;
    }
}
