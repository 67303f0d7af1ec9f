//! Printing to standard output.

use anyhow::Context;
use std::io::{self, Write};

/// Prints a text. A reader that has seen enough (`| head`) is no failure.
///
/// # Errors
/// If standard output cannot be written for any other reason, such as a full disk.
pub fn print(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result.context("cannot write to standard output"),
    }
}
