//! The loop: wait, turn what happened into events, give them to the machine, carry the actions out, turn
//! their results into events. It waits in one place only, and decides nothing.

use std::rc::Rc;

use tokio::sync::{mpsc, oneshot};

use crate::control::What;
use crate::daemon::Daemon;
use crate::daemon::clients::command::Wish;
use crate::daemon::core::projection::{self, who};
use crate::daemon::reload::blocking_jobs::Finished;
use crate::daemon::reload::inputs::Found;
use crate::daemon::worker::monitor::{Brought, Report};
use crate::daemon::worker::readiness::Sighted;
use crate::id::WorkerId;
use crate::notify::Message;
use crate::os::clock;
use crate::os::hangup::Hangups;
use crate::os::signal::{Arrived, Signals};
use crate::supervisor::{Event, ExitStatus, ReadyBy, Request, Scope, StartFailure};

/// Reports that one turn takes at most, so that commands and signals get their turn, too.
const REPORTS_PER_TURN: usize = 256;

/// How often the tasks that read what workers say get a turn before a deadline counts as passed: the runtime
/// looks at its sockets, an attendant reads, its report arrives.
const CATCH_UP_ROUNDS: usize = 4;

/// What the loop waits for.
pub(in crate::daemon) struct Inputs {
    /// Those that are orders to us, if any are.
    pub(in crate::daemon) signals: Option<Signals>,
    /// Ends when the program that we are a part of does not want us any more.
    pub(in crate::daemon) released: Option<oneshot::Receiver<()>>,
    pub(in crate::daemon) wishes: mpsc::Receiver<Wish>,
    pub(in crate::daemon) reports: mpsc::Receiver<(WorkerId, Report)>,
    pub(in crate::daemon) readings: mpsc::UnboundedReceiver<Finished<Found>>,
    pub(in crate::daemon) sights: mpsc::UnboundedReceiver<Sighted>,
    pub(in crate::daemon) hangups: Rc<Hangups>,
}

impl Daemon {
    /// Runs until the machine says that it is over. Gives the failure that ended it, if one did.
    pub(in crate::daemon) async fn run(&mut self, mut inputs: Inputs) -> Option<String> {
        self.tell_of_new_listeners();
        self.carry_out();
        self.turn();
        while self.ended.is_none() {
            self.wait(&mut inputs).await;
            self.turn();
        }
        self.ended.take().flatten()
    }

    /// Waits until something happens, and puts it into the inbox.
    async fn wait(&mut self, inputs: &mut Inputs) {
        let wake_at = self.next_wake();
        let deadline = wake_at.map(|at| clock::instant(at.since_origin()).into());
        tokio::select! {
            biased;
            signal = next_signal(inputs.signals.as_mut()) => self.take_signal(signal),
            Some(wish) = inputs.wishes.recv() => self.take_wish(wish),
            () = released(inputs.released.as_mut()) => {
                inputs.released = None;
                self.take_request(Request::Stop { now: false });
            }
            Some((worker, report)) = inputs.reports.recv() => {
                self.take_report(worker, report);
                self.take_reports(inputs);
            }
            Some(sighted) = inputs.sights.recv() => self.take_sight(sighted),
            Some((number, found)) = inputs.readings.recv() => self.take_reading(number, found),
            hung_up = inputs.hangups.next() => self.drop_hung_up(&hung_up),
            // Some starts are still to be made; meanwhile everybody else gets a turn.
            () = tokio::task::yield_now(), if self.has_waiting_starts() => {}
            () = sleep_until(deadline) => {}
        }
        if wake_at.is_some_and(|at| at <= self.clock_now()) {
            self.catch_up(inputs).await;
        }
        self.look();
        if self.has_reached_a_deadline() {
            self.inbox.push_back(Event::DeadlinePassed);
        }
    }

    /// Before a deadline counts as passed, what lies in pipes and sockets is looked at: if this loop was held
    /// up (stopped, swapped out, busy), it was there in time.
    async fn catch_up(&mut self, inputs: &mut Inputs) {
        for _ in 0..CATCH_UP_ROUNDS {
            tokio::task::yield_now().await;
            self.take_reports(inputs);
        }
    }

