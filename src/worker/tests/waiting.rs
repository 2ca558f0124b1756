//! Who is woken, by what, and what is left of those who do not wait any more.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Wake;

use super::*;

/// Counts how often it is woken.
#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn a_future_that_is_dropped_leaves_no_waker_behind() {
    let (worker, _handover) = connect(Options::default().messages(true));
    let count = Arc::new(Count::default());
    let waker = Waker::from(Arc::clone(&count));
    let mut context = Context::from_waker(&waker);
    let (tracker, messages, pulse) = (worker.tracker(), worker.messages(), worker.pulse().unwrap());
    let _guard = tracker.enter();
    assert!(pin!(worker.drained()).poll(&mut context).is_pending());
    assert!(pin!(tracker.finished()).poll(&mut context).is_pending());
    assert!(pin!(messages.received()).poll(&mut context).is_pending());
    assert!(pin!(pulse.turns()).poll(&mut context).is_pending());
    let asking = worker.ask(Target::Handover, &1, LONG).unwrap();
    assert!(pin!(asking).poll(&mut context).is_pending());
    drop(waker);
    assert_eq!(Arc::strong_count(&count), 1, "what waited is gone");
}

#[test]
fn what_is_said_wakes_nobody_who_waits_for_something_else() {
    let (worker, mut handover) = connect(Options::default());
    let count = Arc::new(Count::default());
    let waker = Waker::from(Arc::clone(&count));
    let mut context = Context::from_waker(&waker);
    let mut drained = pin!(worker.drained());
    assert!(drained.as_mut().poll(&mut context).is_pending());
    for _ in 0..10 {
        assert!(worker.log(Level::Info, "", "x", vec![]));
        worker.status("x");
    }
    assert_eq!(count.0.load(Ordering::SeqCst), 0);
    handover.say(r#"{"type":"drain","reason":"x"}"#);
    worker.wait_for_drain();
    assert!(drained.as_mut().poll(&mut context).is_ready());
}

#[test]
fn a_thread_that_cannot_be_started_is_started_the_next_time() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(LONG)).unwrap();
    let (notify, watchdog) = (notify::Notify::at(path.as_os_str()), Some(Duration::from_millis(20)));
    let worker =
        Options::default().connect_in(Surroundings { notify, watchdog, ..Surroundings::default() }).unwrap();
    assert!(thread::start_by(&worker.core, |_| Err(std::io::ErrorKind::WouldBlock.into())).is_err());
    assert!(worker.feed_watchdog().unwrap());
    let mut buffer = [0; 20];
    assert_eq!(manager.recv(&mut buffer).unwrap(), "WATCHDOG=1".len());
}

#[test]
fn nothing_waits_for_a_socket_that_is_closed() {
    // What waits keeps the thread busy.
    let full = || {
        let (worker, handover) = connect(Options::default());
        while worker.try_send(Target::Handover, &"x".repeat(100_000)).is_ok() {}
        (worker, handover)
    };
    let (worker, _handover) = full();
    worker.close();
    assert_eq!(worker.core.lock().session.pending(), 0, "closed by this side");
    let (worker, mut handover) = full();
    handover.say("what?");
    assert!(worker.wait_for_removed_listener().is_none() && worker.lost().is_some());
    assert_eq!(worker.core.lock().session.pending(), 0, "closed because of a fault");
}
