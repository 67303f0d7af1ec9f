//! Showing a result that is there as a whole.

use std::io;

use anyhow::Context as _;

use super::file::{check, replace};
use super::{CommandOutputs, OutputArgs, PrintTarget, print_bytes};

/// Makes a format of a whole result.
pub(crate) trait WholeMaker<R>: Copy {
    /// The bytes to print or to write.
    ///
    /// # Errors
    /// If the result cannot be shown so.
    fn make(self, result: &R) -> anyhow::Result<Vec<u8>>;
}

/// The maker of a command whose results need nothing else.
pub(crate) type MakeWhole<R> = fn(&R) -> anyhow::Result<Vec<u8>>;

impl<R> WholeMaker<R> for MakeWhole<R> {
    fn make(self, result: &R) -> anyhow::Result<Vec<u8>> {
        self(result)
    }
}

impl<C: CommandOutputs> OutputArgs<C> {
    /// Finds out what cannot be written, before there is anything to write.
    ///
    /// # Errors
    /// If a file exists and is to be kept, or cannot be there.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        let mut files = self.files().iter();
        files.try_for_each(|file| check(&file.path, file.replaces))
    }

    /// Prints a result.
    ///
    /// # Errors
    /// If it cannot be shown so, or what it is printed to cannot be written.
    pub(crate) fn print<R>(&self, result: &R, target: PrintTarget) -> anyhow::Result<()>
    where
        C::OutputMaker: WholeMaker<R>,
    {
        let bytes = self.printed().make(result)?;
        match target {
            PrintTarget::Ours => print_bytes(io::stdout().lock(), &bytes),
            PrintTarget::Beside => print_bytes(io::stderr().lock(), &bytes),
        }
    }

    /// Writes a result to all files that were asked for.
    ///
    /// # Errors
    /// If it cannot be shown so, or a file cannot be written.
    pub(crate) fn write<R>(&self, result: &R) -> anyhow::Result<()>
    where
        C::OutputMaker: WholeMaker<R>,
    {
        for file in self.files() {
            let bytes = file.entry.make.make(result);
            let what = || format!("cannot make {}", file.path.display());
            replace(&file.path, &bytes.with_context(what)?)?;
        }
        Ok(())
    }
}