    fn take_reports(&mut self, inputs: &mut Inputs) {
        for _ in 0..REPORTS_PER_TURN {
            let Ok((worker, report)) = inputs.reports.try_recv() else { break };
            self.take_report(worker, report);
        }
    }

    /// Gives everything in the inbox to the machine, and carries out what it says.
    fn turn(&mut self) {
        loop {
            while !self.inbox.is_empty() {
                self.hand_in();
            }
            self.hear_the_rest();
            // Clients wait for the starts; everything else has time.
            self.make_starts();
            self.end_groups();
            self.look_for_drift();
            self.look_after_readings();
            self.watcher.look_after(self.now());
            self.look_after_questions();
            if self.inbox.is_empty() {
                break;
            }
        }
        self.barriers.clear();
        self.strangers = None;
        let healthy = self.machine.is_healthy(self.time.now());
        self.manager.feed(self.clock_now(), healthy);
        if self.manager.listens() {
            self.manager.show(&self.machine.status());
        }
    }

    /// Gives what has been found to the machine at once, and carries out what it says.
    fn hand_in(&mut self) {
        self.look();
        let events = std::mem::take(&mut self.inbox);
        for event in &events {
            self.before(event);
            if let Some(what) = projection::of_event(event, &self.table) {
                self.happened(what);
            }
        }
        let gone: Vec<WorkerId> = events.iter().filter_map(whose_end).collect();
        self.machine.handle_together(self.time.now(), events);
        self.carry_out();
        if !gone.is_empty() {
            for worker in gone {
                self.watcher.forget(worker);
                self.table.remove(worker);
                self.grants.forget(worker);
            }
            self.slots_may_be_gone = true;
            self.look_behind_the_reaped();
        }
        if std::mem::take(&mut self.slots_may_be_gone) {
            self.retain_stored();
        }
    }

    /// What the shell itself keeps of an event.
    fn before(&mut self, event: &Event) {
        match event {
            // With `ready = "exec"` a worker calls listen only after all that: time that passes is a reason, too.
            // A request, a reload among them, is the way to have what was lost made anew.
            Event::Spawned { .. } | Event::Ready { .. } | Event::DeadlinePassed => {
                self.drift_is_possible = true
            }
            Event::Requested { .. } => (self.drift_is_possible, self.slots_may_be_gone) = (true, true),
            Event::Exited { worker, .. } => {
                self.watcher.forget(*worker);
                self.table.keep_last_words(*worker);
                self.drift_is_possible = true;
            }
            Event::Prepared { .. } => {
                self.slots_may_be_gone = true;
                self.tell_of_new_listeners();
            }
            Event::PrepareRefused { .. } => self.slots_may_be_gone = true,
            _ => {}
        }
    }

    fn take_signal(&mut self, signal: Arrived) {
        let roll = |reread| Request::Roll(Scope { reread, pools: None, changed_only: false });
        let what = match signal {
            Arrived::Hup => roll(true),
            // However often: nobody asked for haste. Nobody sees us any more, so nobody would end us.
            Arrived::TerminalClosed => {
                tracing::info!("terminal closed");
                Request::Stop { now: false }
            }
            Arrived::Usr1 => roll(false),
            Arrived::Term | Arrived::Int => {
                let request = self.next_request();
                return self.inbox.push_back(Event::StopSignal { request });
            }
            Arrived::Quit => Request::Stop { now: true },
            Arrived::Usr2 => return tracing::warn!("upgrade in place is not supported yet"),
            Arrived::Child => return self.reap_orphans(),
        };
        self.take_request(what);
    }

    /// Takes a request for which nobody waits.
    fn take_request(&mut self, what: Request) {
        let request = self.next_request();
        self.inbox.push_back(Event::Requested { request, what });
    }

