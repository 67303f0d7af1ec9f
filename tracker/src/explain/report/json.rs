//! What explaining found as JSON: one object a line. docs/explain.md describes the keys.
//!
//! Structs of their own, apart from the model: other programs rely on the keys.

use std::collections::{BTreeMap, BTreeSet};

use pages::track::{SessionEvent, TrackHeader, TrackNote, TrackedMapping, UntrackedPages};
use serde::Serialize;
use uffd::pages_in;

use super::headline::headline;
use super::interval::wilson;
use super::location::CodeLocation;
use super::matrix::AnswerMatrix;
use super::{ExplainReport, ExplainReports, audit_json, spots};
use crate::explain::{
    AgainstFindings, CodePlace, ExplainFindings, MissedPages, MissedRange, PlaceId, ReportAnswer,
    ReportCause, ReportOwner, ReportVerdict, RoundFindings, SecondOnly, StackFrame, UnknownReason,
    VmaFindings,
};
use crate::print::clock::rfc3339;
use crate::print::json::{JsonAddress, line};
use crate::track::json::end_name;

/// What the lines mean: another number if a key goes or means something else. 2: rounds come as they
/// are made, each with what it missed.
const VERSION: u32 = 2;

/// What is known before the first round, as one line with its line feed.
///
/// # Errors
/// None that our types allow.
pub(crate) fn header(
    header: &TrackHeader,
    findings: &ExplainFindings,
) -> serde_json::Result<String> {
    let (seen, sampling) = (&findings.seen, findings.sampling);
    let header = ExplainLine::Header {
        version: VERSION,
        pid: header.pid,
        comm: &header.comm,
        command: &header.command,
        strategy: &header.strategy,
        reason: &header.reason,
        interval_seconds: header.interval.as_secs_f64(),
        began: rfc3339(header.began),
        kernel: &header.kernel,
        tracker: &header.tracker,
        notes: &header.notes,
        all_causes_seen: seen.is_complete(),
        not_seen: seen.told(),
        sample_one_of: sampling.one_of,
    };
    of(findings.owner, header)
}

/// A line, with whose reports it is about.
pub(super) fn of(owner: ReportOwner, content: impl Serialize) -> serde_json::Result<String> {
    let of = owner.as_str();
    line(&OwnedLine { content, of })
}

/// A round as one line, and one for each range that it found to be missed, each with its line feed.
///
/// # Errors
/// None that our types allow.
pub(crate) fn round(
    owner: ReportOwner,
    round: &RoundFindings,
    missed: &[MissedRange],
) -> serde_json::Result<String> {
    let mut text = of(owner, round_line(round))?;
    for (mapping, missed) in missed {
        text += &of(owner, of_missed(mapping, missed))?;
    }
    Ok(text)
}

/// What is known of all reports after the last round.
///
/// # Errors
/// None that our types allow.
pub(crate) fn rest_of_all(reports: &ExplainReports<'_>) -> serde_json::Result<String> {
    reports.iter().map(rest).collect()
}

/// What is known after the last round, each line with its line feed: pages, places, writers, story,
/// audit, second strategy, summary.
///
/// # Errors
/// None that our types allow.
pub(super) fn rest(report: &ExplainReport<'_>) -> serde_json::Result<String> {
    let findings = report.findings;
    let owned = |content| of(findings.owner, content);
    let mut text = String::new();
    for vma in &findings.vmas {
        for (why, pages) in AnswerMatrix::new(&vma.tally).iter() {
            text += &owned(of_vma(vma, why, pages))?;
        }
    }
    let mut threads: BTreeMap<PlaceId, BTreeSet<String>> = BTreeMap::new();
    for (id, _, name) in spots::threads(findings).into_keys() {
        threads.entry(id).or_default().insert(name.to_string());
    }
    for (id, tally) in &findings.places {
        let (pages, names) = (
            AnswerMatrix::new(tally),
            threads.remove(id).unwrap_or_default(),
        );
        let (stack, names) = (findings.stacks.get(id), names.into_iter().collect());
        text += &owned(place(*id, &pages, stack, names))?;
    }
    text += &writers(report)?;
    for told in findings.story.iter().flat_map(|story| &story.lines) {
        let page = findings.story.as_ref().map_or(0, |story| story.page);
        text += &owned(ExplainLine::Story {
            page: JsonAddress(page),
            at_seconds: told.at.as_secs_f64(),
            what: &told.what,
            place: told.place.map(|id| id.0),
        })?;
    }
    text += &audit_json::lines(report)?;
    if let Some(against) = &findings.against {
        text += &owned(of_against(against))?;
    }
    Ok(text + &owned(summary(report))?)
}

