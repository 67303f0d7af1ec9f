//! The heat map in a terminal, or in a file that shows one.

use std::fmt::Write as _;

use super::RecordingReport;
use super::heat::{ShareCell, share_map};
use crate::print::heat::HeatMap;
use crate::print::terminal::{CellSign, TerminalCanvas, TerminalShades};
use crate::print::words::{count, number, size};
use crate::track::recording::RecordingError;

/// The heat map, in lines of at most `width` characters.
///
/// # Errors
/// If the recording cannot be read again.
pub(crate) fn heat_map(
    report: &RecordingReport<'_>,
    width: usize,
    shades: TerminalShades,
) -> Result<String, RecordingError> {
    let canvas = TerminalCanvas::new(width, shades);
    let map = share_map(report, canvas.room())?;
    if map.bands.is_empty() {
        let why = if map.columns.is_empty() {
            "the recording holds no round"
        } else {
            "no page was written"
        };
        return Ok(why.to_owned() + "\n");
    }
    Ok(canvas.map(&map, sign) + &legend(&canvas, &map))
}

fn sign(cell: &ShareCell) -> CellSign {
    match cell.share() {
        None => CellSign::Blank,
        Some(0.0) if cell.unknown > 0.0 => CellSign::Unknown,
        Some(0.0) => CellSign::Idle,
        Some(share) => CellSign::Share(share),
    }
}

fn legend(canvas: &TerminalCanvas, map: &HeatMap<ShareCell>) -> String {
    let mut text = format!(
        "share of pages written in a round: {}{} not written",
        canvas.scale(),
        canvas.idle()
    );
    if map.bands.iter().any(|band| band.area.unknown > 0) {
        text.push_str("  ? not known");
    }
    text.push_str("  blank: not mapped\n");
    let (never, pages) = map.never;
    if never > 0 {
        let (never, size) = (count(never, "mapping"), size(pages as f64));
        let _ = writeln!(text, "not shown: {never} never seen to be written ({size})");
    }
    let (fewer, pages) = map.fewer;
    if fewer > 0 {
        let (fewer, pages) = (count(fewer, "mapping"), number(pages));
        let _ = writeln!(
            text,
            "not shown: {fewer} with the fewest pages written ({pages})"
        );
    }
    text
}
