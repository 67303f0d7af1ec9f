//! The parts of the page, as texts.

use uffd::pages_in;

use crate::explain::advice::CauseAdvice;
use crate::explain::report::location::{CodeLocation, is_helper, name};
use crate::explain::report::matrix::AnswerMatrix;
use crate::explain::report::missed::MissedGroup;
use crate::explain::report::spots::CodeSpot;
use crate::explain::report::stack::{kernel, place, told};
use crate::explain::report::writers::{StackList, TopWriters, WriterCounts};
use crate::explain::report::{ExplainReport, flags, name_of, picture, remarks};
use crate::explain::{ReportCause, ReportVerdict, StackFrame, UnknownReason, VmaFindings, advice};
use crate::print::words::{number, printable, share, size};

/// Mappings with missed pages shown.
const MISSED: usize = 40;
/// Characters of a kernel stack: a page has no narrow lines.
const KERNEL: usize = 2000;

/// A part of the bar of verdicts.
pub(super) struct ShareView {
    pub verdict: &'static str,
    pub fill: &'static str,
    pub x: String,
    pub width: String,
    pub share: String,
    pub pages: String,
    pub means: &'static str,
}

pub(super) struct MissedView {
    pub first: String,
    pub pages: String,
    pub zeroed: String,
    pub rounds: String,
    pub candidates: String,
    pub name: String,
}

pub(super) struct AdviceView {
    pub cause: ReportCause,
    pub pages: String,
    pub text: &'static str,
}

pub(super) struct CauseView {
    pub cause: ReportCause,
    pub counts: Vec<String>,
    pub pages: String,
    pub share: String,
    pub means: &'static str,
}

/// A row of the top writers.
pub(super) struct WriterView {
    pub pages: String,
    pub share: String,
    pub changed: String,
    pub unchanged: String,
    pub other: String,
    /// Empty for the sum of several.
    pub cause: String,
    pub function: String,
    pub place: String,
}

/// Stacks under a title.
pub(super) struct StackListView {
    pub title: &'static str,
    pub spots: Vec<SpotView>,
    pub more: String,
}

pub(super) struct SpotView {
    pub leading: String,
    pub cause: ReportCause,
    pub function: String,
    pub place: String,
    pub counts: String,
    pub threads: String,
    pub others: String,
    pub kernel: String,
    pub frames: Vec<FrameView>,
}

pub(super) struct FrameView {
    pub function: String,
    pub place: String,
    pub inlined: bool,
    pub helper: bool,
}

pub(super) struct VmaView {
    pub start: String,
    pub size: String,
    pub backing: &'static str,
    pub reported: String,
    pub unchanged: String,
    pub share: String,
    pub missed: String,
    pub name: String,
    pub flags: String,
    pub telling: Vec<(&'static str, &'static str)>,
}

pub(super) struct UnknownView {
    pub what: &'static str,
    pub reason: &'static str,
    pub pages: String,
    pub means: &'static str,
}

pub(super) fn bar(pages: &AnswerMatrix) -> Vec<ShareView> {
    let all = pages.all();
    let mut x = 0.0;
    let mut parts = Vec::new();
    for verdict in ReportVerdict::ALL {
        let count = pages.verdict(*verdict);
        if count == 0 {
            continue;
        }
        let width = count as f64 / all as f64 * 100.0;
        parts.push(ShareView {
            verdict: verdict.as_str(),
            fill: picture::fill(*verdict),
            x: format!("{x:.3}"),
            width: format!("{width:.3}"),
            share: share(count, all),
            pages: number(count),
            means: advice::verdict(*verdict),
        });
        x += width;
    }
    parts
}

pub(super) fn missed(report: &ExplainReport<'_>) -> Vec<MissedView> {
    let view = |group: &MissedGroup<'_>| {
        let candidates: Vec<_> = group.candidates.iter().map(|c| c.as_str()).collect();
        MissedView {
            first: format!("{:#x}", group.first),
            pages: number(group.pages),
            zeroed: number(group.zeroed),
            rounds: group.rounds(),
            candidates: candidates.join(", "),
            name: name_of(group.mapping),
        }
    };
    report.missed.iter().take(MISSED).map(view).collect()
}

pub(super) fn candidates(report: &ExplainReport<'_>) -> Vec<(&'static str, &'static str)> {
    let told = report.candidates().into_iter();
    told.map(|c| (c.as_str(), advice::candidate(c))).collect()
}

pub(super) fn advised((cause, pages, advice): (ReportCause, u64, CauseAdvice)) -> AdviceView {
    AdviceView {
        cause,
        pages: number(pages),
        text: advice.text(),
    }
}

pub(super) fn row(pages: &AnswerMatrix, cause: ReportCause) -> CauseView {
    let counts = ReportVerdict::ALL
        .iter()
        .map(|v| count(pages.at(cause, *v)));
    CauseView {
        cause,
        counts: counts.collect(),
        pages: number(pages.cause(cause)),
        share: share(pages.cause(cause), pages.all()),
        means: advice::cause(cause),
    }
}

