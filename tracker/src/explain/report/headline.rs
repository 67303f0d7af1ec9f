//! The answer, in a few sentences: is what was reported true?

use pages::track::TrackEnd;

use super::ExplainReport;
use super::interval::wilson;
use super::location::CodeLocation;
use super::matrix::AnswerMatrix;
use super::spots::CodeSpot;
use crate::explain::{AuditSight, ReportCause, ReportOwner, ReportVerdict};
use crate::print::clock::spoken;
use crate::print::words::{elided, number, plural, share};

/// If the cause of so large a share of the pages is unknown, a sentence at the top says so.
const WORTH_TELLING: f64 = 0.1;
/// Characters of a name in a sentence.
const NAME: usize = 60;

/// The sentences, the most important first.
pub(super) fn headline(report: &ExplainReport<'_>) -> Vec<String> {
    match report.findings.owner {
        ReportOwner::Ours => answer(report),
        ReportOwner::Theirs => of_others(report),
    }
}

/// Of a tracker that is there already: first, how much of it is seen.
fn of_others(report: &ExplainReport<'_>) -> Vec<String> {
    if report.findings.tracked == 0 {
        let audit = report.findings.audit.as_ref();
        let others = match audit.map_or(0, |audit| audit.cleared.values().sum()) {
            0 => "Trackers that read soft-dirty bits or compare content are not seen.".to_owned(),
            times => format!(
                "Its soft-dirty bits were cleared {} time{}: what that tracker was told is not \
                 judged.",
                number(times),
                plural(times)
            ),
        };
        return vec![format!(
            "Nothing was observed: no memory of this process belonged to a userfaultfd for write \
             protection. {others}"
        )];
    }
    let interval = spoken(report.findings.header.interval);
    let audit = report.findings.audit.as_ref();
    let calls_seen = audit.is_some_and(|audit| audit.sight == AuditSight::Complete);
    let told = if calls_seen && report.findings.seen.is_complete() {
        format!(
            "Reports are counted by the calls of their tracker, which are audited apart (below), \
             and by the kernel's events; verdicts compare the content at looks, one every \
             {interval}."
        )
    } else {
        let seen = if calls_seen {
            "Calls of their tracker are audited apart (below)."
        } else {
            "Calls of their tracker are not seen here."
        };
        format!(
            "{seen} Looks at its pages, one every {interval}, tell what was written and armed \
             again: reports and verdicts are as of these looks."
        )
    };
    let mut sentences = vec![told];
    sentences.extend(answer(report));
    sentences
}

fn answer(report: &ExplainReport<'_>) -> Vec<String> {
    let pages = &report.pages;
    if pages.all() == 0 {
        let nothing = if report.findings.tracked > 0 {
            "No page was reported as written."
        } else if report.findings.rounds.is_empty() {
            "No round was read: explaining ended before the first. A shorter --interval sees more."
        } else {
            "Nothing was tracked: all its memory was passed over, see the notes."
        };
        let mut told = vec![nothing.to_owned()];
        told.extend(missed(report));
        told.extend(early_end(report));
        return told;
    }
    let told = [
        Some(truth(report)),
        main_reason(report),
        top_writer(report),
        missed(report),
        unknown(pages),
        lost(report),
        early_end(report),
    ];
    told.into_iter().flatten().collect()
}

fn truth(report: &ExplainReport<'_>) -> String {
    let pages = &report.pages;
    let (all, compared) = (pages.all(), pages.compared());
    let unchanged = pages.verdict(ReportVerdict::Unchanged);
    let of_reported = |pages| format!("{} reported page{}", number(pages), plural(pages));
    let reported = of_reported(all);
    if compared == 0 {
        return format!(
            "Nobody knows whether it is true: none of the {reported} could be compared."
        );
    }
    let (which, rest) = if compared == all {
        (format!("the {reported}"), String::new())
    } else {
        let which = format!("the {} that could be compared", of_reported(compared));
        (
            which,
            format!("; {} could not", number(all.saturating_sub(compared))),
        )
    };
    if unchanged == 0 {
        return format!("It is true: all of {which} changed{rest}.");
    }
    let how_sure = interval(report).map_or_else(String::new, |interval| format!(" ({interval})"));
    let part = share(unchanged, compared);
    format!("{part} of {which} did not change{how_sure}{rest}.")
}

/// How sure the share of unchanged pages is, if it was found in a sample.
pub(super) fn interval(report: &ExplainReport<'_>) -> Option<String> {
    let pages = &report.pages;
    let sampled = report.findings.sampling.one_of > 1;
    let (low, high) =
        sampled.then(|| wilson(pages.verdict(ReportVerdict::Unchanged), pages.compared()))??;
    let percent = |share: f64| format!("{:.1}", share * 100.0);
    Some(format!("95% sure: {} to {}%", percent(low), percent(high)))
}