fn round_line(round: &RoundFindings) -> ExplainLine<'_> {
    let pages = AnswerMatrix::new(&round.tally);
    ExplainLine::Round {
        number: round.number,
        at_seconds: round.at.as_secs_f64(),
        left_out: round.delay.left_out,
        late_seconds: round.delay.late.as_secs_f64(),
        took_seconds: round.took.as_secs_f64(),
        reported: pages.all(),
        verdicts: verdicts(&pages),
        causes: causes(&pages),
        missed: round.missed,
        verified: round.verified,
        dropped: round.dropped,
        not_looked_at: &round.not_looked_at,
        events: &round.events,
    }
}

/// A line of the output.
#[derive(Serialize)]
struct OwnedLine<T> {
    #[serde(flatten)]
    content: T,
    of: &'static str,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum ExplainLine<'a> {
    Header {
        version: u32,
        pid: u32,
        comm: &'a str,
        command: &'a [String],
        strategy: &'a str,
        reason: &'a str,
        interval_seconds: f64,
        began: Option<String>,
        kernel: &'a str,
        tracker: &'a str,
        notes: &'a [TrackNote],
        all_causes_seen: bool,
        not_seen: Vec<String>,
        sample_one_of: u64,
    },
    Round {
        number: u64,
        at_seconds: f64,
        left_out: u64,
        late_seconds: f64,
        took_seconds: f64,
        reported: u64,
        verdicts: BTreeMap<&'static str, u64>,
        causes: BTreeMap<&'static str, u64>,
        missed: u64,
        verified: u64,
        dropped: u64,
        not_looked_at: &'a UntrackedPages,
        events: &'a [SessionEvent],
    },
    Pages {
        #[serde(flatten)]
        mapping: JsonMapping<'a>,
        flags: &'a str,
        verdict: &'static str,
        cause: &'static str,
        pages: u64,
    },
    Place {
        place: u32,
        r#where: Option<String>,
        pages: Vec<JsonAnswer>,
        threads: Vec<String>,
        syscall: Option<&'a str>,
        user: Vec<JsonFrame<'a>>,
        kernel: Vec<JsonFrame<'a>>,
    },
    Writer {
        rank: Option<usize>,
        r#where: Option<String>,
        cause: &'static str,
        pages: u64,
        verdicts: BTreeMap<&'static str, u64>,
        threads: &'a [String],
        places: Vec<u32>,
    },
    Missed {
        round: u64,
        #[serde(flatten)]
        mapping: JsonMapping<'a>,
        first: JsonAddress,
        pages: u64,
        zeroed: bool,
        candidates: Vec<&'static str>,
    },
    Story {
        page: JsonAddress,
        at_seconds: f64,
        what: &'a str,
        place: Option<u32>,
    },
    Against {
        strategy: &'a str,
        both: u64,
        only_here: Vec<JsonAnswer>,
        only_there: BTreeMap<&'static str, u64>,
    },
    Summary {
        answer: Vec<String>,
        end: Option<&'static str>,
        rounds: usize,
        left_out: u64,
        late_seconds: f64,
        lasted_seconds: f64,
        reported: u64,
        compared: u64,
        unchanged_share: Option<f64>,
        unchanged_share_low: Option<f64>,
        unchanged_share_high: Option<f64>,
        verdicts: BTreeMap<&'static str, u64>,
        causes: BTreeMap<&'static str, u64>,
        verdict_unknown: BTreeMap<&'static str, u64>,
        cause_unknown: BTreeMap<&'static str, u64>,
        missed: u64,
        verified: u64,
        not_rearmed: u64,
        perhaps_reported: u64,
        never_observed: u64,
        tracked: u64,
        not_looked_at: &'a UntrackedPages,
        events: u64,
        dropped: u64,
        memory_bytes: u64,
        hashed_bytes: u64,
        took_seconds: f64,
        naming_seconds: f64,
        naming_in_rounds_seconds: f64,
        all_causes_seen: bool,
        not_seen: Vec<String>,
        notes: &'a [TrackNote],
    },
}

#[derive(Serialize)]
struct JsonMapping<'a> {
    start: JsonAddress,
    end: JsonAddress,
    name: &'a str,
    backing: &'static str,
    page_bytes: u64,
}

