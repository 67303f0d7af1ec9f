//! Showing a result that is there as a whole.

use std::io;

use anyhow::Context as _;

use super::file::NewFile;
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
    /// Makes all files that were asked for, without their names, before there is anything to write:
    /// what cannot be written is told then.
    ///
    /// # Errors
    /// If a file exists and is to be kept, or none can be there.
    pub(crate) fn files_to_write(&self) -> anyhow::Result<WholeFiles<C::OutputMaker>> {
        let files = self.files().iter().map(|file| {
            let new = NewFile::new(&file.path, file.replaces)?;
            Ok((new, file.entry.make))
        });
        Ok(WholeFiles(files.collect::<anyhow::Result<_>>()?))
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
}

/// Files that wait for a result.
pub(crate) struct WholeFiles<M>(Vec<(NewFile, M)>);

impl<M> WholeFiles<M> {
    /// Writes a result to all of them.
    ///
    /// # Errors
    /// If it cannot be shown so, or a file cannot be written.
    pub(crate) fn write<R>(self, result: &R) -> anyhow::Result<()>
    where
        M: WholeMaker<R>,
    {
        for (file, maker) in self.0 {
            let what = || format!("cannot make {}", file.path().display());
            let bytes = maker.make(result).with_context(what)?;
            file.write(&bytes)?;
        }
        Ok(())
    }
}
