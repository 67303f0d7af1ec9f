//! Anything that findings can hold, for property tests.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use uffd::Backing;

use super::sample::assembled;
use super::{
    AnswerTally, AuditFinding, AuditFindings, AuditKind, AuditSight, CallerThread, CauseSight,
    CodePlace, ExplainFindings, HandlerWaits, MissCandidate, MissedPages, PageStory, PlaceId,
    ReportAnswer, ReportCause, ReportVerdict, ReportedPages, RoundDelay, RoundFindings, SightGap,
    StackFrame, StoryLine, UnknownReason,
};
use crate::track::arbitrary::{any_header, untracked};
use pages::track::{SessionEvent, TrackedMapping};

/// What a process may call itself, its files and its functions.
fn name() -> impl Strategy<Value = String> {
    let odd = "[<>&\"'\u{1b}\u{202e}\n\r\u{0}-\u{1f}\u{7f}-\u{9f}a-z/]{0,12}";
    prop_oneof![any::<String>(), odd.prop_map(|s: String| s)]
}

fn duration() -> impl Strategy<Value = Duration> {
    (any::<u64>(), 0..1_000_000_000_u32).prop_map(|(s, ns)| Duration::new(s, ns))
}

fn one<T: Copy + std::fmt::Debug + 'static>(all: &'static [T]) -> impl Strategy<Value = T> {
    proptest::sample::select(all)
}

fn why() -> impl Strategy<Value = ReportAnswer> {
    (one(ReportVerdict::ALL), one(ReportCause::ALL))
        .prop_map(|(verdict, cause)| ReportAnswer { verdict, cause })
}

fn place_id() -> impl Strategy<Value = PlaceId> {
    (0..5_u32).prop_map(PlaceId)
}

fn range() -> impl Strategy<Value = std::ops::Range<u64>> {
    let odd = (any::<u64>(), any::<u64>()).prop_map(|(start, end)| start..end);
    let page = (0..1_u64 << 40, 0..1_u64 << 12);
    let page = page.prop_map(|(start, pages)| start << 12..(start + pages) << 12);
    prop_oneof![odd, page]
}

fn mapping() -> impl Strategy<Value = Arc<TrackedMapping>> {
    let backing = one(&Backing::ALL);
    (range(), name(), backing, any::<u64>()).prop_map(|(range, name, backing, page_size)| {
        Arc::new(TrackedMapping {
            start: range.start,
            end: range.end,
            name,
            backing,
            page_size,
            shared: None,
        })
    })
}

fn reported() -> impl Strategy<Value = ReportedPages> {
    let reason = || option::of(one(UnknownReason::ALL));
    let thread = option::of((any::<u32>(), name().prop_map(Arc::from)));
    (
        range(),
        why(),
        reason(),
        reason(),
        option::of(place_id()),
        thread,
    )
        .prop_map(
            |(range, why, verdict_unknown, cause_unknown, place, thread)| ReportedPages {
                range,
                why,
                verdict_unknown,
                cause_unknown,
                place,
                thread,
            },
        )
}

fn rounds() -> impl Strategy<Value = Vec<RoundFindings>> {
    let told = vec((mapping(), vec(reported(), 0..4)), 0..3);
    let tally = btree_map(why(), any::<u64>(), 0..4);
    let round = (
        any::<u64>(),
        duration(),
        tally,
        any::<u64>(),
        untracked(),
        vec(name().prop_map(SessionEvent::Recorded), 0..2),
        told,
    )
        .prop_map(
            |(number, at, tally, missed, not_looked_at, events, reported)| RoundFindings {
                number,
                at,
                delay: RoundDelay {
                    left_out: missed,
                    late: at,
                },
                took: at,
                verified: missed,
                dropped: number,
                tally,
                missed,
                not_looked_at,
                events,
                reported,
            },
        );
    vec(round, 0..4)
}

fn place() -> impl Strategy<Value = CodePlace> {
    let line = option::of((name(), any::<u32>()));
    let frame = (any::<u64>(), name(), line, name(), any::<bool>()).prop_map(
        |(address, function, line, module, inlined)| StackFrame {
            address,
            function,
            line,
            module,
            inlined,
        },
    );
    let frame = frame.boxed();
    let stack = || vec(frame.clone(), 0..12);
    (stack(), stack(), option::of(name())).prop_map(|(user, kernel, syscall)| CodePlace {
        user,
        kernel,
        syscall,
    })
}

