//! Rounds as lines, and on a terminal the busiest mappings below them.

use std::fmt::Write as _;
use std::path::PathBuf;

use crate::print::clock::of_the_time;
use crate::print::words::{count, counted, number, printable, size};
use pages::track::{
    MappingRound, TrackEnd, TrackHeader, TrackRound, TrackSummary, TrackedPages, WorkingSet,
};

/// Mappings shown on a terminal.
const SHOWN: usize = 8;
/// Rounds after which the heads are printed again.
const REPEAT: u64 = 20;

/// The table, line by line.
pub(crate) struct LiveTable {
    is_terminal: bool,
    /// Lines below the last round, which the next one replaces.
    below: usize,
}

impl LiveTable {
    /// A table with no lines yet.
    pub(crate) const fn new(is_terminal: bool) -> Self {
        let below = 0;
        Self { is_terminal, below }
    }

    /// What is tracked, and how.
    pub(crate) fn begin(&self, header: &TrackHeader, first: &TrackRound) -> String {
        let mut text = format!(
            "{} (pid {}): strategy {} ({})",
            printable(&header.comm),
            header.pid,
            header.strategy,
            header.reason
        );
        if let Some(stopped) = header.stopped {
            let _ = write!(
                text,
                "; stopped for {:.2} ms to attach",
                stopped.as_secs_f64() * 1e3
            );
        }
        text.push('\n');
        let notes = header.notes.iter();
        for note in counted(notes.map(|note| printable(&note.to_string()))) {
            let _ = writeln!(text, "note: {note}");
        }
        let sum = sum(first);
        let _ = writeln!(
            text,
            "armed {} in {} mappings in {:.1} ms; {} were there before and are unknown",
            pages(sum.armed),
            first.all_mappings().count(),
            first.took.as_secs_f64() * 1e3,
            pages(sum.unknown),
        );
        if first.not_looked_at.total() != 0 {
            let _ = writeln!(text, "not looked at: {}", first.not_looked_at);
        }
        text.push('\n');
        text
    }

    /// One line, and on a terminal what was written where.
    pub(crate) fn round(&mut self, round: &TrackRound, set: &WorkingSet) -> String {
        let mut text = self.clear();
        if round.number % REPEAT == 1 {
            let _ = writeln!(
                text,
                "{:>6} {:>9} {:>10} {:>12} {:>9} {:>9} {:>9} {:>12} {:>12} {:>9}",
                "ROUND",
                "AT",
                "WRITTEN",
                "RATE",
                "UNKNOWN",
                "ZAPPED",
                "UNMAPPED",
                "DIFFERENT",
                "TRACKED",
                "TOOK"
            );
        }
        for event in &round.events {
            let _ = writeln!(text, "     * {}", printable(&event.to_string()));
        }
        let sum = sum(round);
        let rate = sum.written as f64 / round.lasted.as_secs_f64().max(1e-9);
        let _ = writeln!(
            text,
            "{:>6} {:>8.2}s {:>10} {:>10}/s {:>9} {:>9} {:>9} {:>12} {:>12} {:>7.1}ms",
            round.number,
            round.at.as_secs_f64(),
            number(sum.written),
            size(rate),
            sum.unknown,
            sum.zapped
                .map_or_else(|| "-".to_owned(), |zapped| zapped.to_string()),
            sum.vanished,
            size(set.pages() as f64),
            size(sum.tracked as f64),
            round.took.as_secs_f64() * 1e3,
        );
        if self.is_terminal {
            let below = busiest(round);
            self.below = below.lines().count();
            text += &below;
        }
        text
    }

    /// The totals.
    pub(crate) fn end(&mut self, summary: &TrackSummary, recorded: &[PathBuf]) -> String {
        let mut text = self.clear();
        let seconds = summary.lasted.as_secs_f64();
        let end = match summary.end {
            TrackEnd::Done => "done",
            TrackEnd::Interrupted => "interrupted",
            TrackEnd::Exited => "the process has ended",
        };
        let _ = writeln!(
            text,
            "\n{end}: {} in {seconds:.1} s\n  written       {}, reported {} times in all, of \
             at most {} tracked",
            count(summary.rounds as usize, "round"),
            pages(summary.written_set),
            number(summary.written),
            size(summary.tracked as f64),
        );
        let _ = writeln!(
            text,
            "  unknown       {}, never reported as written",
            pages(summary.unknown_set)
        );
        if summary.shared != 0 {
            let shared = pages(summary.shared);
            let _ = writeln!(
                text,
                "  shared        {shared} of those tracked are shared memory"
            );
        }
        if summary.not_looked_at.total() != 0 {
            let _ = writeln!(text, "  not looked at {}", summary.not_looked_at);
        }
        let took = summary.took.as_secs_f64();
        // The first arming alone is no share of anything.
        let has_rounds = summary.rounds != 0;
        let share = has_rounds.then(|| of_the_time(summary.took, summary.lasted));
        let _ = writeln!(
            text,
            "  reading took  {took:.3} s{}",
            share.map_or_else(String::new, |share| format!(", {share}"))
        );
        if let Some(status) = summary.status {
            let _ = writeln!(text, "  exit status   {status}");
        }
        for path in recorded {
            let path = path.display();
            let _ = writeln!(text, "recorded to {path}; see: tracker report {path}");
        }
        text
    }

    /// Takes the lines below the last round off the terminal.
    fn clear(&mut self) -> String {
        match std::mem::take(&mut self.below) {
            0 => String::new(),
            lines => format!("\x1b[{lines}A\x1b[J"),
        }
    }
}

/// The mappings with most written and unknown pages.
fn busiest(round: &TrackRound) -> String {
    let mut busy: Vec<&MappingRound> = round
        .all_mappings()
        .filter(|row| row.pages.written + row.pages.unknown != 0)
        .collect();
    busy.sort_by_key(|row| std::cmp::Reverse(row.pages.written + row.pages.unknown));
    let mut text = String::from("\n");
    for row in busy.iter().take(SHOWN) {
        let mapping = &row.mapping;
        let _ = writeln!(
            text,
            "  {:>#15x} {:<7} {:>10} written {:>8} unknown of {:>10}  {}",
            mapping.start,
            mapping.backing.as_str(),
            row.pages.written,
            row.pages.unknown,
            row.pages.tracked,
            printable(&mapping.name)
        );
    }
    if busy.len() > SHOWN {
        let _ = writeln!(text, "  and {} others", busy.len() - SHOWN);
    }
    text
}

/// All mappings of a round together.
fn sum(round: &TrackRound) -> TrackedPages {
    let mut sum = TrackedPages::default();
    for row in round.all_mappings() {
        let pages = &row.pages;
        sum.tracked += pages.tracked;
        sum.armed += pages.armed;
        sum.written += pages.written;
        sum.unknown += pages.unknown;
        sum.vanished += pages.vanished;
        if let Some(zapped) = pages.zapped {
            *sum.zapped.get_or_insert(0) += zapped;
        }
    }
    sum
}

fn pages(count: u64) -> String {
    format!("{} pages ({})", number(count), size(count as f64))
}