fn count(pages: u64) -> String {
    if pages == 0 {
        "–".to_owned()
    } else {
        number(pages)
    }
}

/// Code locations by reported pages, so many at most, and what is left: all rows add up.
pub(super) fn writers(top: &TopWriters<'_, '_>, most: usize) -> Vec<WriterView> {
    let (shown, rest) = top.split(most);
    let view = |pages: &AnswerMatrix, cause: String, function: String, place: String| {
        let counts = WriterCounts::of(pages);
        WriterView {
            pages: number(counts.all),
            share: share(counts.all, top.all),
            changed: count(counts.changed),
            unchanged: count(counts.unchanged),
            other: count(counts.other),
            cause,
            function,
            place,
        }
    };
    let mut rows: Vec<_> = shown
        .iter()
        .map(|spot| {
            let function = spot.location.function.clone();
            let place = details(&spot.location);
            view(&spot.pages, spot.cause.to_string(), function, place)
        })
        .collect();
    let mut sum = |pages: &AnswerMatrix, place: String| {
        if pages.all() > 0 && !shown.is_empty() {
            rows.push(view(pages, String::new(), String::new(), place));
        }
    };
    let more = top.spots.len().saturating_sub(shown.len());
    sum(&rest, format!("{more} more places"));
    sum(&top.nowhere, remarks::nowhere(top));
    rows
}

/// The lists of stacks, so many in each at most.
pub(super) fn stack_lists(report: &ExplainReport<'_>, most: usize) -> Vec<StackListView> {
    let view = |list: &StackList<'_, '_>| StackListView {
        title: list.title,
        spots: list.shown.iter().map(|spot| spot_view(spot)).collect(),
        more: match list.others {
            0 => String::new(),
            more => format!(
                "and {more} more places with {} pages",
                number(list.other_pages)
            ),
        },
    };
    report.stacks(most).iter().map(view).collect()
}

/// What a location tells beside its function.
fn details(location: &CodeLocation) -> String {
    let via = location.via.as_ref().map(|via| format!("via {via}"));
    let syscall = location.syscall.as_ref();
    let syscall = syscall.map(|name| format!("in {name}(2)"));
    let caller = location.caller_unknown.then(|| "caller unknown".to_owned());
    let parts = [location.line.clone(), caller, via, syscall];
    let parts: Vec<_> = parts.into_iter().flatten().collect();
    parts.join(", ")
}

fn spot_view(spot: &CodeSpot<'_>) -> SpotView {
    let counts = WriterCounts::of(&spot.pages);
    let mut sums = format!(
        "{} unchanged, {} changed",
        number(counts.unchanged),
        number(counts.changed)
    );
    if counts.other > 0 {
        sums += &format!(", {} other", number(counts.other));
    }
    let stack = spot.place;
    SpotView {
        // What its list is sorted by.
        leading: number(match counts.unchanged {
            0 => counts.all,
            unchanged => unchanged,
        }),
        cause: spot.cause,
        function: spot.location.function.clone(),
        place: details(&spot.location),
        counts: sums,
        threads: spot.threads.join(", "),
        others: match spot.others() {
            0 => String::new(),
            1 => "1 other stack leads here".to_owned(),
            others => format!("{others} other stacks lead here"),
        },
        kernel: stack
            .and_then(|stack| kernel(stack, KERNEL))
            .unwrap_or_default(),
        frames: stack.map_or_else(Vec::new, |stack| {
            told(&stack.user).into_iter().map(frame_view).collect()
        }),
    }
}

fn frame_view(frame: &StackFrame) -> FrameView {
    FrameView {
        function: name(frame),
        place: place(frame),
        inlined: frame.inlined,
        helper: is_helper(frame),
    }
}

pub(super) fn vma_view((vma, pages): &(&VmaFindings, AnswerMatrix)) -> VmaView {
    let mapping = &vma.mapping;
    let unchanged = pages.verdict(ReportVerdict::Unchanged);
    VmaView {
        start: format!("{:#x}", mapping.start),
        size: size(pages_in(&(mapping.start..mapping.end)) as f64),
        backing: mapping.backing.as_str(),
        reported: number(pages.all()),
        unchanged: count(unchanged),
        share: share(unchanged, pages.compared()),
        missed: count(vma.missed),
        name: name_of(mapping),
        flags: printable(vma.flags.trim()),
        telling: flags::telling(&vma.flags),
    }
}

pub(super) fn unknown(report: &ExplainReport<'_>) -> Vec<UnknownView> {
    let findings = report.findings;
    let verdicts = findings
        .verdict_unknown
        .iter()
        .map(|reason| ("verdict", reason));
    let causes = findings
        .cause_unknown
        .iter()
        .map(|reason| ("cause", reason));
    let told = verdicts.chain(causes).filter(|(_, (_, pages))| **pages > 0);
    let view = |(what, (reason, pages)): (&'static str, (&UnknownReason, &u64))| UnknownView {
        what,
        reason: reason.as_str(),
        pages: number(*pages),
        means: advice::reason(*reason),
    };
    told.map(view).collect()
}
