//! The actions of the machine, one function each. What comes of them is put into the inbox.

use std::cell::RefCell;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream as Socket;
use std::path::Path;
use std::process::Stdio;
use std::rc::Rc;
use std::sync::Arc;

use tokio::net::UnixDatagram;
use tokio::net::unix::pipe;
use tokio::sync::oneshot;

use crate::config::model::{Signal, WorkerOutput};
use crate::control::What;
use crate::daemon::Daemon;
use crate::daemon::channel::{self, Channel, Link, Means, SharedLink};
use crate::daemon::core::projection::{self, who};
use crate::daemon::fds::quota::Allowance;
use crate::daemon::worker::address_hint::OwnAddresses;
use crate::daemon::worker::line_queue::Way;
use crate::daemon::worker::monitor::Attendant;
use crate::daemon::worker::output::{Pump, SharedTail};
use crate::daemon::worker::process::Process;
use crate::daemon::worker::readiness::{self, Readiness};
use crate::daemon::worker::start::{self, Plan};
use crate::daemon::worker::table::Entry;
use crate::id::WorkerId;
use crate::observe::{Form, Log, Origin, Stream};
use crate::os::foreign::Guarded;
use crate::os::socket::bind_notify_socket;
use crate::os::spawn::{Starting, Streams, spawn};
use crate::os::words;
use crate::supervisor::{Action, Event, ManagerState, Note, Place, Retirement, StartFailure};
use crate::time::Timeout;

/// Starts that one turn makes at most: each takes a fraction of a millisecond, and a thousand of them at
/// once would keep signals, clients and the service manager's watchdog waiting.
const STARTS_PER_TURN: usize = 4;

/// A start that the machine asked for and that is not made yet.
pub(in crate::daemon) struct Start {
    worker: WorkerId,
    at: Place,
    exact: bool,
}

/// The pipes between a worker and us, both ends.
struct Pipes {
    streams: Streams,
    /// What we read, for each captured stream.
    captured: Vec<(Stream, pipe::Receiver)>,
    /// The worker's end of its ready fd, its number there, and ours.
    ready: Option<(OwnedFd, i32, pipe::Receiver)>,
    /// The worker's end of its channel, and ours.
    channel: Option<(Socket, Socket)>,
}

/// What we have of a start that was made.
struct Made {
    starting: Starting,
    captured: Vec<(Stream, pipe::Receiver)>,
    ready: Option<pipe::Receiver>,
    channel: Option<Socket>,
}

impl Daemon {
    /// Carries out everything that the machine asks for now.
    pub(in crate::daemon) fn carry_out(&mut self) {
        while let Some(action) = self.machine.next_action() {
            let what = projection::of_action(&action, &self.table);
            self.execute(action);
            if let Some(what) = what {
                self.happened(what);
            }
        }
    }

    fn execute(&mut self, action: Action) {
        match action {
            Action::Spawn { worker, at, exact } => self.waiting_starts.push_back(Start { worker, at, exact }),
            Action::Signal { worker, signal } => self.signal(worker, signal),
            Action::Drain { worker, why, patience } => self.tell_to_drain(worker, why, patience),
            Action::Ping { worker } => self.ping(worker),
            Action::Kill { worker } => self.kill(worker),
            Action::EndGroup { worker, signal } => self.waiting_ends.push_back((worker, signal)),
            Action::Prepare { generation, scope } => self.prepare(generation, scope),
            Action::GiveUpPreparing => self.give_up_preparing(),
            Action::Commit { generation } => self.commit(generation),
            Action::Forget { generation } => self.forget(generation),
            Action::Answer { request, outcome } => self.answer(request, outcome),
            Action::Tell(state) => self.tell(state),
            Action::ExtendTimeout { by } => self.manager.extend_timeout(by, self.clock_now()),
            Action::Note(note) => self.take_note(&note),
            Action::Exit { failure } => self.ended = Some(failure),
        }
    }

    fn tell(&mut self, state: ManagerState) {
        if state == ManagerState::Ready {
            // Before it is said: who waits for that may look for the file at once.
            self.write_pid_file();
        }
        let status = self.machine.status();
        self.manager.tell(state, &status);
    }

    /// Are there starts that the next turn has to make?
    pub(in crate::daemon) fn has_waiting_starts(&self) -> bool {
        !self.waiting_starts.is_empty()
    }

    /// Makes a portion of the starts that wait.
    pub(in crate::daemon) fn make_starts(&mut self) {
        for _ in 0..STARTS_PER_TURN {
            let Some(Start { worker, at, exact }) = self.waiting_starts.pop_front() else { return };
            if let Err(failure) = self.try_spawn(worker, at, exact) {
                self.inbox.push_back(Event::SpawnFailed { worker, failure });
            }
        }
    }

