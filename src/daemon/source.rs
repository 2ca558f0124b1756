//! Where the configuration comes from, and what it must know of this machine.

use std::path::{Path, PathBuf};

use crate::config::model::{Config, GroupId, UserId};
use crate::config::{self, Facts, Flags};
use crate::os::user;

/// Where the configuration comes from.
#[derive(Clone, Debug)]
pub enum Source {
    /// A file, read at the start and again at each reload.
    File(PathBuf),
    /// The command line; a reload finds the same again.
    Flags {
        /// What it says.
        flags: Flags,
        /// Where the program runs: where the command was typed.
        directory: PathBuf,
    },
    /// A text that is part of the program; a reload finds the same again.
    Text {
        /// The daemon's name.
        name: String,
        /// TOML.
        text: String,
    },
}

/// A configuration that cannot be used, for a person; may have several lines.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Refused(pub String);

impl Source {
    /// Reads it.
    ///
    /// # Errors
    /// What is wrong with it, all at once; in colour if that is wanted.
    pub fn read(&self, colour: bool) -> Result<Config, Refused> {
        match self {
            Self::File(path) => read_file(path, colour),
            Self::Flags { flags, directory } => {
                let config = config::from_flags(flags, &ThisMachine);
                let mut config = config.map_err(|faults| Refused(faults.to_string()))?;
                for pool in config.pools.values_mut() {
                    pool.program.directory = directory.to_str().map(|text| text.replace("${", "$${"));
                }
                Ok(config)
            }
            Self::Text { name, text } => {
                config::parse(name, text, name, &ThisMachine).map_err(|faults| Refused(faults.render(colour)))
            }
        }
    }
}

fn read_file(path: &Path, colour: bool) -> Result<Config, Refused> {
    let shown = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|error| Refused(format!("{shown}: {error}")))?;
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    config::parse(&shown, &text, &stem, &ThisMachine).map_err(|faults| Refused(faults.render(colour)))
}

/// The machine that we run on.
pub struct ThisMachine;

impl Facts for ThisMachine {
    fn cores(&self) -> u32 {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        u32::try_from(cores).unwrap_or(u32::MAX)
    }

    fn user(&self, name_or_uid: &str) -> Option<UserId> {
        user::user(name_or_uid).ok().flatten().map(|user| UserId {
            name: user.name,
            uid: user.uid,
            gid: user.gid,
            home: user.home,
            shell: user.shell,
        })
    }

    fn group(&self, name_or_gid: &str) -> Option<GroupId> {
        user::group(name_or_gid).ok().flatten().map(|group| GroupId { name: group.name, gid: group.gid })
    }
}