    fn take_report(&mut self, worker: WorkerId, report: Report) {
        let event = match report {
            Report::Executed => {
                self.inbox.push_back(Event::Spawned { worker });
                if self.table.get(worker).is_some_and(|entry| !entry.readiness.by_notify()) {
                    self.imply_hello(worker);
                }
                self.watch_readiness(worker);
                return;
            }
            Report::StartFailed(fault) => {
                self.table.keep_last_words(worker);
                let failure =
                    StartFailure { stage: fault.stage, reason: fault.reason, program_changed: false };
                Event::SpawnFailed { worker, failure }
            }
            Report::ReadyByFd => Event::Ready { worker, by: ReadyBy::Fd },
            Report::ReadyFdClosed => return self.note_ready_fd_closed(worker),
            Report::Said(message, brought) => match self.take_message(worker, message, brought) {
                Some(event) => event,
                None => return,
            },
            Report::Dropped { why, sender, stranger } => {
                self.take_dropped(worker, &why, sender);
                return self.note_stranger(worker, stranger, why);
            }
            Report::NotHeard(by) => Event::NotHeard { worker, by },
            Report::Channel(told) => return self.take_told(worker, *told),
            Report::Exited(status) => {
                self.close_channel(worker);
                if status == ExitStatus::Unknown {
                    self.say_status_lost(worker);
                }
                Event::Exited { worker, status }
            }
            Report::GroupEnded => Event::GroupEnded { worker },
        };
        self.inbox.push_back(event);
    }

    /// What a worker said, as an event where it is one.
    fn take_message(&mut self, worker: WorkerId, message: Message, brought: Brought) -> Option<Event> {
        let entry = self.table.get_mut(worker)?;
        entry.readiness.has_notified = true;
        match message {
            Message::Ready => Some(Event::Ready { worker, by: ReadyBy::Notify }),
            Message::Stopping => Some(Event::Stopping { worker }),
            Message::Watchdog => Some(Event::Heartbeat { worker }),
            Message::WatchdogTrigger => Some(Event::WatchdogTriggered { worker }),
            Message::ExtendTimeout(by) => Some(Event::MoreTime { worker, by }),
            Message::Status(text) => {
                self.take_status(worker, text);
                None
            }
            Message::MainPid(_) => {
                self.warn_once(worker, "MAINPID is ignored: a worker is the process that was started", None);
                None
            }
            Message::FdStore { name, poll } => {
                self.store_fds(worker, name, poll, brought);
                None
            }
            Message::FdStoreRemove { name } => {
                self.remove_fds(worker, &name);
                None
            }
            Message::Barrier => {
                self.hold_barrier(worker, brought);
                None
            }
            Message::Reloading => None,
        }
    }

    /// A worker says what it does: one printable line.
    pub(in crate::daemon) fn take_status(&mut self, worker: WorkerId, text: String) {
        let Some(entry) = self.table.get_mut(worker) else { return };
        if entry.status_text != text {
            entry.status_text.clone_from(&text);
            let place = entry.place.clone();
            let who = who(worker, &place, &self.table);
            self.happened(What::WorkerStatus { who, status: text });
        }
    }

    fn take_dropped(&mut self, worker: WorkerId, why: &str, sender: Option<u32>) {
        if let Some(entry) = self.table.get_mut(worker) {
            entry.dropped += 1;
            self.notifications_dropped += 1;
            self.warn_once(worker, why, sender);
        }
    }

    /// Logs something about a worker that it could repeat for ever. `what` is one of a few texts.
    pub(in crate::daemon) fn warn_once(&mut self, worker: WorkerId, what: &str, sender: Option<u32>) {
        let now = self.now();
        let Some(entry) = self.table.get_mut(worker) else { return };
        if entry.warned.insert(what.to_owned())
            && let Some(held_back) = self.limits.pass("worker notification", now)
        {
            let place = &entry.place;
            tracing::warn!(
                pool = %place.pool, slot = place.slot.0, worker = worker.0, pid = entry.process.pid(), what, sender, held_back,
                "worker notification"
            );
        }
    }
}

/// The worker of which nothing is left, where an event says that.
fn whose_end(event: &Event) -> Option<WorkerId> {
    match event {
        Event::GroupEnded { worker } | Event::SpawnFailed { worker, .. } => Some(*worker),
        _ => None,
    }
}

/// Returns when the program that we are a part of has let go of us.
async fn released(released: Option<&mut oneshot::Receiver<()>>) {
    match released {
        // Nothing is ever sent: the sender is dropped.
        Some(released) => drop(released.await),
        None => std::future::pending().await,
    }
}

async fn next_signal(signals: Option<&mut Signals>) -> Arrived {
    match signals {
        Some(signals) => signals.next().await,
        None => std::future::pending().await,
    }
}

async fn sleep_until(deadline: Option<tokio::time::Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
