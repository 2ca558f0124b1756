//! The handle: what a program can ask of its supervisor.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

use super::builder::Configuration;
use super::error::{Error, Failed};
use super::thread::End;
use crate::control::Call;
use crate::control::answer::{Finish, Line, Verdict};
use crate::control::document::StatusDocument;
use crate::control::event::Event;
use crate::control::plan::Plan;
use crate::control::protocol::{Cancel, Reload, Request, Restart, Scale, Stop};
use crate::control::server::{Answered, ask};
use crate::daemon::{FromWorker, Wish};
use crate::id::PoolName;

/// A supervisor that runs. Clones are the same one, and can be used on any thread, with any runtime or none
/// ([`block_on`](super::block_on)). A request whose future is dropped goes on.
///
/// When the last clone is dropped the supervisor stops gracefully, in the background. When the process ends without that, the
/// kernel gives each worker its stop signal.
///
/// ```no_run
/// # async fn example(supervisor: handover::embed::Supervisor) -> Result<(), handover::embed::Error> {
/// supervisor.ready().await?;
/// supervisor.scale("web", 8).await?;
/// supervisor.restart().await?;
/// supervisor.stop().await?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Supervisor(pub(super) Arc<Shared>);

pub(super) struct Shared {
    wishes: mpsc::Sender<Wish>,
    ended: watch::Receiver<End>,
    thread: Mutex<Option<JoinHandle<()>>>,
    pub(super) messages: Mutex<Option<mpsc::Receiver<FromWorker>>>,
    /// Dropped with the last handle.
    _released: oneshot::Sender<()>,
}

impl fmt::Debug for Supervisor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Supervisor").field("ended", &*self.0.ended.borrow()).finish_non_exhaustive()
    }
}

/// A request that was done.
///
/// ```no_run
/// # async fn example(supervisor: handover::embed::Supervisor) -> Result<(), Box<dyn std::error::Error>> {
/// let done = supervisor.restart().await?;
/// println!("{} ({:?})", done.message, done.took);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Done {
    /// For a person: `myapp: generation 2 serves, 4 of 4 workers ready, after 1.2s`.
    pub message: String,
    /// The generation that was made, where one was.
    pub generation: Option<u64>,
    /// The time that it took.
    pub took: Duration,
}

impl Supervisor {
    pub(super) fn new(
        wishes: mpsc::Sender<Wish>,
        released: oneshot::Sender<()>,
        ended: watch::Receiver<End>,
        thread: JoinHandle<()>,
        messages: Mutex<Option<mpsc::Receiver<FromWorker>>>,
    ) -> Self {
        let thread = Mutex::new(Some(thread));
        Self(Arc::new(Shared { wishes, ended, thread, messages, _released: released }))
    }

    /// How everything is now: the document that `handover status --json` prints.
    ///
    /// ```no_run
    /// # async fn example(supervisor: handover::embed::Supervisor) -> Result<(), handover::embed::Error> {
    /// for pool in supervisor.status().await?.pools {
    ///     println!("{}: {} of {} workers ready", pool.name, pool.ready, pool.wanted);
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::Ended`]
    pub async fn status(&self) -> Result<StatusDocument, Error> {
        self.ask(Request::Status).await?.status().await.ok_or(Error::Ended)
    }

    /// What happens from now on: the events of `handover events`, as values. 1 MiB may wait; who is slower misses some, and is
    /// told how many ([`What::Lost`](super::event::What::Lost)). The first says whose events these are
    /// ([`What::Hello`](super::event::What::Hello)).
    ///
    /// ```no_run
    /// # async fn example(supervisor: handover::embed::Supervisor) -> Result<(), handover::embed::Error> {
    /// let mut events = supervisor.events().await?;
    /// while let Some(event) = events.next().await {
    ///     println!("{} {}", event.time, event.message);
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::Ended`]
    pub async fn events(&self) -> Result<Events, Error> {
        Ok(Events(self.ask(Request::Events).await?))
    }

    /// Reads the configuration again, and moves all pools to the new generation. Done when it serves.
    ///
    /// ```no_run
    /// # async fn example(supervisor: handover::embed::Supervisor) -> Result<(), Box<dyn std::error::Error>> {
    /// let done = supervisor.reload().await?;
    /// println!("{}", done.message);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::Refused`]: the configuration is wrong, and nothing has changed; [`Error::RolledBack`], [`Error::Failed`],
    /// [`Error::Ended`].
    pub async fn reload(&self) -> Result<Done, Error> {
        self.work(Request::Reload(Reload::default())).await
    }

    /// The same for those pools only whose configuration has changed.
    ///
    /// ```no_run
    /// # async fn example(supervisor: handover::embed::Supervisor) -> Result<(), Box<dyn std::error::Error>> {
    /// supervisor.reload_changed().await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`reload`](Self::reload).
    pub async fn reload_changed(&self) -> Result<Done, Error> {
        self.work(Request::Reload(Reload { changed: true, ..Reload::default() })).await
    }

