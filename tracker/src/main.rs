//! The `tracker` command.
use std::process::ExitCode;

fn main() -> ExitCode {
    // Before the command line is looked at: no setting of the user's may stop a helper.
    if let Some(status) = pages::inject::helper_main() {
        return status;
    }
    tracker::cli::main()
}
