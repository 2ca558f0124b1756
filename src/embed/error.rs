//! What can go wrong, as values: at the start, with a request, and at the end.

use crate::control::document::{Failure, Place};
use crate::control::{Finish, Sent, Verdict};
use crate::daemon::{NotAnswered, RunError};

/// The supervisor did not start; for a person. Nothing of it is left.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use handover::embed::{Builder, StartError};
///
/// match Builder::from_file("myapp.toml").start().await {
///     Err(StartError::Configuration(faults)) => println!("{faults}"),
///     Err(other) => return Err(other.into()),
///     Ok(supervisor) => supervisor.ready().await?,
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The configuration is refused: all its faults, by line or by key.
    #[error("{0}")]
    Configuration(String),
    /// There is no exec helper: the program did not call [`helper_main`](super::helper_main) first in `main`, or the program
    /// that it names is none of this version.
    #[error("{0}")]
    Helper(String),
    /// `SIGCHLD` is ignored, so that nothing would be known of how workers end.
    #[error("{0}")]
    ChildrenVanish(String),
    /// Listeners that cannot be bound, or sockets that were given and do not fit.
    #[error("{0}")]
    Listeners(String),
    /// Environment files that are missing or wrong.
    #[error("{0}")]
    EnvironmentFiles(String),
    /// The runtime directory or the control socket: another supervisor has it, or it cannot be made.
    #[error("{0}")]
    Directory(String),
    /// Anything else, of the system.
    #[error("{0}")]
    Failed(String),
}

impl StartError {
    pub(super) fn of(error: RunError) -> Self {
        let text = error.to_string();
        match error {
            RunError::Configuration(_) => Self::Configuration(text.trim_end().to_owned()),
            RunError::Helper(_) => Self::Helper(text),
            RunError::ChildrenVanish(_) => Self::ChildrenVanish(text),
            RunError::Misfits(_) | RunError::Listeners(_) | RunError::Activation(_) => Self::Listeners(text),
            RunError::EnvironmentFiles(_) => Self::EnvironmentFiles(text),
            RunError::Runtime(_) | RunError::NoPlace => Self::Directory(text),
            _ => Self::Failed(text),
        }
    }
}

/// A failure ended the supervisor; for a person.
///
/// ```no_run
/// # async fn example(supervisor: handover::embed::Supervisor) -> Result<(), Box<dyn std::error::Error>> {
/// if let Err(failed) = supervisor.wait().await {
///     println!("the supervisor has ended: {failed}");
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Failed(pub String);

/// A request was not done.
///
/// ```no_run
/// # async fn example(supervisor: handover::embed::Supervisor) -> Result<(), Box<dyn std::error::Error>> {
/// use handover::embed::Error;
///
/// match supervisor.reload().await {
///     Err(Error::RolledBack { message, .. }) => println!("the old generation serves: {message}"),
///     Err(Error::Refused(reason)) => println!("nothing has changed: {reason}"),
///     other => drop(other?),
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// It was not begun: the configuration or the request is wrong, or does not fit the moment. What served serves.
    #[error("{0}")]
    Refused(String),
    /// A rollout failed or was cancelled, and the old generation serves.
    #[error("{message}")]
    RolledBack {
        /// For a person.
        message: String,
        /// The generation that was thrown away.
        generation: Option<u64>,
        /// Why, with the worker, the stage, the exit status and its last lines of output where there are any.
        failure: Option<Box<Failure>>,
        /// Slots that still run the thrown-away generation, because the old program is gone.
        kept: Vec<Place>,
    },
    /// It was begun and not finished.
    #[error("{0}")]
    Failed(String),
    /// A message reached nobody.
    #[error("{message}")]
    NotSent {
        /// For a person.
        message: String,
        /// Who did not get it, and why.
        sent: Sent,
    },
    /// A worker gave no answer.
    #[error(transparent)]
    NotAnswered(#[from] NotAnswered),
    /// What is to be sent cannot be: it is no JSON, or longer than 1 000 000 bytes.
    #[error("{0}")]
    Unsendable(String),
    /// The supervisor has ended.
    #[error("the supervisor has ended")]
    Ended,
}

impl Error {
    /// What a finish that is not done means.
    pub(super) fn of(finish: Finish) -> Self {
        match finish.result {
            Verdict::Refused => Self::Refused(finish.message),
            Verdict::RolledBack => Self::RolledBack {
                message: finish.message,
                generation: finish.generation,
                failure: finish.failure.map(Box::new),
                kept: finish.kept,
            },
            _ => Self::Failed(finish.message),
        }
    }
}