    /// Goes on with another configuration. If it is refused or rolled back, the old one serves, and later reloads read it again
    /// from where it came.
    ///
    /// ```no_run
    /// # use handover::embed::{Pool, Settings, Supervisor};
    /// # async fn example(supervisor: Supervisor) -> Result<(), handover::embed::Error> {
    /// let settings = Settings::new("myapp").pool(Pool::new("web", ["/usr/bin/myapp-2"]).workers(2));
    /// supervisor.reload_with(&settings).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`reload`](Self::reload).
    pub async fn reload_with(&self, configuration: impl Into<Configuration>) -> Result<Done, Error> {
        let (call, answered) = ask(Request::Reload(Reload::default()));
        let source = Box::new(configuration.into().0);
        self.wish(Wish::ReloadWith(source, call)).await?;
        done(last_line(answered).await?)
    }

    /// What a [`reload`](Self::reload) would do now; nothing is done.
    ///
    /// ```no_run
    /// # async fn example(supervisor: handover::embed::Supervisor) -> Result<(), Box<dyn std::error::Error>> {
    /// println!("{}", supervisor.plan().await?.summary);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::Failed`], [`Error::Ended`]. What would be refused stands in [`Plan::refusals`].
    pub async fn plan(&self) -> Result<Plan, Error> {
        let finish = self.finish(Request::Reload(Reload { dry_run: true, ..Reload::default() })).await?;
        match finish.plan {
            Some(plan) => Ok(*plan),
            None => Err(Error::of(finish)),
        }
    }

    /// Replaces all workers, with the same configuration. Done when the new ones serve.
    ///
    /// ```no_run
    /// # async fn example(supervisor: handover::embed::Supervisor) -> Result<(), Box<dyn std::error::Error>> {
    /// supervisor.restart().await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::RolledBack`], [`Error::Refused`], [`Error::Failed`], [`Error::Ended`].
    pub async fn restart(&self) -> Result<Done, Error> {
        self.work(Request::Restart(Restart::default())).await
    }

    /// The same for the workers of some pools.
    ///
    /// ```no_run
    /// # async fn example(supervisor: handover::embed::Supervisor) -> Result<(), Box<dyn std::error::Error>> {
    /// supervisor.restart_pools(["web", "jobs"]).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`restart`](Self::restart).
    pub async fn restart_pools<P: Into<String>>(
        &self,
        pools: impl IntoIterator<Item = P>,
    ) -> Result<Done, Error> {
        let pools = pools.into_iter().map(|pool| PoolName::new(pool.into())).collect();
        self.work(Request::Restart(Restart { pools, ..Restart::default() })).await
    }

    /// Sets the number of workers of a pool, 1 to 10000: it holds until the pool is scaled again. Done when they are ready, or
    /// those that are too many have ended.
    ///
    /// ```no_run
    /// # async fn example(supervisor: handover::embed::Supervisor) -> Result<(), Box<dyn std::error::Error>> {
    /// supervisor.scale("web", 8).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::Refused`]: there is no such pool, or not so many workers; [`Error::Failed`], [`Error::Ended`].
    pub async fn scale(&self, pool: &str, workers: u32) -> Result<Done, Error> {
        if !(1..=crate::control::protocol::WORKERS_MAX).contains(&workers) {
            let most = crate::control::protocol::WORKERS_MAX;
            return Err(Error::Refused(format!("workers: {workers} is not between 1 and {most}")));
        }
        self.work(scaled(pool, Some(workers), None)).await
    }

    /// The same, by so many workers more or fewer than are wanted when the supervisor begins it: of two callers that want one
    /// more at the same time, each gets one.
    ///
    /// ```no_run
    /// # async fn example(supervisor: handover::embed::Supervisor) -> Result<(), Box<dyn std::error::Error>> {
    /// supervisor.scale_by("web", -1).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`scale`](Self::scale).
    pub async fn scale_by(&self, pool: &str, by: i32) -> Result<Done, Error> {
        self.work(scaled(pool, None, Some(by))).await
    }

    /// Sets the number of workers of a pool back to that of the configuration.
    ///
    /// ```no_run
    /// # async fn example(supervisor: handover::embed::Supervisor) -> Result<(), Box<dyn std::error::Error>> {
    /// supervisor.scale_as_configured("web").await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`scale`](Self::scale).
    pub async fn scale_as_configured(&self, pool: &str) -> Result<Done, Error> {
        self.work(scaled(pool, None, None)).await
    }

    /// Rolls back the rollout that runs.
    ///
    /// ```no_run
    /// # async fn example(supervisor: handover::embed::Supervisor) -> Result<(), Box<dyn std::error::Error>> {
    /// supervisor.cancel().await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::Failed`]: none runs; [`Error::Ended`].
    pub async fn cancel(&self) -> Result<Done, Error> {
        self.work(Request::Cancel(Cancel::default())).await
    }

