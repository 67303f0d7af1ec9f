//! `tracker report`: a recording as tables, as a heat map in the terminal or in a file, or as JSON.

use super::output::print;
use super::replace::replace;
use super::terminal;
use crate::track::json;
use crate::track::recording::{Ending, Reader, RecordingError};
use crate::track::report::{Report, picture, tables, terminal::heat_map};
use anyhow::Context;
use clap::Args;
use pages::track::{TrackHeader, TrackRound};
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// JSON is printed when there is this much of it.
const PIECE: usize = 1 << 16;

/// The flags of `tracker report`.
#[derive(Args, Debug)]
pub struct ReportArgs {
    /// The recording, as `tracker track --output FILE` writes it; - is standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Draw the heat map into this file, as SVG or PNG by its name, instead of in the terminal
    #[arg(long, env = "TRACKER_HEATMAP", value_name = "FILE.svg|.png", value_parser = picture_file)]
    heatmap: Option<Picture>,
    /// Print what was recorded as JSON, one object a line
    #[arg(long, env = "TRACKER_JSON")]
    json: bool,
}

/// A file to draw into.
#[derive(Clone, Debug)]
struct Picture {
    path: PathBuf,
    format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Format {
    Svg,
    Png,
}

fn picture_file(text: &str) -> Result<Picture, String> {
    let path = PathBuf::from(text);
    let extension = path.extension().and_then(|extension| extension.to_str());
    let format = match extension.map(str::to_ascii_lowercase).as_deref() {
        Some("svg") => Format::Svg,
        Some("png") => Format::Png,
        _ => {
            return Err(format!(
                "`{text}` must end in .svg or .png, which says what to draw"
            ));
        }
    };
    Ok(Picture { path, format })
}

/// Reads the recording and prints it. Of a damaged one it prints what is sound, and fails then.
///
/// # Errors
/// If the recording cannot be read, or the picture not be written.
pub fn run(args: &ReportArgs) -> anyhow::Result<ExitCode> {
    let (name, input) = open(&args.file)?;
    let mut reader = Reader::new(BufReader::new(input)).with_context(|| name.clone())?;
    let recorded = match (args.json, &args.heatmap) {
        (true, None) => {
            stream(&mut reader).with_context(|| name.clone())?;
            remark(&name, reader.ending());
            return Ok(ExitCode::SUCCESS);
        }
        _ => Recorded::read(&mut reader),
    };
    let report = Report::new(reader.header(), &recorded.rounds, reader.ending());
    if let Some(picture) = &args.heatmap {
        draw(&report, picture)?;
    }
    if args.json {
        print_json(&report)?;
        remark(&name, reader.ending());
    } else {
        print(&text(&report, args.heatmap.as_ref()))?;
    }
    match recorded.damage {
        Some(damage) => Err(damage).with_context(|| name.clone()),
        None => Ok(ExitCode::SUCCESS),
    }
}

/// The file, and how to call it.
fn open(file: &Path) -> anyhow::Result<(String, Box<dyn Read>)> {
    if file == Path::new("-") {
        return Ok(("standard input".to_owned(), Box::new(io::stdin().lock())));
    }
    let name = file.display().to_string();
    let opened = File::open(file).with_context(|| format!("cannot open {name}"))?;
    Ok((name, Box::new(opened)))
}

/// All that is sound.
struct Recorded {
    rounds: Vec<TrackRound>,
    damage: Option<RecordingError>,
}

impl Recorded {
    fn read(reader: &mut Reader<impl Read>) -> Self {
        let mut recorded = Self {
            rounds: Vec::new(),
            damage: None,
        };
        for round in reader {
            match round {
                Ok(round) => recorded.rounds.push(round),
                Err(damage) => recorded.damage = Some(damage),
            }
        }
        recorded
    }
}

/// Prints JSON while it reads: a recording may be larger than memory.
fn stream(reader: &mut Reader<impl Read>) -> anyhow::Result<()> {
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
    if let Some(summary) = reader.ending().and_then(Ending::summary) {
        text += &json::summary(summary)?;
    }
    print(&text)?;
    damage.map_or(Ok(()), |damage| Err(damage.into()))
}

fn print_json(report: &Report<'_>) -> anyhow::Result<()> {
    let header: &TrackHeader = report.header;
    print(&json::header(header)?)?;
    for round in report.recorded {
        print(&json::round(round)?)?;
    }
    match report.ending.and_then(Ending::summary) {
        Some(summary) => print(&json::summary(summary)?),
        None => Ok(()),
    }
}

/// JSON has no place for it.
fn remark(name: &str, ending: Option<&Ending>) {
    if let Some(remark) = ending.and_then(Ending::remark) {
        eprintln!("tracker: {name}: {remark}");
    }
}

fn text(report: &Report<'_>, picture: Option<&Picture>) -> String {
    let map = match picture {
        Some(picture) => format!("The heat map is in {}.\n", picture.path.display()),
        None => heat_map(report, terminal::width(), terminal::shades()),
    };
    let parts = [
        tables::totals(report),
        tables::mappings(report),
        tables::rounds(report),
        tables::legend(),
        map,
    ];
    parts.join("\n")
}

fn draw(report: &Report<'_>, picture: &Picture) -> anyhow::Result<()> {
    let svg = picture::svg(report);
    let bytes = match picture.format {
        Format::Svg => svg.into_bytes(),
        Format::Png => {
            picture::png(&svg).with_context(|| format!("cannot draw {}", picture.path.display()))?
        }
    };
    replace(&picture.path, &bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn the_name_of_a_picture_says_its_format() {
        assert_eq!(picture_file("a.b/heat.svg").unwrap().format, Format::Svg);
        assert_eq!(picture_file("HEAT.PNG").unwrap().format, Format::Png);
        for wrong in ["heat", "heat.jpg", "svg", ".png", ""] {
            let error = picture_file(wrong).map(|picture| picture.format);
            assert!(error.is_err(), "{wrong}");
        }
    }
}