    fn try_spawn(&mut self, worker: WorkerId, at: Place, exact: bool) -> Result<(), StartFailure> {
        let fault = |stage: &str, error: &io::Error| StartFailure {
            stage: stage.to_owned(),
            reason: words(error),
            program_changed: false,
        };
        let given = self.given_to(&at);
        let record = self.generations.get(&at.generation).ok_or_else(|| StartFailure {
            stage: "generation".to_owned(),
            reason: format!("generation {} is not recorded", at.generation),
            program_changed: false,
        })?;
        let pool = record.config.pools.get(&at.pool);
        let readiness = pool.map_or_else(Readiness::default, |pool| Readiness::of(record, pool));
        let ready_fd = pool.and_then(start::ready_fd);
        let addresses = pool.map(|pool| OwnAddresses::of(record, pool)).unwrap_or_default();
        let notify_path = self.runtime.notify_path().map_err(|error| fault("notify", &error))?;
        let mut plan = start::plan(worker, &at, exact, record, &self.surroundings, &notify_path, &given)?;
        self.program.add_to(&mut plan.spec, worker, &at)?;
        let notify = self.open_notify_socket(&notify_path).map_err(|error| fault("notify", &error))?;
        let has_channel = plan.channel.is_some();
        let pipes =
            Pipes::open(self.output, ready_fd, has_channel).map_err(|error| fault("pipes", &error))?;
        let uid = plan.uid;
        let changed = plan.program_changed;
        let hello = channel::hello(&self.surroundings.name, worker, &at);
        let link = pool.and_then(|pool| Link::new(&pool.channel.dialect, hello, &self.outgoing));
        let made = self.start(plan, pipes).map_err(|error| fault("fork", &error))?;
        let Made { starting, captured, ready, channel } = made;
        if changed && let Some(held_back) = self.limits.pass("program changed", self.now()) {
            tracing::warn!(pool = %at.pool, generation = at.generation.0, held_back, "program changed since this generation was made");
        }
        let process = Rc::new(Process::new(starting.pidfd));
        let pid = process.pid();
        let target = pool.and_then(|pool| readiness::target(pid, record, pool, &given));
        let tail: SharedTail = Rc::new(RefCell::default());
        let output = captured
            .into_iter()
            .map(|(stream, pipe)| Pump::start(pipe, self.way(tail.clone(), origin(&at, worker, pid, stream))))
            .collect();
        let channel = channel.zip(link.as_ref()).and_then(|(socket, link)| {
            let way = self.way(tail.clone(), origin(&at, worker, pid, Stream::Channel));
            self.open_channel(socket, link, way)
        });
        let (end_group, order) = oneshot::channel();
        let mut attendant = Attendant {
            worker,
            process: process.clone(),
            uid: uid.unwrap_or_else(|| nix::unistd::geteuid().as_raw()),
            handshake: Some(Box::new(starting.handshake)),
            notify: Guarded::new(notify),
            closer: self.closer.clone(),
            buffer: self.datagram_buffer.clone(),
            pace: Default::default(),
            ready,
            output,
            channel,
            allowance: Allowance::new(self.put_away.clone()),
            end_group: order,
            reports: self.reports.clone(),
        };
        tokio::task::spawn_local(async move { attendant.attend().await });
        let mut entry = Entry::new(at.clone(), process, end_group, tail, readiness, notify_path, link);
        entry.target = target;
        entry.addresses = addresses;
        self.table.insert(worker, entry);
        self.happened(What::WorkerStarted(who(worker, &at, &self.table)));
        Ok(())
    }

    fn open_notify_socket(&self, path: &Path) -> io::Result<UnixDatagram> {
        let draft = self.runtime.notify_path()?;
        let socket = bind_notify_socket(path, &draft).and_then(UnixDatagram::from_std);
        socket.map_err(|error| at_path(path, &error))
    }

    fn start(&self, plan: Plan<'_>, pipes: Pipes) -> io::Result<Made> {
        let mut fds = plan.fds;
        let (theirs, ours) = match pipes.ready {
            Some((theirs, number, ours)) => (Some((theirs, number)), Some(ours)),
            None => (None, None),
        };
        fds.extend(theirs.iter().map(|(fd, number)| (fd.as_fd(), *number)));
        let (their_channel, channel) = pipes.channel.unzip();
        fds.extend(their_channel.iter().zip(plan.channel).map(|(fd, number)| (fd.as_fd(), number)));
        let starting = spawn(&self.helper, &plan.spec, &fds, pipes.streams)?;
        Ok(Made { starting, captured: pipes.captured, ready: ours, channel })
    }