    /// Returns when every pool has as many ready workers as it needs at the start (`min_ready`), each of its other slots being
    /// ready as well or in a crash loop: what `handover run` tells a service manager with `READY=1`.
    ///
    /// ```no_run
    /// # async fn example(supervisor: handover::embed::Supervisor) -> Result<(), Box<dyn std::error::Error>> {
    /// supervisor.ready().await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::Failed`]: it has ended because a pool got no worker ready; [`Error::Ended`].
    pub async fn ready(&self) -> Result<(), Error> {
        let mut events = self.events().await?;
        if self.status().await?.daemon.ready {
            return Ok(());
        }
        while let Some(event) = events.next().await {
            if matches!(event.what, super::event::What::DaemonReady) {
                return Ok(());
            }
        }
        match self.wait().await {
            Ok(()) => Err(Error::Ended),
            Err(Failed(reason)) => Err(Error::Failed(reason)),
        }
    }

    /// Asks all workers to end, and returns when nothing is left of the supervisor. What a worker has in hand it may finish
    /// within its `stop_timeout`.
    ///
    /// ```no_run
    /// # async fn example(supervisor: handover::embed::Supervisor) -> Result<(), Box<dyn std::error::Error>> {
    /// supervisor.stop().await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::Failed`]: a failure ended the supervisor.
    pub async fn stop(&self) -> Result<(), Error> {
        self.end(false).await
    }

    /// Kills all workers at once.
    ///
    /// ```no_run
    /// # async fn example(supervisor: handover::embed::Supervisor) -> Result<(), Box<dyn std::error::Error>> {
    /// supervisor.stop_now().await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`stop`](Self::stop).
    pub async fn stop_now(&self) -> Result<(), Error> {
        self.end(true).await
    }

    async fn end(&self, now: bool) -> Result<(), Error> {
        // One that has ended already is what was asked for.
        if let Ok(answered) = self.ask(Request::Stop(Stop { now })).await {
            let _ = last_line(answered).await;
        }
        self.wait().await.map_err(|Failed(reason)| Error::Failed(reason))
    }

    /// Waits until the supervisor has ended: its thread is gone, its sockets are closed, its workers have been ended.
    ///
    /// ```no_run
    /// # async fn example(supervisor: handover::embed::Supervisor) -> Result<(), Box<dyn std::error::Error>> {
    /// let end = supervisor.wait().await;
    /// println!("it has ended: {end:?}");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Failed`]: what ended it, where nobody had asked for that.
    pub async fn wait(&self) -> Result<(), Failed> {
        let mut ended = self.0.ended.clone();
        let end = ended.wait_for(Option::is_some).await.map(|end| end.clone());
        let thread = self.0.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // It has nothing left to do but to end.
            let _ = thread.join();
        }
        match end {
            Ok(end) => end.unwrap_or(Ok(())),
            Err(_) => Err(Failed("the supervisor's thread is gone".to_owned())),
        }
    }

    /// Has it not ended yet?
    ///
    /// ```no_run
    /// # async fn f(supervisor: handover::embed::Supervisor) -> Result<(), handover::embed::Error> {
    /// supervisor.stop().await?;
    /// assert!(!supervisor.is_running());
    /// # Ok(()) }
    /// ```
    pub fn is_running(&self) -> bool {
        self.0.ended.borrow().is_none() && !self.0.wishes.is_closed()
    }

    async fn work(&self, request: Request) -> Result<Done, Error> {
        done(self.finish(request).await?)
    }

    pub(super) async fn finish(&self, request: Request) -> Result<Finish, Error> {
        last_line(self.ask(request).await?).await
    }

    async fn ask(&self, request: Request) -> Result<Answered, Error> {
        let (call, answered): (Call, _) = ask(request);
        self.wish(Wish::Call(call)).await?;
        Ok(answered)
    }

    pub(super) async fn wish(&self, wish: Wish) -> Result<(), Error> {
        self.0.wishes.send(wish).await.map_err(|_| Error::Ended)
    }
}

/// How long work ended.
async fn last_line(mut answered: Answered) -> Result<Finish, Error> {
    loop {
        match answered.line().await {
            Some(Line::Result(finish)) => return Ok(finish),
            Some(Line::Progress(_)) => {}
            None => return Err(Error::Ended),
        }
    }
}

fn done(finish: Finish) -> Result<Done, Error> {
    match finish.result {
        Verdict::Done | Verdict::Accepted => Ok(Done {
            message: finish.message,
            generation: finish.generation,
            took: Duration::try_from_secs_f64(finish.seconds.unwrap_or_default()).unwrap_or_default(),
        }),
        _ => Err(Error::of(finish)),
    }
}

fn scaled(pool: &str, workers: Option<u32>, by: Option<i32>) -> Request {
    let reset = workers.is_none() && by.is_none();
    Request::Scale(Scale { pool: PoolName::new(pool), workers, by, reset, wait: true })
}

/// What happens, event by event; see [`Supervisor::events`].
///
/// ```no_run
/// # async fn example(supervisor: handover::embed::Supervisor) -> Result<(), Box<dyn std::error::Error>> {
/// let mut events = supervisor.events().await?;
/// while let Some(event) = events.next().await {
///     println!("{}: {}", event.number, event.message);
/// }
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Events(Answered);

impl Events {
    /// The next event; `None`: the supervisor has ended. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Event> {
        self.0.event().await
    }
}
