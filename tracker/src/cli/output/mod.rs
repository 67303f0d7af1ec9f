//! What commands print and write: the same flags, rules and files for all of them.
//!
//! A command lists its formats as [`OutputEntry`]s, one each: the format, what `--help` says of it,
//! and the function that makes it. [`OutputArgs`] makes flags of that list and tells which were
//! chosen; `whole` shows a result that is there as a whole, `rounds` one that comes round by round.

mod args;
mod file;
mod rounds;
mod whole;

use std::io::{self, Write};

use anyhow::Context as _;

use crate::print::format::OutputFormat;
pub(crate) use args::OutputArgs;
pub(crate) use rounds::{RoundSink, SinkMaker, SinkOut, SinkState, print_rounds};
pub(crate) use whole::{MakeWhole, WholeFiles, WholeMaker};

/// A command, as far as its outputs are concerned.
pub(crate) trait CommandOutputs: 'static {
    /// How it makes a format.
    type OutputMaker: Copy + 'static;

    /// Its formats. One of them is printed by default.
    const OUTPUTS: &'static [OutputEntry<Self::OutputMaker>];
}

/// A format of a command.
pub(crate) struct OutputEntry<M> {
    pub format: &'static OutputFormat,
    /// What `--help` says of it. `{}` stands for the names of all formats of the same flag.
    pub help: &'static str,
    pub make: M,
}

/// Where what is printed goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PrintTarget {
    /// Standard output.
    Ours,
    /// Standard error: a program of the user's has standard output.
    Beside,
}

/// Prints a text. A reader that has seen enough (`| head`) is no failure.
///
/// # Errors
/// If standard output cannot be written for any other reason, such as a full disk.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    print_bytes(io::stdout().lock(), text.as_bytes())
}

fn print_bytes(mut out: impl Write, bytes: &[u8]) -> anyhow::Result<()> {
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result.context("cannot print the result"),
    }
}
