//! Showing what comes round by round: printed, and into files that grow.

use std::io::{self, IsTerminal as _, Write};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use pages::track::{TrackHeader, TrackRound, TrackSummary, WorkingSet};

use super::file::NewFile;
use super::{CommandOutputs, OutputArgs, PrintTarget};

/// Something that rounds go to, in one format.
pub(crate) trait RoundSink {
    /// Shows a round.
    ///
    /// # Errors
    /// If it cannot be written.
    fn round(&mut self, round: &TrackRound, set: &WorkingSet) -> anyhow::Result<SinkState>;

    /// Shows the end.
    ///
    /// # Errors
    /// If it cannot be written.
    fn end(self: Box<Self>, summary: &TrackSummary) -> anyhow::Result<()>;
}

/// Makes a sink, and shows the header and round 0 in it.
pub(crate) type SinkMaker =
    fn(SinkOut, &TrackHeader, &TrackRound) -> anyhow::Result<Box<dyn RoundSink>>;

/// Whether anybody still reads a sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SinkState {
    Open,
    /// Nobody reads any more, as after `| head`.
    Closed,
}

/// Where a sink writes.
pub(crate) struct SinkOut {
    /// Standard output or error, or a file of its own.
    pub out: Box<dyn Write>,
    /// Whether lines may be drawn anew.
    pub is_terminal: bool,
    /// Files that others write.
    pub files: Vec<PathBuf>,
}

/// Prints a text about rounds.
///
/// # Errors
/// If it cannot be written, for any other reason than that nobody reads.
pub(crate) fn print_rounds(out: &mut dyn Write, text: &str) -> anyhow::Result<SinkState> {
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(SinkState::Open),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(SinkState::Closed),
        Err(error) => Err(error).context("cannot write the rounds"),
    }
}

/// All outputs that were asked for, open and not begun.
pub(crate) struct OpenedSinks {
    files: Vec<(NewFile, SinkMaker)>,
    printed: SinkMaker,
    target: PrintTarget,
}

/// All outputs that were asked for.
pub(crate) struct RoundSinks {
    files: Vec<(Box<dyn RoundSink>, PathBuf)>,
    printed: Box<dyn RoundSink>,
}

impl<C: CommandOutputs<OutputMaker = SinkMaker>> OutputArgs<C> {
    /// Makes all files, without their names.
    ///
    /// # Errors
    /// If a file exists and is to be kept, or cannot be written.
    pub(crate) fn open(&self, target: PrintTarget) -> anyhow::Result<OpenedSinks> {
        let files = self.files().iter().map(|file| {
            let opened = NewFile::new(&file.path, file.replaces)?;
            Ok((opened, file.entry.make))
        });
        Ok(OpenedSinks {
            files: files.collect::<anyhow::Result<_>>()?,
            printed: self.printed(),
            target,
        })
    }
}

impl OpenedSinks {
    /// Shows the header and round 0.
    ///
    /// # Errors
    /// If one of them cannot be written.
    pub(crate) fn begin(
        self,
        header: &TrackHeader,
        first: &TrackRound,
    ) -> anyhow::Result<RoundSinks> {
        let mut files = Vec::new();
        for (opened, make) in self.files {
            let path = opened.path().to_owned();
            let what = || cannot_record(&path);
            let out = SinkOut {
                out: Box::new(opened.begin()?),
                is_terminal: false,
                files: Vec::new(),
            };
            files.push((make(out, header, first).with_context(what)?, path));
        }
        let (out, is_terminal): (Box<dyn Write>, bool) = match self.target {
            PrintTarget::Ours => (Box::new(io::stdout()), io::stdout().is_terminal()),
            // What the program prints would be mixed with lines that are drawn anew.
            PrintTarget::Beside => (Box::new(io::stderr()), false),
        };
        let paths = files.iter().map(|(_, path)| path.clone());
        let out = SinkOut {
            out,
            is_terminal,
            files: paths.collect(),
        };
        let printed = (self.printed)(out, header, first)?;
        Ok(RoundSinks { files, printed })
    }
}

impl RoundSinks {
    /// Shows a round.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(crate) fn round(
        &mut self,
        round: &TrackRound,
        set: &WorkingSet,
    ) -> anyhow::Result<SinkState> {
        for (sink, path) in &mut self.files {
            sink.round(round, set)
                .with_context(|| cannot_record(path))?;
        }
        self.printed.round(round, set)
    }

    /// Shows the end.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(crate) fn end(self, summary: &TrackSummary) -> anyhow::Result<()> {
        for (sink, path) in self.files {
            sink.end(summary).with_context(|| cannot_record(&path))?;
        }
        self.printed.end(summary)
    }
}

fn cannot_record(path: &Path) -> String {
    format!("cannot record to {}", path.display())
}
