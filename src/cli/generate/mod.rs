//! `handover generate`: files for other programs, made from the declarations of the command line and of the keys.
//!
//! The copies under `packaging` are for those who make packages; a test compares them with what is made here.

mod files;
mod launchd;
mod man;
mod roff;
mod scripts;
mod systemd;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::console;
use crate::os::open_directory::OpenDirectory;
use crate::{config, exit};
pub(super) use man::Page;
pub(super) use scripts::Shell;

/// Print files for other programs: units of systemd, a job of launchd, an editor's schema, a shell's completions, manual pages
#[derive(Debug, Args)]
pub(super) struct Generate {
    #[command(subcommand)]
    what: What,
}

/// What `handover generate completions --help` says. No doc comment: rustdoc would take its examples for Rust.
const COMPLETIONS: &str = "\
Print the completions for a shell

They ask the program itself, so they know the pools and daemons that there are, and need not be made anew when
handover is updated. For one user:

    bash    handover generate completions bash > ~/.local/share/bash-completion/completions/handover
    zsh     handover generate completions zsh > DIRECTORY_IN_FPATH/_handover
    fish    handover generate completions fish > ~/.config/fish/completions/handover.fish";

#[derive(Debug, Subcommand)]
enum What {
    Systemd(systemd::Systemd),
    Launchd(launchd::Launchd),
    /// Print the JSON Schema of the configuration, for editors
    ///
    /// With `#:schema /path/of/the/schema` as its first line, a TOML file is completed and checked by every editor
    /// that uses taplo.
    Schema,
    /// Print the completions for a shell
    #[command(long_about = COMPLETIONS)]
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print a manual page, or write all of them
    Man {
        /// The page
        #[arg(default_value = "handover.1", conflicts_with = "directory")]
        page: Page,
        /// Write all pages into this directory, which must exist
        #[arg(long, value_name = "DIRECTORY", value_hint = clap::ValueHint::DirPath)]
        directory: Option<PathBuf>,
    },
}

pub(super) fn run(args: Generate) -> u8 {
    match args.what {
        What::Systemd(args) => systemd::run(&args),
        What::Launchd(args) => launchd::run(&args),
        What::Schema => console::print(config::editor::json_schema()),
        What::Completions { shell } => console::print(shell.script()),
        What::Man { page, directory: None } => console::print(page.text()),
        What::Man { directory: Some(directory), .. } => write_pages(&directory),
    }
}

/// A path as other programs, in other directories, need it; or a complaint.
fn absolute(path: &Path) -> Option<PathBuf> {
    let absolute = std::path::absolute(path);
    absolute
        .inspect_err(|error| {
            console::complain(format_args!("{}: {}", path.display(), crate::os::words(error)))
        })
        .ok()
}

fn write_pages(directory: &Path) -> u8 {
    let fault = |path: &Path, error: &std::io::Error| {
        console::complain(format_args!("{}: {}", path.display(), crate::os::words(error)));
        exit::FAILED
    };
    let opened = match OpenDirectory::open(directory) {
        Ok(opened) => opened,
        Err(error) => return fault(directory, &error),
    };
    for page in Page::ALL {
        let name = page.file();
        let draft = files::Draft::write(&opened, name.as_ref(), &page.text());
        let draft = draft.map_err(|error| (directory.join(name), error));
        match draft.and_then(files::Draft::put_in_place) {
            Ok(path) => console::tell(path.display()),
            Err((path, error)) => return fault(&path, &error),
        }
    }
    exit::DONE
}
