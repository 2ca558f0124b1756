//! The `handover` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    // First of all, while nothing else has happened: we may have been started to become a worker.
    if let Some(code) = handover::os::spawn::helper_main() {
        return code;
    }
    handover::cli::main()
}
