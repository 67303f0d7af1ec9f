//! Tracking as JSON: one object a line. docs/recording.md describes the keys.
//!
//! Structs of their own, apart from the model: other programs rely on the keys.

use std::io::{self, Write};

use pages::track::{
    HugePageChange, MappingRound, PageExtent, ProcessRound, SessionEvent, SharedPlace, TrackEnd,
    TrackHeader, TrackNote, TrackRound, TrackSummary, TrackedMapping, TrackedPages, UntrackedPages,
};
use serde::{Serialize, Serializer};

use crate::print::clock::rfc3339;
use crate::print::json::{JsonAddress, line};

/// A header as one line, with its line feed.
///
/// # Errors
/// None that our types allow.
pub(crate) fn header(header: &TrackHeader) -> serde_json::Result<String> {
    let TrackHeader {
        pid,
        comm,
        command,
        strategy,
        reason,
        interval,
        began,
        kernel,
        tracker,
        stopped,
        notes,
    } = header;
    line(&TrackLine::Header {
        pid: *pid,
        comm,
        command,
        strategy,
        reason,
        interval_seconds: interval.as_secs_f64(),
        began: rfc3339(*began),
        kernel,
        tracker,
        stopped_seconds: stopped.map(|stopped| stopped.as_secs_f64()),
        notes,
    })
}

/// A round as one line, with its line feed.
///
/// # Errors
/// None that our types allow.
pub(crate) fn round(round: &TrackRound) -> serde_json::Result<String> {
    line(&round_line(round))
}

/// Writes a round as one line, and holds none of it.
///
/// # Errors
/// If it cannot be written.
pub(crate) fn write_round(out: &mut impl Write, round: &TrackRound) -> io::Result<()> {
    serde_json::to_writer(&mut *out, &round_line(round))?;
    out.write_all(b"\n")
}

fn round_line(round: &TrackRound) -> TrackLine<'_> {
    let TrackRound {
        number,
        at,
        lasted,
        took,
        mappings,
        children,
        not_looked_at,
        events,
        // Of the process as it is, and not of what was written.
        mapping_count: _,
    } = round;
    TrackLine::Round {
        number: *number,
        at_seconds: at.as_secs_f64(),
        lasted_seconds: lasted.as_secs_f64(),
        took_seconds: took.as_secs_f64(),
        mappings: JsonList(mappings),
        children: JsonList(children),
        not_looked_at,
        events,
    }
}

/// A summary as one line, with its line feed.
///
/// # Errors
/// None that our types allow.
pub(crate) fn summary(summary: &TrackSummary) -> serde_json::Result<String> {
    let TrackSummary {
        rounds,
        lasted,
        written_set,
        written,
        unknown_set,
        tracked,
        shared,
        not_looked_at,
        took,
        end,
        status,
        huge_pages,
    } = summary;
    line(&TrackLine::Summary {
        rounds: *rounds,
        lasted_seconds: lasted.as_secs_f64(),
        written_set: *written_set,
        written: *written,
        unknown_set: *unknown_set,
        tracked: *tracked,
        shared: *shared,
        not_looked_at,
        took_seconds: took.as_secs_f64(),
        end: end_name(*end),
        status: *status,
        anon_huge_bytes: huge_pages
            .map(|HugePageChange { before, after }| JsonHugePages { before, after }),
    })
}

/// Why tracking ended, in one word.
pub(crate) fn end_name(end: TrackEnd) -> &'static str {
    match end {
        TrackEnd::Done => "done",
        TrackEnd::Interrupted => "interrupted",
        TrackEnd::Exited => "exited",
    }
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum TrackLine<'a> {
    Header {
        pid: u32,
        comm: &'a str,
        command: &'a [String],
        strategy: &'a str,
        reason: &'a str,
        interval_seconds: f64,
        began: Option<String>,
        kernel: &'a str,
        tracker: &'a str,
        stopped_seconds: Option<f64>,
        notes: &'a [TrackNote],
    },
    Round {
        number: u64,
        at_seconds: f64,
        lasted_seconds: f64,
        took_seconds: f64,
        mappings: JsonList<'a, MappingRound>,
        children: JsonList<'a, ProcessRound>,
        not_looked_at: &'a UntrackedPages,
        events: &'a [SessionEvent],
    },
    Summary {
        rounds: u64,
        lasted_seconds: f64,
        written_set: u64,
        written: u64,
        unknown_set: u64,
        tracked: u64,
        shared: u64,
        not_looked_at: &'a UntrackedPages,
        took_seconds: f64,
        end: &'static str,
        status: Option<i32>,
        #[serde(skip_serializing_if = "Option::is_none")]
        anon_huge_bytes: Option<JsonHugePages>,
    },
}

