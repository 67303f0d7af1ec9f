//! A panic as a log line like any other.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::panic::{self, PanicHookInfo};
use std::thread;

use super::say;

/// Logs panics from here on.
pub(crate) fn tell_panics() {
    panic::set_hook(Box::new(|info| {
        tracing::error!(
            "{}: this is a bug of tracker's, please report it",
            message(info)
        );
        let backtrace = Backtrace::capture();
        if backtrace.status() == BacktraceStatus::Captured {
            say(format_args!("{backtrace}"));
        }
    }));
}

/// Which thread panicked, where, and why.
pub(crate) fn message(info: &PanicHookInfo<'_>) -> String {
    let thread = thread::current();
    let name = thread.name().unwrap_or("without a name");
    let why = info.payload_as_str().unwrap_or("no reason");
    let place = info.location().map(ToString::to_string).unwrap_or_default();
    format!("thread {name} panicked at {place}: {why}")
}
