//! Shared memory, by what its pages are.

use std::cmp::Reverse;

use crate::print::table::TableHead::{Left, Right};
use crate::print::table::TextTable;
use crate::print::words::{number, printable, size};
use crate::track::report::RecordingReport;
use crate::track::report::shared::FileCounts;

/// Files in the table; the rest is summed up.
const FILES: usize = 25;

/// Files by pages written; empty if there is no shared memory.
pub(crate) fn shared(report: &RecordingReport<'_>) -> String {
    let mut files: Vec<_> = report
        .files
        .iter()
        .map(|file| (file, file.pages()))
        .collect();
    if files.is_empty() {
        return String::new();
    }
    files.sort_by_key(|(file, pages)| (Reverse((file.written, pages.set)), file.file));
    let mut table = TextTable::new(&[
        Right("DEVICE"),
        Right("INODE"),
        Right("FROM"),
        Right("TRACKED"),
        Right("MAPPED"),
        Right("WRITTEN"),
        Right("DIFFERENT"),
        Right("HOT"),
        Right("ONCE"),
        Right("UNKNOWN"),
        Right("ROUNDS"),
        Left("NAME"),
    ]);
    for (file, pages) in files.iter().take(FILES) {
        let (major, minor) = file.file.device;
        table.row([
            format!("{major}:{minor}"),
            file.file.inode.to_string(),
            format!("{:#x}", file.offsets.start),
            size(file.tracked as f64),
            format!("{}x", file.mapped),
            number(file.written),
            number(pages.set),
            number(pages.hot),
            number(pages.once),
            number(pages.unknown),
            format!("{}/{}", file.rounds_written, file.rounds),
            printable(&name(file)),
        ]);
    }
    let rest = files.get(FILES..).unwrap_or_default();
    let head = "Shared memory, whose pages are one wherever they are mapped:\n";
    head.to_owned() + &table.text() + &rest_of(rest.iter().map(|(file, _)| file.written))
}

/// Those that have no row.
fn rest_of(written: impl ExactSizeIterator<Item = u64>) -> String {
    let more = written.len();
    let pages = number(written.fold(0, u64::saturating_add));
    match more {
        0 => String::new(),
        _ => format!("and {more} more with {pages} pages written\n"),
    }
}

fn name(file: &FileCounts) -> String {
    match file.names.as_slice() {
        [] => "[anon]".to_owned(),
        names => names.join(", "),
    }
}