#[derive(Serialize)]
struct JsonHugePages {
    before: u64,
    after: u64,
}

/// A list of which one element at a time becomes JSON: a round may be large.
struct JsonList<'a, T>(&'a [T]);

impl Serialize for JsonList<'_, MappingRound> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(JsonMappingRound::from))
    }
}

impl Serialize for JsonList<'_, ProcessRound> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(JsonProcessRound::from))
    }
}

impl Serialize for JsonList<'_, PageExtent> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(JsonExtent::from))
    }
}

#[derive(Serialize)]
struct JsonMappingRound<'a> {
    start: JsonAddress,
    end: JsonAddress,
    name: &'a str,
    backing: &'static str,
    page_bytes: u64,
    shared: Option<JsonSharedPlace>,
    pages: JsonPages,
    written: JsonList<'a, PageExtent>,
}

/// The mappings of a child.
#[derive(Serialize)]
struct JsonProcessRound<'a> {
    pid: u32,
    comm: &'a str,
    mappings: JsonList<'a, MappingRound>,
}

impl<'a> From<&'a ProcessRound> for JsonProcessRound<'a> {
    fn from(child: &'a ProcessRound) -> Self {
        let ProcessRound {
            pid,
            comm,
            mappings,
        } = child;
        Self {
            pid: *pid,
            comm,
            mappings: JsonList(mappings),
        }
    }
}

/// Where the pages of shared memory are.
#[derive(Serialize)]
struct JsonSharedPlace {
    device: String,
    inode: String,
    offset: JsonAddress,
}

#[derive(Serialize)]
struct JsonPages {
    tracked: u64,
    armed: u64,
    written: u64,
    unknown: u64,
    touched: Option<u64>,
    zapped: Option<u64>,
    moved: Option<u64>,
    vanished: u64,
}

#[derive(Serialize)]
struct JsonExtent {
    start: JsonAddress,
    pages: u64,
    unit_bytes: u64,
    unknown: bool,
}

impl<'a> From<&'a MappingRound> for JsonMappingRound<'a> {
    fn from(told: &'a MappingRound) -> Self {
        let TrackedMapping {
            start,
            end,
            name,
            backing,
            page_size,
            shared,
        } = &*told.mapping;
        let TrackedPages {
            tracked,
            armed,
            written,
            unknown,
            touched,
            zapped,
            moved,
            vanished,
        } = told.pages;
        Self {
            start: JsonAddress(*start),
            end: JsonAddress(*end),
            name,
            backing: backing.as_str(),
            page_bytes: *page_size,
            shared: shared.map(JsonSharedPlace::from),
            pages: JsonPages {
                tracked,
                armed,
                written,
                unknown,
                touched,
                zapped,
                moved,
                vanished,
            },
            written: JsonList(&told.written),
        }
    }
}

impl From<SharedPlace> for JsonSharedPlace {
    fn from(place: SharedPlace) -> Self {
        let (major, minor) = place.device;
        Self {
            device: format!("{major}:{minor}"),
            inode: place.inode.to_string(),
            offset: JsonAddress(place.offset),
        }
    }
}

impl From<&PageExtent> for JsonExtent {
    fn from(extent: &PageExtent) -> Self {
        Self {
            start: JsonAddress(extent.range.start),
            pages: extent.pages(),
            unit_bytes: extent.unit,
            unknown: extent.unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::track::sample;

    #[test]
    fn each_is_one_object_on_one_line() {
        let plans: Vec<_> = sample::database().into_iter().skip(6).take(1).collect();
        let rounds = sample::rounds(&plans, 3);
        let mut header_of = sample::header("a\nb");
        let note = TrackNote::Recorded("say \"hi\"".into());
        header_of.notes.push(note);
        let lines = [
            header(&header_of).unwrap(),
            round(&rounds[0]).unwrap(),
            round(&rounds[1]).unwrap(),
            summary(&sample::summary(&rounds)).unwrap(),
        ];
        for line in &lines {
            assert_eq!(line.matches('\n').count(), 1);
            assert!(
                serde_json::from_str::<serde_json::Value>(line)
                    .unwrap()
                    .is_object()
            );
        }
        insta::assert_snapshot!(lines.concat());
    }
}
