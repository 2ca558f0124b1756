//! What this worker says and hears on its channel, line by line, as docs/protocol.md has it. It takes no fds: a plain
//! read closes those that come.

use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::FromRawFd;
use std::os::unix::net::UnixStream;
use std::sync::OnceLock;

static CHANNEL: OnceLock<UnixStream> = OnceLock::new();

/// The socket of `$HANDOVER_CHANNEL`.
fn channel() -> io::Result<&'static UnixStream> {
    if let Some(channel) = CHANNEL.get() {
        return Ok(channel);
    }
    let number = std::env::var("HANDOVER_CHANNEL").ok().and_then(|number| number.parse().ok());
    let number = number.ok_or_else(|| io::Error::other("HANDOVER_CHANNEL is not set"))?;
    // SAFETY: handover gave the number to this process, and nobody else here takes it.
    Ok(CHANNEL.get_or_init(|| unsafe { UnixStream::from_raw_fd(number) }))
}

/// Says hello with these capabilities, as in `messages,log`.
pub(crate) fn hello(capabilities: &str) -> io::Result<()> {
    let names: Vec<String> = capabilities.split(',').map(|name| format!("{name:?}")).collect();
    let names = names.join(",");
    say(&format!(r#"{{"type":"hello","version":1,"capabilities":[{names}],"client":"scripted 1"}}"#))
}

/// Writes a line.
pub(crate) fn say(line: &str) -> io::Result<()> {
    channel()?.write_all(format!("{line}\n").as_bytes())
}

/// Prints each line that comes from now on, as `heard LINE`.
pub(crate) fn hear() -> io::Result<()> {
    let lines = BufReader::new(channel()?).lines();
    std::thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            let _ = writeln!(io::stdout(), "heard {line}");
        }
    });
    Ok(())
}
