//! macOS shows nobody what a thread waits for.

use std::time::Duration;

use super::{Sight, Target};

/// See the module.
#[derive(Debug, Default)]
pub struct Looker;

impl Looker {
    /// Begins a round of looks.
    pub fn begin_round(&mut self) {}

    /// Looks at one target.
    pub fn look(&mut self, target: &Target) -> Sight {
        let obstacle = Some("macOS does not show what a process waits for".to_owned());
        Sight { waited_on: vec![false; target.sockets.len()], obstacle }
    }

    /// How long to wait before the next round.
    pub fn pause(&self) -> Duration {
        Duration::from_millis(50)
    }
}
