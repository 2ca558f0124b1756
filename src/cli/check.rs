//! `handover check`: all faults of a configuration, or its canonical form.

use std::path::PathBuf;

use clap::Args;
use nix::unistd::{Gid, Group, Uid, User};

use super::console;
use crate::config::model::{GroupId, UserId};
use crate::config::{self, Facts};
use crate::exit;

/// Check a configuration file
///
/// Shows all faults at once; exits with 2 if there is one.
#[derive(Debug, Args)]
pub(super) struct Check {
    /// The file
    #[arg(value_name = "CONFIG")]
    config: PathBuf,
    /// Print the configuration in its canonical form, every default filled in
    #[arg(long)]
    print: bool,
}

pub(super) fn run(args: &Check) -> u8 {
    let shown = args.config.display().to_string();
    let text = match std::fs::read_to_string(&args.config) {
        Ok(text) => text,
        Err(error) => {
            console::complain(format_args!("{shown}: {error}"));
            return exit::USAGE;
        }
    };
    let stem = args.config.file_stem().unwrap_or_default().to_string_lossy();
    match config::parse(&shown, &text, &stem, &ThisMachine) {
        Ok(config) if args.print => console::print(config::render::canonical(&config)),
        Ok(_) => console::print(format_args!("{shown}: no faults\n")),
        Err(faults) => {
            // In colour: the console takes it out where it is not wanted.
            console::tell(faults.render(true).trim_end());
            exit::USAGE
        }
    }
}

/// The machine that the check runs on.
struct ThisMachine;

impl Facts for ThisMachine {
    fn cores(&self) -> u32 {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        u32::try_from(cores).unwrap_or(u32::MAX)
    }

    fn user(&self, name_or_uid: &str) -> Option<UserId> {
        let user = match name_or_uid.parse() {
            Ok(uid) => User::from_uid(Uid::from_raw(uid)),
            Err(_) => User::from_name(name_or_uid),
        };
        user.ok().flatten().map(|user| UserId {
            name: user.name,
            uid: user.uid.as_raw(),
            gid: user.gid.as_raw(),
            home: user.dir,
            shell: user.shell,
        })
    }

    fn group(&self, name_or_gid: &str) -> Option<GroupId> {
        let group = match name_or_gid.parse() {
            Ok(gid) => Group::from_gid(Gid::from_raw(gid)),
            Err(_) => Group::from_name(name_or_gid),
        };
        group.ok().flatten().map(|group| GroupId { name: group.name, gid: group.gid.as_raw() })
    }
}
