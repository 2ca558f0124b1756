//! The thread that looks whether workers wait on their listeners (`ready = "accept"`), every 50 ms while one starts and
//! has not been seen to. Nothing starts: no thread.
//!
//! A look may hang for as long as a worker's user wants it to (`os::waiting`), so the loop only counts the looks. Where they do
//! not go on, the workers that were to be looked at are told of as such that cannot be seen, and the thread is left
//! to its fate. Few of them may be left so.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::sync::mpsc;

use crate::id::WorkerId;
use crate::os::waiting::{Looker, Sight, Target};
use crate::time::Monotonic;

/// The interval at which the loop checks that the thread still makes looks. A look takes a fraction of a millisecond.
const ASK_EVERY: Duration = Duration::from_secs(2);
/// A thread hangs where they did not when it was asked so often: once may mean that we were stopped ourselves.
const MISSES: u32 = 2;
/// Threads that hang, at most.
const HANGING_MAX: usize = 2;
/// A process that is just changing (an `execve`, a change of its user) may not be looked at for a moment.
const OBSTACLES: u32 = 2;

/// What was seen of a worker.
pub(in crate::daemon) type Sighted = (WorkerId, Sight);

/// How one target is looked at; another way in tests.
type Look = Arc<dyn Fn(&mut Looker, &Target) -> Sight + Send + Sync>;

/// See the module.
pub(in crate::daemon) struct Watcher {
    look: Look,
    sights: mpsc::UnboundedSender<Sighted>,
    running: Option<Running>,
    hanging: Vec<JoinHandle<()>>,
}

struct Running {
    thread: JoinHandle<()>,
    shared: Arc<Mutex<Shared>>,
    /// Looks that had been made when it was last asked, how often it had not got on, and when that is asked again.
    looks: u64,
    misses: u32,
    ask_at: Monotonic,
}

#[derive(Default)]
struct Shared {
    targets: BTreeMap<WorkerId, Arc<Target>>,
    looks: u64,
    ended: bool,
}

impl Watcher {
    /// Nobody is watched; and where what is seen is reported.
    pub(in crate::daemon) fn new() -> (Self, mpsc::UnboundedReceiver<Sighted>) {
        Self::that_looks(Arc::new(|looker, target| looker.look(target)))
    }

    fn that_looks(look: Look) -> (Self, mpsc::UnboundedReceiver<Sighted>) {
        let (sights, receiver) = mpsc::unbounded_channel();
        (Self { look, sights, running: None, hanging: Vec::new() }, receiver)
    }

    /// Watches a worker until all its sockets are waited on.
    pub(in crate::daemon) fn watch(&mut self, now: Monotonic, worker: WorkerId, target: Target) {
        let target = Arc::new(target);
        if let Some(running) = &self.running {
            let mut shared = lock(&running.shared);
            if !shared.ended {
                shared.targets.insert(worker, target);
                return;
            }
        }
        let unseen = |why: String| blind(&target, why);
        self.hanging.retain(|thread| !thread.is_finished());
        if self.hanging.len() >= HANGING_MAX {
            let _ = self.sights.send((worker, unseen("/proc does not answer".to_owned())));
            return;
        }
        match self.begin(now, worker, target.clone()) {
            Ok(running) => self.running = Some(running),
            Err(error) => {
                let why = format!("no thread to look on: {}", crate::os::words(&error));
                let _ = self.sights.send((worker, unseen(why)));
            }
        }
    }

    fn begin(&self, now: Monotonic, worker: WorkerId, target: Arc<Target>) -> std::io::Result<Running> {
        let targets = BTreeMap::from([(worker, target)]);
        let shared = Arc::new(Mutex::new(Shared { targets, ..Shared::default() }));
        let (of_thread, sights, look) = (shared.clone(), self.sights.clone(), self.look.clone());
        let thread = thread::Builder::new().name("readiness".to_owned());
        let thread = thread.spawn(move || look_until_all_are_seen(&of_thread, &look, &sights))?;
        Ok(Running { thread, shared, looks: 0, misses: 0, ask_at: now + ASK_EVERY })
    }

    /// It is ready, or asked to end, or gone.
    pub(in crate::daemon) fn forget(&mut self, worker: WorkerId) {
        if let Some(running) = &self.running {
            lock(&running.shared).targets.remove(&worker);
        }
    }

    /// When it is to be looked whether the looks go on; `None`: nobody is watched.
    pub(in crate::daemon) fn next_deadline(&self) -> Option<Monotonic> {
        let running = self.running.as_ref()?;
        (!lock(&running.shared).targets.is_empty()).then_some(running.ask_at)
    }

