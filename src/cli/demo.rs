//! `handover demo`: a daemon with a small built-in HTTP worker, and what to try next.

use clap::Args;

use super::{console, entry};
use crate::daemon::{Options, Source};
use crate::exit;

/// Run a daemon with a small built-in web server, and say what to try next
#[derive(Debug, Args)]
pub(super) struct Demo {
    /// Listen here
    #[arg(short, long, value_name = "HOST:PORT", default_value = "127.0.0.1:8080")]
    listen: std::net::SocketAddr,
    /// The number of workers
    #[arg(short = 'n', long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    workers: u32,
}

pub(super) fn run(args: &Demo) -> u8 {
    let program = match std::env::current_exe() {
        Ok(program) => program,
        Err(error) => {
            console::complain(format_args!("this program's own path: {error}"));
            return exit::FAILED;
        }
    };
    let Some(program) = program.to_str() else {
        console::complain(format_args!("{}: not UTF-8", program.display()));
        return exit::FAILED;
    };
    let text = config(args, program);
    console::tell(introduction(args, &text));
    entry::run(Options { source: Source::Text { name: "demo".to_owned(), text }, socket: None })
}

/// The configuration: also a first example of one.
fn config(args: &Demo, program: &str) -> String {
    let Demo { listen, workers } = args;
    // A text in JSON is one in TOML as well.
    let program = serde_json::Value::from(program);
    format!(
        r#"name = "demo"

[listener.http]
address = "tcp://{listen}"
nonblocking = true

[pool.web]
command = [{program}, "__demo-worker"]
workers = {workers}
listeners = ["http"]
ready = "notify"
stop_timeout = "10s"
"#
    )
}

fn introduction(args: &Demo, text: &str) -> String {
    let listen = args.listen;
    format!(
        "\
This is handover with {workers} workers of a small web server, as if started with this file:

{text}
Try, in another terminal:

  curl http://{listen}/                 who answers? (again: another worker may)
  handover status --name demo           pools, workers, listeners
  handover reload --name demo           new workers take over; no request fails:
  while curl -sS http://{listen}/; do :; done
  kill -9 PID                           of a worker: it is replaced, the others serve on
  handover scale web 4 --name demo      more workers
  handover stop --name demo             (or Ctrl-C here)
",
        workers = args.workers,
        text = text.lines().map(|line| format!("  {line}\n")).collect::<String>(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_demos_configuration_is_toml_whatever_the_program_is_called() {
        let args = Demo { listen: "[::1]:80".parse().unwrap(), workers: 3 };
        let table: toml::Table = config(&args, "/opt/my \"app\"\\x").parse().unwrap();
        assert_eq!(table["pool"]["web"]["command"][0].as_str(), Some("/opt/my \"app\"\\x"));
        assert_eq!(table["listener"]["http"]["address"].as_str(), Some("tcp://[::1]:80"));
    }
}