/// What did most of the unchanged pages, or the largest part of them.
fn main_reason(report: &ExplainReport<'_>) -> Option<String> {
    let unchanged = report.pages.verdict(ReportVerdict::Unchanged);
    let (cause, count) = main_cause(&report.pages)?;
    let how_many = if count == unchanged {
        "All of those".to_owned()
    } else if count > unchanged / 2 {
        format!("Most of those, {}", number(count))
    } else {
        format!("The largest part of those, {}", number(count))
    };
    let place = worst(report, cause).map_or_else(String::new, |spot| {
        let often = if spot.unchanged() == count {
            String::new()
        } else {
            format!("most often, {} times, ", number(spot.unchanged()))
        };
        format!(", {often}{}", whereabouts(&spot.location))
    });
    Some(format!("{how_many}: {}{place}.", unchanged_by(cause)))
}

/// The cause with most unchanged pages, and how many they are.
fn main_cause(pages: &AnswerMatrix) -> Option<(ReportCause, u64)> {
    let part = |cause: &ReportCause| pages.at(*cause, ReportVerdict::Unchanged);
    let cause = pages.causes().into_iter().max_by_key(part)?;
    Some((cause, part(&cause))).filter(|(_, count)| *count > 0)
}

/// The place that wrote the same content most often, for this cause.
fn worst<'r, 'a>(report: &'r ExplainReport<'a>, cause: ReportCause) -> Option<&'r CodeSpot<'a>> {
    let spots = report.spots.iter();
    { spots }.find(|spot| spot.cause == cause && spot.unchanged() > 0)
}

/// The place with most reports, changed pages included; `None` if it was told already.
fn top_writer(report: &ExplainReport<'_>) -> Option<String> {
    let top = report.writers();
    let first = top.spots.first()?;
    let told = main_cause(&report.pages).and_then(|(cause, _)| worst(report, cause));
    if told.is_some_and(|told| std::ptr::eq(*first, told)) {
        return None;
    }
    Some(format!(
        "Reported most often, {} of {} times: {} {}.",
        number(first.pages.all()),
        number(top.all),
        first.cause,
        whereabouts(&first.location)
    ))
}

/// A location in a sentence.
fn whereabouts(location: &CodeLocation) -> String {
    let function = elided(&location.function, NAME);
    let place = match &location.line {
        Some(line) => format!("at {} in {function}", elided(line, NAME)),
        None if location.caller_unknown => format!("in {function} (caller unknown)"),
        None => format!("in {function}"),
    };
    match &location.syscall {
        Some(syscall) => format!("{place}, in {syscall}(2)"),
        None => place,
    }
}

/// What leaves content as it is, for each cause.
fn unchanged_by(cause: ReportCause) -> &'static str {
    match cause {
        ReportCause::UserStore => "stores of the same value",
        ReportCause::KernelCopy => "system calls that copied the same bytes",
        ReportCause::RemoteOrPin => {
            "pages that were locked, pinned or populated, or written from outside"
        }
        ReportCause::Zap => "empty pages that were given back",
        ReportCause::Ksm => "pages that KSM merged",
        ReportCause::HugeUnit => "neighbours in a huge page",
        ReportCause::Move => "pages that were moved",
        ReportCause::Fork => "pages of a child",
        ReportCause::Unregister => "ranges that were unregistered",
        ReportCause::Guard => "guard pages",
        ReportCause::Filled => "pages that their tracker filled without arming them",
        ReportCause::NeverArmed => "pages that nobody had armed",
        ReportCause::Unknown => "nobody knows why",
    }
}

fn missed(report: &ExplainReport<'_>) -> Option<String> {
    let pages = report.missed_pages;
    let verb = if pages == 1 { "was" } else { "were" };
    (pages > 0).then(|| {
        format!(
            "{} page{} changed and {verb} NOT reported.",
            number(pages),
            plural(pages)
        )
    })
}

fn unknown(pages: &AnswerMatrix) -> Option<String> {
    let (unknown, all) = (pages.cause(ReportCause::Unknown), pages.all());
    let worth = unknown as f64 >= all as f64 * WORTH_TELLING;
    (worth && unknown > 0)
        .then(|| format!("What caused {} of them is not known.", share(unknown, all)))
}

/// The process ended before what was asked for was over.
fn early_end(report: &ExplainReport<'_>) -> Option<String> {
    let end = report
        .findings
        .end
        .filter(|end| end.why == TrackEnd::Exited)?;
    let made = report.findings.rounds.len() as u64;
    if let Some(asked) = end.rounds.filter(|asked| *asked > made) {
        let (made, asked) = (number(made), number(asked));
        return Some(format!(
            "The process ended early: {made} of {asked} rounds were made."
        ));
    }
    let asked = end.duration.filter(|asked| *asked > report.lasted)?;
    Some(format!(
        "The process ended early: the last round was at {} of {}.",
        spoken(report.lasted),
        spoken(asked)
    ))
}

fn lost(report: &ExplainReport<'_>) -> Option<String> {
    let dropped = report.findings.dropped;
    (dropped > 0).then(|| {
        format!(
            "{} event{} of the kernel were dropped.",
            number(dropped),
            plural(dropped)
        )
    })
}