    /// Where the lines of a worker go.
    fn way(&self, tail: SharedTail, origin: Origin) -> Way {
        let log = self.log.clone();
        let form = Box::new(move || log.as_ref().map_or(Form::RECORDS, Log::form));
        let origin = Arc::new(origin);
        let (writer, unwritten) = (self.writer.clone(), self.unwritten.clone());
        Way { origin, tail, writer, unwritten, form }
    }

    fn open_channel(&self, socket: Socket, link: &SharedLink, way: Way) -> Option<Channel> {
        let means = Means {
            link: link.clone(),
            reports: self.reports.clone(),
            buffer: self.channel_buffer.clone(),
            all: self.in_hand.clone(),
            closer: self.closer.clone(),
            way,
        };
        Channel::start(socket, means)
            .inspect_err(|error| tracing::warn!(worker = link.worker.0, %error, "channel not watched"))
            .ok()
    }

    fn tell_to_drain(&self, worker: WorkerId, why: Retirement, patience: Timeout) {
        // One whose queue is gone gets its signal when its time is over.
        let Some(link) = self.table.get(worker).and_then(|entry| entry.link.as_ref()) else { return };
        link.drain(why, patience);
    }

    fn ping(&self, worker: WorkerId) {
        // One that cannot be asked does not answer either: the machine's deadline says so.
        let Some(link) = self.table.get(worker).and_then(|entry| entry.link.as_ref()) else { return };
        link.ping();
    }

    fn signal(&self, worker: WorkerId, signal: Signal) {
        if let Some(entry) = self.table.get(worker)
            && let Err(error) = entry.process.signal(signal.0)
        {
            tracing::warn!(worker = worker.0, signal = signal.0, %error, "worker not signalled");
        }
    }

    fn kill(&mut self, worker: WorkerId) {
        if let Some(position) = self.waiting_starts.iter().position(|start| start.worker == worker) {
            self.waiting_starts.remove(position);
            let failure = StartFailure {
                stage: "queue".to_owned(),
                reason: "not wanted any more".to_owned(),
                program_changed: false,
            };
            return self.inbox.push_back(Event::SpawnFailed { worker, failure });
        }
        let Some(entry) = self.table.get(worker) else { return };
        match entry.process.kill() {
            Ok(()) => {
                let who = who(worker, &entry.place, &self.table);
                self.happened(What::WorkerKilled(who));
            }
            Err(error) => {
                let reason = format!("process {}: {}", entry.process.pid(), words(&error));
                self.inbox.push_back(Event::KillFailed { worker, reason });
            }
        }
    }

    fn take_note(&mut self, note: &Note) {
        self.stop_watching(note);
        match note {
            Note::RollingBack { generation, reason } => self.remember_failure(*generation, reason),
            Note::RolloutDone { .. } => self.failed_rollout = None,
            _ => {}
        }
    }
}

impl Pipes {
    fn open(output: WorkerOutput, ready_fd: Option<i32>, has_channel: bool) -> io::Result<Self> {
        let mut captured = Vec::new();
        let mut capture = |stream| -> io::Result<Stdio> {
            let (theirs, ours) = open_pipe()?;
            captured.push((stream, ours));
            Ok(theirs.into())
        };
        let streams = match output {
            WorkerOutput::Capture => {
                Streams { stdout: capture(Stream::Stdout)?, stderr: capture(Stream::Stderr)? }
            }
            WorkerOutput::Inherit => Streams { stdout: Stdio::inherit(), stderr: Stdio::inherit() },
        };
        let ready = match ready_fd {
            Some(number) => {
                let (theirs, ours) = open_pipe()?;
                Some((theirs, number, ours))
            }
            None => None,
        };
        let channel = has_channel.then(Socket::pair).transpose()?;
        Ok(Self { streams, captured, ready, channel })
    }
}

/// A pipe: the worker's end, which blocks, and ours, which does not.
fn open_pipe() -> io::Result<(OwnedFd, pipe::Receiver)> {
    let (ours, theirs) = std::io::pipe()?;
    Ok((theirs.into(), pipe::Receiver::from_owned_fd(ours.into())?))
}

/// The same error, with the path that it is about.
fn at_path(path: &Path, error: &io::Error) -> io::Error {
    io::Error::other(format!("{}: {}", path.display(), words(error)))
}

fn origin(at: &Place, worker: WorkerId, pid: u32, stream: Stream) -> Origin {
    Origin { pool: at.pool.clone(), slot: at.slot, generation: at.generation, worker, pid, stream }
}