#[derive(Serialize)]
struct JsonAnswer {
    verdict: &'static str,
    cause: &'static str,
    pages: u64,
}

#[derive(Serialize)]
struct JsonFrame<'a> {
    address: JsonAddress,
    function: &'a str,
    file: Option<&'a str>,
    line: Option<u32>,
    module: &'a str,
    inlined: bool,
}

impl From<(ReportAnswer, u64)> for JsonAnswer {
    fn from((why, pages): (ReportAnswer, u64)) -> Self {
        Self {
            verdict: why.verdict.as_str(),
            cause: why.cause.as_str(),
            pages,
        }
    }
}

impl<'a> From<&'a TrackedMapping> for JsonMapping<'a> {
    fn from(mapping: &'a TrackedMapping) -> Self {
        Self {
            start: JsonAddress(mapping.start),
            end: JsonAddress(mapping.end),
            name: &mapping.name,
            backing: mapping.backing.as_str(),
            page_bytes: mapping.page_size,
        }
    }
}

impl<'a> From<&'a StackFrame> for JsonFrame<'a> {
    fn from(frame: &'a StackFrame) -> Self {
        let line = frame.line.as_ref();
        Self {
            address: JsonAddress(frame.address),
            function: &frame.function,
            file: line.map(|(file, _)| file.as_str()),
            line: line.map(|(_, line)| *line),
            module: &frame.module,
            inlined: frame.inlined,
        }
    }
}

fn of_vma(vma: &VmaFindings, why: ReportAnswer, pages: u64) -> ExplainLine<'_> {
    ExplainLine::Pages {
        mapping: JsonMapping::from(&*vma.mapping),
        flags: &vma.flags,
        verdict: why.verdict.as_str(),
        cause: why.cause.as_str(),
        pages,
    }
}

fn place<'a>(
    id: PlaceId,
    pages: &AnswerMatrix,
    place: Option<&'a CodePlace>,
    threads: Vec<String>,
) -> ExplainLine<'a> {
    let frames = |of: fn(&CodePlace) -> &Vec<StackFrame>| {
        let frames = place.into_iter().flat_map(of);
        frames.map(JsonFrame::from).collect()
    };
    ExplainLine::Place {
        place: id.0,
        r#where: place.map(|place| CodeLocation::new(place).to_string()),
        pages: pages.iter().map(JsonAnswer::from).collect(),
        threads,
        syscall: place.and_then(|place| place.syscall.as_deref()),
        user: frames(|place| &place.user),
        kernel: frames(|place| &place.kernel),
    }
}

/// A line for each code location, those with most reported pages first, and one for each cause of
/// pages of which no code is known: they add up to the reported pages.
fn writers(report: &ExplainReport<'_>) -> serde_json::Result<String> {
    let owned = |content| of(report.findings.owner, content);
    let mut text = String::new();
    let top = report.writers();
    for (rank, spot) in (1..).zip(&top.spots) {
        text += &owned(ExplainLine::Writer {
            rank: Some(rank),
            r#where: Some(spot.location.to_string()),
            cause: spot.cause.as_str(),
            pages: spot.pages.all(),
            verdicts: verdicts(&spot.pages),
            threads: &spot.threads,
            places: spot.places.iter().map(|id| id.0).collect(),
        })?;
    }
    for cause in top.nowhere_causes() {
        let mut pages = AnswerMatrix::default();
        let of_cause = top.nowhere.iter().filter(|(why, _)| why.cause == cause);
        of_cause.for_each(|(why, count)| pages.add(why, count));
        text += &owned(ExplainLine::Writer {
            rank: None,
            r#where: None,
            cause: cause.as_str(),
            pages: pages.all(),
            verdicts: verdicts(&pages),
            threads: &[],
            places: Vec::new(),
        })?;
    }
    Ok(text)
}

