//! `handover send`: a message to workers.

use std::io::{self, Read};

use clap::Args;

use super::args::Target;
use super::console;
use super::work::Work;
use crate::control::protocol::{self, DATA_MAX, Payload, Request};
use crate::exit;
use crate::id::{PoolName, SlotIndex, WorkerId};
use crate::os::words;

/// What stands for standard input.
const STDIN: &str = "-";

/// Send a message to workers
///
/// They get it on their channel, from "handover". Without --pool and --worker it is for all workers. It is sent when it waits in
/// the queue of one of them at least; what a worker does with it, it does not tell.
#[derive(Debug, Args)]
pub(super) struct Send {
    /// The message, a text; `-` takes it from standard input, without the newline at its end
    #[arg(value_name = "TEXT", required_unless_present = "data", conflicts_with = "data")]
    text: Option<String>,
    /// Send this JSON value instead of a text; `-` takes it from standard input
    #[arg(long, value_name = "JSON", allow_negative_numbers = true)]
    data: Option<String>,
    /// Only to the workers of this pool
    #[arg(long, value_name = "POOL")]
    pool: Option<String>,
    /// Of the pool only to the worker that serves in this slot
    #[arg(long, value_name = "N", requires = "pool")]
    slot: Option<u32>,
    /// Only to the worker of this number, as `status` shows it
    #[arg(long, value_name = "W", conflicts_with_all = ["pool", "slot"])]
    worker: Option<u64>,
    /// Print how it ended as a JSON line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

pub(super) fn run(args: Send) -> u8 {
    let data = match payload(args.text, args.data) {
        Ok(data) => data,
        Err(error) => {
            console::complain(error);
            return exit::USAGE;
        }
    };
    let request = Request::Send(protocol::Send {
        pool: args.pool.map(PoolName::new),
        slot: args.slot.map(SlotIndex),
        worker: args.worker.map(WorkerId),
        data,
    });
    Work { target: args.target, request, timeout: None, json: args.json }.carry_out()
}

/// What is to be sent; else what is wrong with it.
fn payload(text: Option<String>, data: Option<String>) -> Result<Payload, String> {
    let payload = match (text, data) {
        (_, Some(json)) => {
            let json = if json == STDIN { from_stdin()? } else { json };
            Payload::from_json(json).map_err(|error| format!("--data: {error}"))?
        }
        (text, None) => {
            let text = text.unwrap_or_default();
            let text = if text == STDIN { without_newline(from_stdin()?) } else { text };
            Payload::of(&text).map_err(|error| error.to_string())?
        }
    };
    match payload.size() {
        ..=DATA_MAX => Ok(payload),
        size => Err(format!("the message has {size} bytes as JSON, more than {DATA_MAX}")),
    }
}

fn from_stdin() -> Result<String, String> {
    let wrong = |error| format!("standard input: {error}");
    // White space around a value is none of it.
    let most = 2 * DATA_MAX as u64;
    let mut bytes = Vec::new();
    io::stdin().lock().take(most + 1).read_to_end(&mut bytes).map_err(|error| wrong(words(&error)))?;
    if bytes.len() as u64 > most {
        return Err(wrong(format!("a message has at most {DATA_MAX} bytes as JSON")));
    }
    String::from_utf8(bytes).map_err(|_| wrong("not UTF-8".to_owned()))
}

/// `echo` puts one there.
fn without_newline(mut text: String) -> String {
    if text.ends_with('\n') {
        text.truncate(text.len() - 1);
        text.truncate(text.strip_suffix('\r').unwrap_or(&text).len());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_sent_as_a_json_string_and_data_as_it_is() {
        let sent = |text: Option<&str>, data: Option<&str>| {
            payload(text.map(str::to_owned), data.map(str::to_owned)).map(|payload| payload.json().to_owned())
        };
        assert_eq!(sent(Some("a \"b\"\n"), None).unwrap(), r#""a \"b\"\n""#);
        assert_eq!(sent(None, Some("{\"a\": 1.50}")).unwrap(), "{\"a\": 1.50}");
        assert!(sent(None, Some("{a: 1}")).unwrap_err().starts_with("--data: "));
        assert!(sent(Some(&"x".repeat(DATA_MAX - 2)), None).is_ok());
        let error = sent(Some(&"x".repeat(DATA_MAX - 1)), None).unwrap_err();
        assert_eq!(error, "the message has 1000001 bytes as JSON, more than 1000000");
    }

    #[test]
    fn one_newline_at_the_end_is_no_part_of_a_text() {
        for (text, sent) in [("a\n", "a"), ("a\r\n", "a"), ("a\n\n", "a\n"), ("a", "a"), ("\n", ""), ("", "")]
        {
            assert_eq!(without_newline(text.to_owned()), sent);
        }
    }
}