    /// Gives up a thread whose looks do not go on: those that it was to look at cannot be seen.
    pub(in crate::daemon) fn look_after(&mut self, now: Monotonic) {
        let Some(running) = self.running.as_mut().filter(|running| running.ask_at <= now) else { return };
        let mut shared = lock(&running.shared);
        let gets_on = shared.looks != running.looks || shared.targets.is_empty();
        running.misses = if gets_on { 0 } else { running.misses + 1 };
        (running.looks, running.ask_at) = (shared.looks, now + ASK_EVERY);
        if running.misses < MISSES {
            return;
        }
        for (worker, target) in std::mem::take(&mut shared.targets) {
            let _ = self.sights.send((worker, blind(&target, "/proc does not answer".to_owned())));
        }
        drop(shared);
        self.hanging.extend(self.running.take().map(|running| running.thread));
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

fn blind(target: &Target, why: String) -> Sight {
    Sight { waited_on: vec![false; target.sockets.len()], obstacle: Some(why) }
}

fn look_until_all_are_seen(shared: &Mutex<Shared>, look: &Look, sights: &mpsc::UnboundedSender<Sighted>) {
    let mut looker = Looker::default();
    let mut told: BTreeMap<WorkerId, (Sight, u32)> = BTreeMap::new();
    loop {
        let targets: Vec<(WorkerId, Arc<Target>)> = {
            let mut shared = lock(shared);
            // Who comes later begins another thread.
            shared.ended = shared.targets.is_empty();
            if shared.ended {
                return;
            }
            shared.targets.iter().map(|(worker, target)| (*worker, target.clone())).collect()
        };
        told.retain(|worker, _| targets.iter().any(|(other, _)| other == worker));
        looker.begin_round();
        for (worker, target) in targets {
            let mut sight = look(&mut looker, &target);
            lock(shared).looks += 1;
            let (last, obstacles) = told.entry(worker).or_default();
            *obstacles = if sight.obstacle.is_some() { *obstacles + 1 } else { 0 };
            sight.obstacle = sight.obstacle.filter(|_| *obstacles >= OBSTACLES);
            if *last != sight {
                if sight.is_complete() {
                    lock(shared).targets.remove(&worker);
                }
                last.clone_from(&sight);
                // The daemon ends, and nobody listens any more.
                if sights.send((worker, sight)).is_err() {
                    return;
                }
            }
        }
        thread::park_timeout(looker.pause());
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::mpsc as blocking;

    use super::*;

    fn target() -> Target {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let sockets = vec![crate::os::waiting::Awaited::of(&socket).unwrap()];
        Target { leader: std::process::id(), sockets, inherited: BTreeSet::new() }
    }

    fn sight(waited_on: bool, obstacle: Option<&str>) -> Sight {
        Sight { waited_on: vec![waited_on], obstacle: obstacle.map(str::to_owned) }
    }

    /// Sights that come one after the other, each when it is sent; as long as none is, the look hangs.
    fn scripted() -> (Watcher, mpsc::UnboundedReceiver<Sighted>, blocking::Sender<Sight>) {
        let (send, sights) = blocking::channel();
        let sights = Mutex::new(sights);
        let look = move |_: &mut Looker, _: &Target| sights.lock().unwrap().recv().unwrap_or_default();
        let (watcher, told) = Watcher::that_looks(Arc::new(look));
        (watcher, told, send)
    }

    #[test]
    fn what_changes_is_told_and_who_is_seen_is_not_looked_at_any_more() {
        let (mut watcher, mut told, look) = scripted();
        watcher.watch(Monotonic::ZERO, WorkerId(1), target());
        for seen in [sight(false, None), sight(false, None), sight(true, None)] {
            look.send(seen).unwrap();
        }
        assert_eq!(told.blocking_recv(), Some((WorkerId(1), sight(false, None))));
        assert_eq!(told.blocking_recv(), Some((WorkerId(1), sight(true, None))));
        assert_eq!(watcher.next_deadline(), None);
    }

    #[test]
    fn an_obstacle_counts_when_it_is_met_again() {
        let (mut watcher, mut told, look) = scripted();
        watcher.watch(Monotonic::ZERO, WorkerId(1), target());
        for obstacle in [Some("a"), None, Some("b"), Some("c")] {
            look.send(sight(false, obstacle)).unwrap();
        }
        assert_eq!(told.blocking_recv(), Some((WorkerId(1), sight(false, None))));
        assert_eq!(told.blocking_recv(), Some((WorkerId(1), sight(false, Some("c")))));
    }

    #[test]
    fn a_look_that_hangs_holds_nobody_up_and_few_threads_are_left_behind() {
        let (begun, looks) = blocking::channel();
        let (_never, hangs) = blocking::channel::<Sight>();
        let hangs = Mutex::new(hangs);
        let look = move |_: &mut Looker, _: &Target| {
            begun.send(()).unwrap();
            hangs.lock().unwrap().recv().unwrap_or_default()
        };
        let (mut watcher, mut told) = Watcher::that_looks(Arc::new(look));
        let unseen = |worker| Some((WorkerId(worker), sight(false, Some("/proc does not answer"))));
        let mut now = Monotonic::ZERO;
        for number in 0..u64::try_from(HANGING_MAX).unwrap() {
            watcher.watch(now, WorkerId(2 * number), target());
            watcher.watch(now, WorkerId(2 * number + 1), target());
            // A thread that has not begun when its targets go ends by itself.
            looks.recv().unwrap();
            for _ in 0..MISSES {
                assert!(told.try_recv().is_err(), "once may mean that we were stopped ourselves");
                now = watcher.next_deadline().unwrap();
                watcher.look_after(now);
            }
            assert_eq!(told.blocking_recv(), unseen(2 * number));
            assert_eq!(told.blocking_recv(), unseen(2 * number + 1));
            assert_eq!(watcher.next_deadline(), None);
        }
        watcher.watch(now, WorkerId(9), target());
        assert_eq!(told.blocking_recv(), unseen(9), "at once");
    }

    #[test]
    fn a_thread_that_gets_on_is_left_to_work() {
        let (mut watcher, mut told, look) = scripted();
        watcher.watch(Monotonic::ZERO, WorkerId(1), target());
        look.send(sight(false, None)).unwrap();
        told.blocking_recv().unwrap();
        watcher.look_after(watcher.next_deadline().unwrap());
        assert_eq!(watcher.next_deadline(), Some(Monotonic::ZERO + ASK_EVERY + ASK_EVERY));
        watcher.forget(WorkerId(1));
        assert_eq!(watcher.next_deadline(), None);
    }
}
