//! How a program shows that it turns.
//!
//! A ping, or a heartbeat that is due, begins a round: every [`Pulse`] must beat once, and then the answer goes out. So it comes from
//! where the program works, and one loop that hangs is found out though the others turn. Without any pulse the answer goes out at once.

use std::collections::BTreeMap;
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use super::core::Core;
use super::waiting::Waiting;
use crate::os::poll::{Entry, poll};
use crate::wire::Id;

/// One place that must turn.
#[derive(Debug)]
struct Place {
    has_beaten: bool,
    is_resting: bool,
    /// To wake it. `None` where it waits for the state itself.
    alarm: Option<PipeWriter>,
    is_rung: bool,
}

/// All places that must turn, and what waits for them.
#[derive(Debug, Default)]
pub(super) struct Pulses {
    places: BTreeMap<u64, Place>,
    next: u64,
    /// Whether answers wait for the places.
    in_round: bool,
    /// To be answered when the round is over.
    pub(super) pings: Vec<Id>,
    /// Whether a heartbeat is to be sent when the round is over.
    pub(super) heartbeat: bool,
}

impl Pulses {
    /// Every place must beat once more. A round that has begun goes on.
    pub(super) fn begin_round(&mut self) {
        if !std::mem::replace(&mut self.in_round, true) {
            self.places.values_mut().for_each(|place| place.has_beaten = false);
        }
        self.ring();
    }

    /// Wakes all places, which then look around.
    pub(super) fn ring(&mut self) {
        for place in self.places.values_mut() {
            if let Some(alarm) = &mut place.alarm
                && !std::mem::replace(&mut place.is_rung, true)
            {
                let _ = alarm.write(&[0]);
            }
        }
    }

    /// Whether there was a round, and it is over with this call.
    pub(super) fn is_round_over(&mut self) -> bool {
        let is_over = self.in_round && self.places.values().all(|place| place.has_beaten || place.is_resting);
        if is_over {
            self.in_round = false;
        }
        is_over
    }

    /// Whether this place has not beaten in this round.
    fn is_due(&self, id: u64) -> bool {
        self.in_round && self.places.get(&id).is_some_and(|place| !place.has_beaten)
    }
}

/// Shows that one part of a program turns: from [`Worker::pulse`](super::Worker::pulse).
///
/// Pings of handover (`ping_timeout`) and [heartbeats](super::Worker::feed_watchdog) go out only when every pulse has
/// [beaten](Self::beat) since they were due. [`Listener::incoming`](super::Listener::incoming) and
/// [`Messages`](super::Messages) have one each while they are in use; a loop of your own can have one, too. Its fd is readable
/// when it should beat, or when draining has begun.
///
/// ```no_run
/// # use handover::worker::Worker;
/// # fn next_job() -> Option<u32> { None }
/// # fn main() -> Result<(), handover::worker::Error> {
/// let worker = Worker::connect()?;
/// let pulse = worker.pulse()?;
/// worker.ready();
/// while !worker.is_draining() {
///     pulse.beat();
///     let Some(job) = pulse.rest(next_job) else { break };
///     println!("{job}");
/// }
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Pulse {
    core: Arc<Core>,
    id: u64,
    alarm: Option<PipeReader>,
}

impl Pulse {
    /// With an fd to be woken by, if wished.
    pub(super) fn new(core: Arc<Core>, with_alarm: bool) -> io::Result<Self> {
        let (alarm, bell) =
            if with_alarm { io::pipe().map(|(r, w)| (Some(r), Some(w)))? } else { (None, None) };
        let id = {
            let mut state = core.lock();
            let id = state.pulses.next;
            state.pulses.next += 1;
            let mut place = Place { has_beaten: true, is_resting: false, alarm: bell, is_rung: false };
            if state.is_draining()
                && let Some(alarm) = &mut place.alarm
            {
                place.is_rung = alarm.write(&[0]).is_ok();
            }
            state.pulses.places.insert(id, place);
            id
        };
        Ok(Self { core, id, alarm })
    }

    /// This part of the program turns. Cheap.
    pub fn beat(&self) {
        let mut state = self.core.lock();
        let Some(place) = state.pulses.places.get_mut(&self.id) else { return };
        place.has_beaten = true;
        place.is_resting = false;
        if std::mem::replace(&mut place.is_rung, false)
            && let Some(alarm) = &self.alarm
        {
            // One byte is in it, written under the lock that is held, unless the program has read it.
            let is_there = poll(&mut [Entry::readable(alarm.as_fd())], Some(Duration::ZERO));
            if is_there.is_ok_and(|there| there) {
                let _ = (&mut &*alarm).read(&mut [0]);
            }
        }
        settle(&self.core, state);
    }

    /// Runs `wait`, in which this pulse need not beat: it waits for something that may take its time, such as a free place in a queue.
    pub fn rest<T>(&self, wait: impl FnOnce() -> T) -> T {
        let mut state = self.core.lock();
        if let Some(place) = state.pulses.places.get_mut(&self.id) {
            place.is_resting = true;
        }
        settle(&self.core, state);
        let _rest = Rest(self);
        wait()
    }

    /// Beats whenever that is due, for ever: to be spawned as a task of the runtime in which the program works, so that a runtime that
    /// hangs is found out.
    ///
    /// ```no_run
    /// # async fn f(worker: handover::worker::Worker) -> Result<(), handover::worker::Error> {
    /// let pulse = worker.pulse()?;
    /// // Spawn this future on your runtime.
    /// let beating = async move { pulse.turns().await };
    /// # let _ = beating; Ok(()) }
    /// ```
    pub async fn turns(&self) {
        let mut waiting = Waiting::new(Arc::clone(&self.core));
        loop {
            std::future::poll_fn(|context| {
                waiting.poll(context, |state| state.pulses.is_due(self.id).then_some(()))
            })
            .await;
            self.beat();
        }
    }

    /// Whether somebody waits for it to beat.
    pub(super) fn is_due(state: &super::core::State, id: u64) -> bool {
        state.pulses.is_due(id)
    }

    pub(super) const fn id(&self) -> u64 {
        self.id
    }
}

/// Its end is a beat; a panic is an end, too.
struct Rest<'pulse>(&'pulse Pulse);

impl Drop for Rest<'_> {
    fn drop(&mut self) {
        self.0.beat();
    }
}

impl AsFd for Pulse {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.alarm.as_ref().map_or_else(|| self.core.bell.as_fd(), AsFd::as_fd)
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        let mut state = self.core.lock();
        state.pulses.places.remove(&self.id);
        settle(&self.core, state);
    }
}

/// Sends what waits for the pulses, if they have all beaten.
pub(super) fn settle(core: &Core, mut state: std::sync::MutexGuard<'_, super::core::State>) {
    if state.settle_pulses() {
        core.publish(state);
    }
}
