//! Where rounds go: a table for people, JSON, a recording.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal as _, Write};
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::TrackArgs;
use super::table::Table;
use crate::track::json;
use crate::track::recording::Writer;
use pages::track::{TrackHeader, TrackRound, TrackSummary, WorkingSet};

/// All that was asked for.
pub struct Outputs {
    out: Box<dyn Write>,
    form: Form,
    recording: Recording,
}

enum Form {
    Table(Table),
    Json,
}

enum Recording {
    None,
    Opened(Opened),
    Begun(Writer<File>, PathBuf),
}

/// A file for a recording that has not begun: what it holds is still there, and one that is new goes again.
struct Opened {
    file: Option<File>,
    path: PathBuf,
    is_new: bool,
}

impl Opened {
    fn new(path: &Path, force: bool) -> anyhow::Result<Self> {
        let open = |is_new| {
            let mut options = OpenOptions::new();
            let file = options.write(true).create_new(is_new).open(path);
            file.map(|file| (file, is_new))
        };
        let opened = open(true).or_else(|error| {
            if force && error.kind() == io::ErrorKind::AlreadyExists {
                open(false)
            } else {
                Err(error)
            }
        });
        let (file, is_new) = opened.map_err(|error| {
            let exists = error.kind() == io::ErrorKind::AlreadyExists;
            let advice = if exists { "; --force replaces it" } else { "" };
            anyhow::anyhow!("cannot record to {}: {error}{advice}", path.display())
        })?;
        Ok(Self {
            file: Some(file),
            path: path.to_owned(),
            is_new,
        })
    }

    /// The recording begins: nothing else is in the file.
    fn take(mut self) -> io::Result<Option<(File, PathBuf)>> {
        let Some(file) = self.file.take() else {
            return Ok(None);
        };
        // A device, such as /dev/null, has no length.
        if file.metadata()?.is_file() {
            file.set_len(0)?;
        }
        Ok(Some((file, self.path.clone())))
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        if self.is_new && self.file.is_some() {
            // Nobody can be told more than why there is no recording, which is told.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

impl Outputs {
    /// Opens the recording. `beside`: a program of the user's has standard output.
    pub fn open(args: &TrackArgs, beside: bool) -> anyhow::Result<Self> {
        let out: Box<dyn Write> = if beside {
            Box::new(io::stderr())
        } else {
            Box::new(io::stdout())
        };
        let terminal = if beside {
            // What the program prints would be mixed with a table that is drawn anew.
            false
        } else {
            io::stdout().is_terminal()
        };
        let form = if args.json {
            Form::Json
        } else {
            Form::Table(Table::new(terminal))
        };
        let recording = match &args.output {
            None => Recording::None,
            Some(path) => Recording::Opened(Opened::new(path, args.force)?),
        };
        Ok(Self {
            out,
            form,
            recording,
        })
    }

    /// The header and round 0.
    pub fn begin(&mut self, header: &TrackHeader, first: &TrackRound) -> anyhow::Result<()> {
        self.recording = match std::mem::replace(&mut self.recording, Recording::None) {
            Recording::Opened(opened) => {
                let path = opened.path.clone();
                match opened.take().with_context(|| cannot_write(&path))? {
                    Some((file, path)) => {
                        let writer = Writer::new(file, header);
                        let writer = writer.with_context(|| cannot_write(&path))?;
                        Recording::Begun(writer, path)
                    }
                    None => Recording::None,
                }
            }
            other => other,
        };
        let text = match &mut self.form {
            Form::Table(table) => table.begin(header, first),
            Form::Json => json::header(header)? + &json::round(first)?,
        };
        self.record(first)?;
        self.print(&text)?;
        Ok(())
    }

    /// A round; false if nobody reads any more.
    pub fn round(&mut self, round: &TrackRound, set: &WorkingSet) -> anyhow::Result<bool> {
        self.record(round)?;
        let text = match &mut self.form {
            Form::Table(table) => table.round(round, set),
            Form::Json => json::round(round)?,
        };
        self.print(&text)
    }

    /// The end.
    pub fn end(mut self, summary: &TrackSummary) -> anyhow::Result<()> {
        let mut recorded = None;
        if let Recording::Begun(writer, path) =
            std::mem::replace(&mut self.recording, Recording::None)
        {
            writer
                .finish(summary)
                .with_context(|| cannot_write(&path))?;
            recorded = Some(path);
        }
        let text = match &mut self.form {
            Form::Table(table) => table.end(summary, recorded.as_deref()),
            Form::Json => json::summary(summary)?,
        };
        self.print(&text).map(drop)
    }

    fn record(&mut self, round: &TrackRound) -> anyhow::Result<()> {
        match &mut self.recording {
            Recording::Begun(writer, path) => {
                writer.round(round).with_context(|| cannot_write(path))
            }
            _ => Ok(()),
        }
    }

    /// A reader that has seen enough (`| head`) is no failure.
    fn print(&mut self, text: &str) -> anyhow::Result<bool> {
        match self
            .out
            .write_all(text.as_bytes())
            .and_then(|()| self.out.flush())
        {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
            Err(error) => Err(error).context("cannot write the rounds"),
        }
    }
}

fn cannot_write(path: &Path) -> String {
    format!("cannot record to {}", path.display())
}
