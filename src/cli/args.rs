//! What can be typed: the only declaration of commands and flags.
//!
//! The texts here are the help; each command's own file holds its arguments.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueHint};

use super::{
    cancel, check, complete, demo, events, generate, reload, restart, run, scale, send, status, stop,
    systemd_generator, timeout,
};

/// Holds a service's listening sockets, and replaces workers, program and configuration without losing a connection
#[derive(Debug, Parser)]
#[command(name = "handover", version, max_term_width = 100, disable_help_subcommand = true)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    Run(run::Run),
    Demo(demo::Demo),
    Check(check::Check),
    Status(status::Status),
    Events(events::Events),
    Reload(reload::Reload),
    Restart(restart::Restart),
    Cancel(cancel::Cancel),
    Scale(scale::Scale),
    Stop(stop::Stop),
    Send(send::Send),
    Generate(generate::Generate),
    /// The worker that `demo` runs
    #[command(name = "__demo-worker", hide = true)]
    DemoWorker,
    /// What the completions of shells ask
    #[command(name = "__complete", hide = true)]
    Complete(complete::Complete),
    /// The units of all files in /etc/handover; systemd runs it
    #[command(name = "__systemd-generator", hide = true)]
    SystemdGenerator(systemd_generator::SystemdGenerator),
}

/// Which daemon; without any of these, the only one that runs
#[derive(Clone, Debug, Default, Args)]
#[group(multiple = false)]
pub(super) struct Target {
    /// The daemon of this name
    #[arg(long, value_name = "NAME", value_parser = super::target::daemon_name, help_heading = "Which daemon")]
    pub(super) name: Option<String>,
    /// The daemon of this configuration file
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = "Which daemon")]
    pub(super) config: Option<PathBuf>,
    /// The daemon at this control socket
    #[arg(long, value_name = "PATH", value_hint = ValueHint::FilePath, help_heading = "Which daemon")]
    pub(super) socket: Option<PathBuf>,
}

/// How to wait for the end
#[derive(Clone, Debug, Default, Args)]
#[allow(rustdoc::broken_intra_doc_links, reason = "the text of --help has brackets")]
pub(super) struct Waiting {
    /// Wait until it is done, and tell by the exit code how it ended [default]
    #[arg(long, conflicts_with = "no_wait")]
    pub(super) wait: bool,
    /// Return as soon as the daemon has accepted it
    #[arg(long)]
    pub(super) no_wait: bool,
    /// Wait no longer than this, as in "90s" or "5min"; the work goes on
    #[arg(long, value_name = "TIME", value_parser = timeout::parse, conflicts_with = "no_wait")]
    pub(super) timeout: Option<Duration>,
}
