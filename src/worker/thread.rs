//! The thread that reads the channel, writes what the socket did not take at once, and watches signals and the watchdog's clock.
//!
//! It never runs code of the program. It exists where there is something to wait for: a channel, signals, or a watchdog.

use std::io::{self, PipeReader, Read};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use super::core::{Core, State};
use super::pulse;
use crate::os::clock;
use crate::os::passing;
use crate::os::poll::{Entry, poll};

/// How many bytes one read takes.
const READ_BYTES: usize = 65_536;
/// How long the kernel is left alone when it takes no fds.
const STALLED: Duration = Duration::from_millis(50);

/// Starts it, once.
pub(super) fn start(core: &Arc<Core>) -> io::Result<()> {
    start_by(core, |thread| std::thread::Builder::new().name("handover".to_owned()).spawn(thread).map(drop))
}

/// As [`start`], by `spawn`; where that fails it can be tried again.
pub(super) fn start_by(
    core: &Arc<Core>,
    spawn: impl FnOnce(Box<dyn FnOnce() + Send>) -> io::Result<()>,
) -> io::Result<()> {
    if std::mem::replace(&mut core.lock().has_thread, true) {
        core.wake();
        return Ok(());
    }
    let its = Arc::clone(core);
    let spawned = spawn(Box::new(move || run(&its)));
    core.lock().has_thread = spawned.is_ok();
    spawned
}

/// What one turn waits for.
struct Turn {
    channel: Option<Arc<UnixStream>>,
    reads: bool,
    writes: bool,
    signals: Option<Arc<PipeReader>>,
    timeout: Option<Duration>,
}

impl Turn {
    fn next(state: &mut State) -> Self {
        let stalled = std::mem::take(&mut state.is_stalled);
        let due = state.watchdog.map(|(_, due)| due.saturating_sub(clock::monotonic()));
        Self {
            channel: state.channel.clone(),
            reads: state.session.wants_read(),
            writes: state.session.pending() > 0 && !stalled,
            signals: state.signals.clone(),
            timeout: if stalled { Some(due.map_or(STALLED, |due| due.min(STALLED))) } else { due },
        }
    }
}

fn run(core: &Core) {
    let woken = &core.woken;
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let turn = Turn::next(&mut core.lock());
        let mut entries = vec![Entry::readable(woken.as_fd())];
        if let Some(channel) = &turn.channel {
            entries.push(Entry::either(channel.as_fd(), turn.reads, turn.writes));
        }
        if let Some(signals) = &turn.signals {
            entries.push(Entry::readable(signals.as_fd()));
        }
        // What cannot be polled is closed; the next turn has it no more.
        let _ = poll(&mut entries, turn.timeout);
        if entries[0].is_readable() {
            let _ = (&mut &*woken).read(&mut buffer);
        }
        let channel_found = turn.channel.is_some() && entries[1].is_readable();
        let signal_found = turn.signals.as_ref().filter(|_| entries.last().is_some_and(Entry::is_readable));
        if let Some(signals) = signal_found {
            take_signal(core, signals);
        }
        // Without POLLIN it is the end that was found.
        if channel_found {
            read(core, &mut buffer);
        }
        let state = core.lock();
        if state.session.pending() > 0 {
            core.publish(state);
        } else {
            drop(state);
        }
        feed(core);
    }
}

/// Reads once, and takes what came.
pub(super) fn read(core: &Core, buffer: &mut [u8]) {
    let mut state = core.lock();
    let Some(channel) = &state.channel else { return };
    match passing::receive_now(channel.as_fd(), buffer) {
        Ok(received) if received.length == 0 => state.session.end_of_file(),
        Ok(received) => state.session.push(&buffer[..received.length], received.fds, received.fds_lost),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
        Err(_) => state.session.end_of_file(),
    }
    core.publish(state);
}

fn take_signal(core: &Core, mut signals: &PipeReader) {
    let mut byte = [0];
    if signals.read(&mut byte).is_ok_and(|length| length == 1) {
        core.begin_drain(crate::os::interrupt::name(byte[0]), None);
    }
}

/// Begins the round after which a heartbeat goes out, when it is time.
fn feed(core: &Core) {
    let mut state = core.lock();
    let now = clock::monotonic();
    let Some((every, due)) = state.watchdog else { return };
    if now < due {
        return;
    }
    state.watchdog = Some((every, now + every));
    state.pulses.heartbeat = true;
    state.pulses.begin_round();
    // A waiting loop beats when it is woken; where there is no pulse, the round is over at once.
    pulse::settle(core, state);
    // Futures wait for the state itself.
    core.tell();
}
