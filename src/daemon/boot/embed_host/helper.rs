//! Which program becomes the workers, and whether it can.
//!
//! A library cannot be executed: the program that we are a part of is the helper, if its `main` says so first, or names another.

use std::io;
use std::time::Duration;

use crate::daemon::RunError;
use crate::os::spawn::{self, Helper, NoHelper, probe};

/// How long the exec helper may take to say that it is one: a large program on a busy machine, and more.
const HELPER_PATIENCE: Duration = Duration::from_secs(10);

/// The exec helper. This very program is one only if its `main` has called the hook: one that has not would run itself again.
pub(super) fn find(named: Option<Helper>) -> Result<Helper, RunError> {
    if spawn::is_meant_to_be_helper() {
        return Err(RunError::Helper(format!(
            "this process was started as an exec helper, and is none\n{HINT}"
        )));
    }
    match named {
        Some(helper) => Ok(helper),
        None if !spawn::helper_main_was_called() => Err(RunError::Helper(format!(
            "this program is no exec helper: it has not called helper_main\n{HINT}"
        ))),
        None => Helper::this_executable().map_err(|error| RunError::System("own executable", error)),
    }
}

/// Starts it once, with a question instead of an order.
pub(super) async fn ask(helper: &Helper) -> Result<(), RunError> {
    probe(helper, HELPER_PATIENCE).await.map_err(|fault| no_helper(&fault))
}

/// What helps where there is no helper.
const HINT: &str = "hint: call handover::embed::helper_main() first in main, and return what it gives; or name a `handover` program \
    of the same version with Builder::helper";

fn no_helper(fault: &NoHelper) -> RunError {
    match fault {
        NoHelper::Version { .. } => RunError::Helper(format!(
            "{fault}\nhint: install one of the same version, or call handover::embed::helper_main() first in main"
        )),
        // The program is not to blame where there is no room for one more process.
        NoHelper::System { source, .. } if lacks_room(source) => RunError::Helper(fault.to_string()),
        _ => RunError::Helper(format!("{fault}\n{HINT}")),
    }
}

fn lacks_room(error: &io::Error) -> bool {
    let lacks = [libc::EMFILE, libc::ENFILE, libc::ENOMEM, libc::EAGAIN];
    error.raw_os_error().is_some_and(|number| lacks.contains(&number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hint_about_the_helper_stands_where_the_helper_is_to_blame() {
        let told = |number| {
            let source = io::Error::from_raw_os_error(number);
            no_helper(&NoHelper::System { path: "/opt/helper".into(), source }).to_string()
        };
        assert_eq!(told(libc::EMFILE), "/opt/helper: too many open files");
        assert!(told(libc::ENOENT).starts_with("/opt/helper: no such file or directory\nhint: "));
    }
}