fn of_missed<'a>(mapping: &'a TrackedMapping, missed: &MissedPages) -> ExplainLine<'a> {
    ExplainLine::Missed {
        round: missed.round,
        mapping: JsonMapping::from(mapping),
        first: JsonAddress(missed.range.start),
        pages: pages_in(&missed.range),
        zeroed: missed.zeroed,
        candidates: missed.candidates.iter().map(|c| c.as_str()).collect(),
    }
}

fn summary<'a>(report: &ExplainReport<'a>) -> ExplainLine<'a> {
    let (findings, pages) = (report.findings, &report.pages);
    let (unchanged, compared) = (pages.verdict(ReportVerdict::Unchanged), pages.compared());
    let interval = wilson(unchanged, compared);
    let sampled = interval.filter(|_| findings.sampling.one_of > 1);
    ExplainLine::Summary {
        answer: headline(report),
        end: findings.end.map(|end| end_name(end.why)),
        rounds: findings.rounds.len(),
        left_out: findings.left_out(),
        late_seconds: findings.latest().as_secs_f64(),
        lasted_seconds: report.lasted.as_secs_f64(),
        reported: pages.all(),
        compared,
        unchanged_share: interval.map(|_| unchanged as f64 / compared as f64),
        unchanged_share_low: sampled.map(|(low, _)| low),
        unchanged_share_high: sampled.map(|(_, high)| high),
        verdicts: verdicts(pages),
        causes: causes(pages),
        verdict_unknown: reasons(&findings.verdict_unknown),
        cause_unknown: reasons(&findings.cause_unknown),
        missed: report.missed_pages,
        verified: findings.verified,
        not_rearmed: findings.not_rearmed,
        perhaps_reported: findings.perhaps_reported,
        never_observed: findings.never_observed,
        tracked: findings.tracked,
        not_looked_at: &findings.not_looked_at,
        events: findings.events,
        dropped: findings.dropped,
        memory_bytes: findings.memory,
        hashed_bytes: findings.hashed,
        took_seconds: findings.took.as_secs_f64(),
        naming_seconds: findings.naming.after.as_secs_f64(),
        naming_in_rounds_seconds: findings.naming.during.as_secs_f64(),
        all_causes_seen: findings.seen.is_complete(),
        not_seen: findings.seen.told(),
        notes: &findings.header.notes,
    }
}

fn of_against(against: &AgainstFindings) -> ExplainLine<'_> {
    let only_here = against.only_here.iter();
    let there = |why| against.only_there.get(why).copied().unwrap_or_default();
    ExplainLine::Against {
        strategy: against.strategy.as_str(),
        both: against.both,
        only_here: only_here
            .map(|(why, pages)| JsonAnswer::from((*why, *pages)))
            .collect(),
        only_there: SecondOnly::ALL
            .iter()
            .map(|why| (why.as_str(), there(why)))
            .collect(),
    }
}

/// Pages by verdict, also by those without pages: a reader need not ask whether a key is there.
fn verdicts(pages: &AnswerMatrix) -> BTreeMap<&'static str, u64> {
    let all = ReportVerdict::ALL.iter();
    all.map(|v| (v.as_str(), pages.verdict(*v))).collect()
}

/// Pages by cause, in the same way.
fn causes(pages: &AnswerMatrix) -> BTreeMap<&'static str, u64> {
    let all = ReportCause::ALL.iter();
    all.map(|c| (c.as_str(), pages.cause(*c))).collect()
}

fn reasons(counts: &BTreeMap<UnknownReason, u64>) -> BTreeMap<&'static str, u64> {
    let all = counts.iter();
    all.map(|(reason, pages)| (reason.as_str(), *pages))
        .collect()
}