fn missed() -> impl Strategy<Value = Vec<(Arc<TrackedMapping>, MissedPages)>> {
    let candidates = vec(one(MissCandidate::ALL), 0..3);
    let missed =
        (range(), any::<bool>(), candidates).prop_map(|(range, zeroed, candidates)| MissedPages {
            round: range.start,
            range,
            zeroed,
            candidates,
        });
    vec((mapping(), missed), 0..4)
}

fn story() -> impl Strategy<Value = PageStory> {
    let line = (duration(), name(), option::of(place_id()))
        .prop_map(|(at, what, place)| StoryLine { at, what, place });
    (any::<u64>(), vec(line, 0..4)).prop_map(|(page, lines)| PageStory { page, lines })
}

/// Findings whose parts add up, of any rounds.
pub(crate) fn consistent() -> impl Strategy<Value = ExplainFindings> {
    let stacks = btree_map(place_id(), place(), 0..5);
    (any_header(), rounds(), missed(), stacks)
        .prop_map(|(header, rounds, missed, stacks)| assembled(header, rounds, missed, stacks))
}

fn audit() -> impl Strategy<Value = AuditFindings> {
    let caller = (any::<u32>(), any::<u32>(), name()).prop_map(|(tgid, tid, comm)| CallerThread {
        tgid,
        tid,
        comm: comm.into(),
    });
    let caller = caller.boxed();
    let counts = prop::array::uniform4(any::<u64>());
    let places = (option::of(place_id()), option::of(place_id()));
    let finding = (
        one(AuditKind::ALL),
        places,
        option::of(caller.clone()),
        counts,
        (duration(), duration()),
        vec(range(), 0..5),
    );
    let finding = finding.prop_map(
        |(kind, places, caller, counts, times, ranges)| AuditFinding {
            kind,
            place: places.0,
            earlier: places.1,
            caller,
            times: counts[0],
            pages: counts[1],
            open: counts[2],
            tables: counts[3],
            took: times.0,
            longest: times.1,
            ranges,
        },
    );
    let waits = (caller.clone(), any::<u64>(), duration()).prop_map(|(caller, times, whole)| {
        HandlerWaits {
            caller,
            times,
            whole,
            longest: whole,
            page: times,
        }
    });
    let answers = btree_map((caller, any::<u32>()), any::<u64>(), 0..3);
    let parts = (
        vec(finding, 0..4),
        vec(waits, 0..3),
        answers,
        vec(name(), 0..2),
    );
    (any::<u64>(), parts).prop_map(|(calls, (found, waits, answers, gaps))| AuditFindings {
        sight: AuditSight::Gaps(gaps),
        calls,
        dropped: calls,
        found,
        waits,
        features_unknown: calls % 2 == 1,
        cleared: answers
            .iter()
            .map(|((caller, _), times)| (caller.clone(), *times))
            .collect(),
        answers,
    })
}

/// Findings that need not add up, with any numbers.
pub(crate) fn any_findings() -> impl Strategy<Value = ExplainFindings> {
    let tally = || btree_map(why(), any::<u64>(), 0..6);
    let reasons = || btree_map(one(UnknownReason::ALL), any::<u64>(), 0..4);
    let counts = prop::array::uniform8(any::<u64>());
    let told = (
        tally(),
        btree_map(place_id(), tally(), 0..5),
        reasons(),
        reasons(),
    );
    let flags = prop_oneof![name(), Just(" rd lo sh  ht".to_owned())];
    let rest = (
        counts,
        duration(),
        vec(
            (name(), name()).prop_map(|(hook, reason)| SightGap::NoHook { hook, reason }),
            0..3,
        ),
        (option::of(story()), option::of(audit())),
        flags,
        untracked(),
    );
    (consistent(), told, rest).prop_map(|(mut findings, told, rest)| {
        let (counts, took, gaps, (story, audit), flags, not_looked_at) = rest;
        findings.not_looked_at = not_looked_at;
        let (tally, places, verdict_unknown, cause_unknown): (AnswerTally, BTreeMap<_, _>, _, _) =
            told;
        if !tally.is_empty() {
            (findings.tally, findings.places) = (tally, places);
        }
        (findings.verdict_unknown, findings.cause_unknown) = (verdict_unknown, cause_unknown);
        [
            findings.verified,
            findings.events,
            findings.dropped,
            findings.tracked,
            findings.memory,
            findings.hashed,
            findings.sampling.one_of,
            _,
        ] = counts;
        for vma in &mut findings.vmas {
            vma.flags.clone_from(&flags);
            vma.missed = counts[7];
        }
        findings.seen = CauseSight::new(gaps);
        (findings.took, findings.story, findings.audit) = (took, story, audit);
        findings
    })
}
