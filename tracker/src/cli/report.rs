//! `tracker report`: a recording as tables, as a heat map in the terminal or in a file, or as JSON.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;

use super::output::{CommandOutputs, OutputArgs, OutputEntry, PrintTarget, WholeMaker};
use super::{terminal, values};
use crate::logging::say;
use crate::print::format;
use crate::print::picture::png::png;
use crate::track::json;
use crate::track::recording::{MemoryBudget, RecordingEnding, RecordingReader, RecordingSource};
use crate::track::report::terminal::heat_map;
use crate::track::report::{RecordingReport, picture, tables};

/// JSON is printed when there is this much of it.
const PIECE: usize = 1 << 16;

const HEATMAP: &str =
    "Draw the heat map into this file, as {} by its name, instead of in the terminal";

/// The flags of `tracker report`.
#[derive(Args, Debug)]
pub(crate) struct ReportArgs {
    /// The recording, as `tracker track --output FILE` writes it; - is standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Use at most this much memory beside 32 bytes for each byte of the recording
    #[arg(
        long,
        env = "TRACKER_MAX_MEMORY",
        default_value = "128MiB",
        value_name = "SIZE"
    )]
    #[arg(value_parser = values::size)]
    max_memory: u64,
    #[command(flatten)]
    outputs: OutputArgs<ReportOutputs>,
}

/// What `tracker report` can show.
struct ReportOutputs;

impl CommandOutputs for ReportOutputs {
    type OutputMaker = ReportMaker;

    const OUTPUTS: &'static [OutputEntry<ReportMaker>] = &[
        OutputEntry {
            format: &format::TEXT,
            help: "",
            make: ReportMaker::Whole(text),
        },
        OutputEntry {
            format: &format::SVG,
            help: HEATMAP,
            make: ReportMaker::Whole(|shown| Ok(picture::svg(&shown.report)?.into_bytes())),
        },
        OutputEntry {
            format: &format::PNG,
            help: HEATMAP,
            make: ReportMaker::Whole(|shown| Ok(png(&picture::svg(&shown.report)?)?)),
        },
        OutputEntry {
            format: &format::JSON,
            help: "Print what was recorded as JSON, one object a line",
            make: ReportMaker::Rounds(json_lines),
        },
    ];
}

/// How a recording becomes one of its formats.
#[derive(Clone, Copy)]
enum ReportMaker {
    /// Of all that was counted.
    Whole(fn(&ShownReport<'_>) -> anyhow::Result<Vec<u8>>),
    /// Round by round, while it is read.
    Rounds(fn(&mut RecordingInput<'_>) -> anyhow::Result<()>),
}

impl<'a> WholeMaker<ShownReport<'a>> for ReportMaker {
    fn make(self, shown: &ShownReport<'a>) -> anyhow::Result<Vec<u8>> {
        match self {
            Self::Whole(make) => make(shown),
            Self::Rounds(_) => anyhow::bail!("it is printed round by round, never as a whole"),
        }
    }
}

type RecordingInput<'a> = RecordingReader<Box<dyn Read + 'a>>;

/// A report, and where it is drawn beside what is printed.
struct ShownReport<'a> {
    report: RecordingReport<'a>,
    pictures: Vec<&'a Path>,
}

/// Reads the recording and shows it. Of a damaged one it shows what is sound, and fails then.
///
/// # Errors
/// If the recording cannot be read, or the picture cannot be written.
pub(crate) fn run(args: &ReportArgs) -> anyhow::Result<ExitCode> {
    let (name, input) = open(&args.file)?;
    show(args, &name, input).with_context(|| name.clone())?;
    Ok(ExitCode::SUCCESS)
}

fn show(args: &ReportArgs, name: &str, input: File) -> anyhow::Result<()> {
    let budget = MemoryBudget::new(args.max_memory);
    let pictures: Vec<_> = args.outputs.paths().collect();
    let maker = args.outputs.printed();
    if let (ReportMaker::Rounds(print), true) = (maker, pictures.is_empty()) {
        // Also of a pipe that has no end.
        let input: Box<dyn Read> = Box::new(BufReader::new(input));
        let mut reader = RecordingReader::new(input, budget)?;
        print(&mut reader)?;
        remark(name, reader.ending());
        return Ok(());
    }
    let files = args.outputs.files_to_write()?;
    let source = RecordingSource::new(input, budget)?;
    let (report, damage) = RecordingReport::new(&source)?;
    let shown = ShownReport { report, pictures };
    files.write(&shown)?;
    match maker {
        ReportMaker::Whole(_) => args.outputs.print(&shown, PrintTarget::Ours)?,
        ReportMaker::Rounds(print) => {
            let mut reader = source.reader()?;
            print(&mut reader)?;
            remark(name, reader.ending());
        }
    }
    damage.map_or(Ok(()), |damage| Err(damage.into()))
}

/// The file, and what to call it.
fn open(file: &Path) -> anyhow::Result<(String, File)> {
    if file == Path::new("-") {
        let name = "standard input".to_owned();
        let input = io::stdin().as_fd().try_clone_to_owned();
        return Ok((name.clone(), input.context(name)?.into()));
    }
    let name = file.display().to_string();
    let opened = File::open(file).with_context(|| format!("cannot open {name}"))?;
    Ok((name, opened))
}

/// Prints JSON while it reads. A reader that has seen enough (`| head`) is no failure.
fn json_lines(reader: &mut RecordingInput<'_>) -> anyhow::Result<()> {
    let mut out = BufWriter::with_capacity(PIECE, io::stdout().lock());
    let printed = write_lines(reader, &mut out);
    let written = printed
        .as_ref()
        .err()
        .and_then(|error| error.downcast_ref());
    match written.map(io::Error::kind) {
        Some(io::ErrorKind::BrokenPipe) => Ok(()),
        Some(_) => printed.context("cannot write to standard output"),
        None => printed,
    }
}

fn write_lines(reader: &mut RecordingInput<'_>, out: &mut impl Write) -> anyhow::Result<()> {
    out.write_all(json::header(reader.header())?.as_bytes())?;
    let damage = loop {
        match reader.next_round() {
            Ok(Some(round)) => json::write_round(out, round)?,
            Ok(None) => break None,
            Err(error) => break Some(error),
        }
    };
    if let Some(summary) = reader.ending().and_then(RecordingEnding::summary) {
        out.write_all(json::summary(summary)?.as_bytes())?;
    }
    out.flush()?;
    damage.map_or(Ok(()), |damage| Err(damage.into()))
}

/// What is for programs has no place for it.
fn remark(name: &str, ending: Option<&RecordingEnding>) {
    if let Some(remark) = ending.and_then(RecordingEnding::remark) {
        say(format_args!("tracker: {name}: {remark}"));
    }
}

fn text(shown: &ShownReport<'_>) -> anyhow::Result<Vec<u8>> {
    let report = &shown.report;
    let map = match shown.pictures.first() {
        Some(path) => format!("The heat map is in {}.\n", path.display()),
        None => heat_map(report, terminal::width(), terminal::shades())?,
    };
    let parts = [
        tables::totals(report),
        tables::mappings(report),
        tables::shared(report),
        tables::rounds(report),
        tables::legend(),
        map,
    ];
    let parts = parts.into_iter().filter(|part| !part.is_empty());
    Ok(parts.collect::<Vec<_>>().join("\n").into_bytes())
}
