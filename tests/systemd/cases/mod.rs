//! The cases, by what they are about.

mod deploy;
mod directories;
mod generator;
mod inputs;
mod journal;
mod kinds;
mod mending;
mod packages;
mod time;
mod units;
mod users;

use crate::booted::Machine;

/// A case.
pub struct Case {
    /// What is shown to be so.
    pub name: &'static str,
    /// It changes what all cases share, so it runs when no other does.
    pub alone: bool,
    /// Panics where it is not so.
    pub run: fn(&Machine),
}

const fn case(name: &'static str, run: fn(&Machine)) -> Case {
    Case { name, alone: false, run }
}

const fn alone(name: &'static str, run: fn(&Machine)) -> Case {
    Case { name, alone: true, run }
}

/// The walk through the manual, which installs the package: on a fresh machine, before all others.
pub const FIRST: Case = alone("the walk through the manual", crate::walk::the_manual);

/// All others.
pub fn all() -> impl Iterator<Item = &'static Case> {
    // The long ones first.
    let early = [time::CASES, mending::CASES, deploy::CASES, kinds::CASES, generator::CASES, inputs::CASES];
    early
        .into_iter()
        .chain([journal::CASES, directories::CASES, users::CASES, units::CASES, packages::CASES])
        .flatten()
}
