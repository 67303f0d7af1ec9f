//! `tracker report`: a recording as tables, as a heat map in the terminal or in a file, or as JSON.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use pages::track::TrackRound;

use super::output::{CommandOutputs, OutputArgs, OutputEntry, PrintTarget, WholeMaker, print};
use super::terminal;
use crate::logging::say;
use crate::print::format;
use crate::print::picture::png::png;
use crate::track::json;
use crate::track::recording::{RecordingEnding, RecordingError, RecordingReader};
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
            make: ReportMaker::whole(text),
        },
        OutputEntry {
            format: &format::SVG,
            help: HEATMAP,
            make: ReportMaker::whole(|shown| Ok(picture::svg(&shown.report).into_bytes())),
        },
        OutputEntry {
            format: &format::PNG,
            help: HEATMAP,
            make: ReportMaker::whole(|shown| Ok(png(&picture::svg(&shown.report))?)),
        },
        OutputEntry {
            format: &format::JSON,
            help: "Print what was recorded as JSON, one object a line",
            make: ReportMaker {
                whole: json_lines,
                stream: Some(stream),
            },
        },
    ];
}

/// How a recording becomes one of its formats.
#[derive(Clone, Copy)]
struct ReportMaker {
    /// Of all that was read.
    whole: fn(&ShownReport<'_>) -> anyhow::Result<Vec<u8>>,
    /// While it is read: a recording may be larger than memory.
    stream: Option<fn(&mut RecordingInput) -> anyhow::Result<()>>,
}

type RecordingInput = RecordingReader<BufReader<Box<dyn Read>>>;

impl ReportMaker {
    const fn whole(whole: fn(&ShownReport<'_>) -> anyhow::Result<Vec<u8>>) -> Self {
        let stream = None;
        Self { whole, stream }
    }
}

impl<'a> WholeMaker<ShownReport<'a>> for ReportMaker {
    fn make(self, shown: &ShownReport<'a>) -> anyhow::Result<Vec<u8>> {
        (self.whole)(shown)
    }
}

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
    let mut reader = RecordingReader::new(BufReader::new(input)).with_context(|| name.clone())?;
    let pictures: Vec<_> = args.outputs.paths().collect();
    let streams = args.outputs.printed().stream;
    if let Some(stream) = streams.filter(|_| pictures.is_empty()) {
        stream(&mut reader).with_context(|| name.clone())?;
        remark(&name, reader.ending());
        return Ok(ExitCode::SUCCESS);
    }
    let (rounds, damage) = read(&mut reader);
    let shown = ShownReport {
        report: RecordingReport::new(reader.header(), &rounds, reader.ending()),
        pictures,
    };
    args.outputs.write(&shown)?;
    args.outputs.print(&shown, PrintTarget::Ours)?;
    if !args.outputs.is_for_people() {
        remark(&name, reader.ending());
    }
    match damage {
        Some(damage) => Err(damage).with_context(|| name.clone()),
        None => Ok(ExitCode::SUCCESS),
    }
}

/// The file, and what to call it.
fn open(file: &Path) -> anyhow::Result<(String, Box<dyn Read>)> {
    if file == Path::new("-") {
        return Ok(("standard input".to_owned(), Box::new(io::stdin().lock())));
    }
    let name = file.display().to_string();
    let opened = File::open(file).with_context(|| format!("cannot open {name}"))?;
    Ok((name, Box::new(opened)))
}

/// All that is sound, and what is not.
fn read(reader: &mut RecordingInput) -> (Vec<TrackRound>, Option<RecordingError>) {
    let (mut rounds, mut damage) = (Vec::new(), None);
    for round in reader {
        match round {
            Ok(round) => rounds.push(round),
            Err(error) => damage = Some(error),
        }
    }
    (rounds, damage)
}

/// Prints JSON while it reads.
fn stream(reader: &mut RecordingInput) -> anyhow::Result<()> {
    let mut text = json::header(reader.header())?;
    let mut damage = None;
    for round in &mut *reader {
        match round {
            Ok(round) => text += &json::round(&round)?,
            Err(error) => damage = Some(error),
        }
        if text.len() > PIECE {
            print(&text)?;
            text.clear();
        }
    }
    if let Some(summary) = reader.ending().and_then(RecordingEnding::summary) {
        text += &json::summary(summary)?;
    }
    print(&text)?;
    damage.map_or(Ok(()), |damage| Err(damage.into()))
}

fn json_lines(shown: &ShownReport<'_>) -> anyhow::Result<Vec<u8>> {
    let report = &shown.report;
    let mut text = json::header(report.header())?;
    for round in report.recorded() {
        text += &json::round(round)?;
    }
    if let Some(summary) = report.ending().and_then(RecordingEnding::summary) {
        text += &json::summary(summary)?;
    }
    Ok(text.into_bytes())
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
        None => heat_map(report, terminal::width(), terminal::shades()),
    };
    let parts = [
        tables::totals(report),
        tables::mappings(report),
        tables::rounds(report),
        tables::legend(),
        map,
    ];
    Ok(parts.join("\n").into_bytes())
}
