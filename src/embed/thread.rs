//! The thread that a supervisor lives on.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::{self, JoinHandle};

use tokio::sync::{oneshot, watch};
use tracing::Dispatch;
use tracing::subscriber::NoSubscriber;

use super::error::Failed;
use crate::daemon::{Hosting, RunError, host, text_of};

/// As large as that of a main thread usually is; only what is used takes memory.
const STACK: usize = 8 * 1024 * 1024;

/// How a supervisor ended; `None`: it has not.
pub(super) type End = Option<Result<(), Failed>>;

/// Where events of `tracing` go: to whatever subscriber the thread has that starts the supervisor; if it has none, to the one of
/// the process, whenever that comes.
#[derive(Clone)]
pub(super) struct Log(Option<Dispatch>);

impl Log {
    pub(super) fn of_this_thread() -> Self {
        let dispatch = tracing::dispatcher::get_default(Clone::clone);
        Self((!dispatch.is::<NoSubscriber>()).then_some(dispatch))
    }

    pub(super) fn within<T>(&self, job: impl FnOnce() -> T) -> T {
        match &self.0 {
            Some(dispatch) => tracing::dispatcher::with_default(dispatch, job),
            None => job(),
        }
    }
}

/// Starts it. `failed` is told why it does not begin.
pub(super) fn start(
    hosting: Hosting,
    log: Log,
    failed: oneshot::Sender<RunError>,
    end: watch::Sender<End>,
) -> std::io::Result<JoinHandle<()>> {
    thread::Builder::new().name("handover".to_owned()).stack_size(STACK).spawn(move || {
        // A fault of ours must not leave anybody waiting. The workers get their stop signal when this thread ends.
        let hosted = catch_unwind(AssertUnwindSafe(|| log.within(|| host(hosting))));
        let hosted = hosted.unwrap_or_else(|panic| {
            let text = text_of(panic.as_ref());
            Err(RunError::Failed(format!("the supervisor failed, which is a fault of handover: {text}")))
        });
        let ended = match &hosted {
            Ok(None) => Ok(()),
            Ok(Some(reason)) => Err(Failed(reason.clone())),
            Err(error) => Err(Failed(error.to_string())),
        };
        // Nobody may wait for either.
        end.send_replace(Some(ended));
        if let Err(error) = hosted {
            let _ = failed.send(error);
        }
    })
}
