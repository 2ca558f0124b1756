//! A worker that does what a test tells it to.
//!
//! It knows nothing of handover (but for the steps of `channel`): it takes its sockets as `sd_listen_fds(3)` gives them and speaks as
//! `sd_notify(3)` asks, so what holds for it holds for any program. It serves HTTP/1.1, and it ends as a
//! good server does: it stops accepting, answers all that it accepted, and leaves.
//!
//! What it does is a list of [`script`] steps: its arguments, then the lines of the file `$WORKER_SCRIPT`,
//! read when it starts (so that a test can "deploy" another program by writing that file). Without steps it
//! does `serve` and `ready`. After the last step it waits to be asked to end.
//!
//! `scripted_worker activate COMMAND…` is no worker but a stand-in for the service manager's last step: it takes fds
//! from the socket that is its standard input, places them from 3 on, sets `LISTEN_*` and executes COMMAND.

#![allow(clippy::disallowed_methods, reason = "a program of its own: it has a clock, and ends itself")]
#![allow(unsafe_code, reason = "no safe way to take an fd by number or to signal a thread")]

mod activate;
mod channel;
mod harm;
mod http;
mod identity;
mod listen;
mod notify;
mod script;
mod signals;
mod steps;

use std::process::ExitCode;

fn main() -> ExitCode {
    identity::remember_fds();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == "activate") {
        return activate::run(&arguments[1..]);
    }
    signals::catch_term();
    let script = match script::read(arguments) {
        Ok(script) => script,
        Err(error) => {
            eprintln!("scripted_worker: {error}");
            return ExitCode::from(64);
        }
    };
    steps::Worker::new().run(&script)
}
