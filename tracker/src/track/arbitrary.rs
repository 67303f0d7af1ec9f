//! Anything that the model can hold, for property tests.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use uffd::Backing;

use pages::track::{
    MappingRound, PageExtent, SessionEvent, SharedPlace, TrackEnd, TrackHeader, TrackNote,
    TrackRound, TrackSummary, TrackedMapping, TrackedPages, UntrackedPages, UntrackedReason,
};

fn duration() -> impl Strategy<Value = Duration> {
    (any::<u64>(), 0..1_000_000_000_u32).prop_map(|(s, ns)| Duration::new(s, ns))
}

fn time() -> impl Strategy<Value = SystemTime> {
    let either = |(before, s, ns)| {
        let since = Duration::new(s, ns);
        if before {
            UNIX_EPOCH - since
        } else {
            UNIX_EPOCH + since
        }
    };
    (any::<bool>(), 0..1_u64 << 40, 0..1_000_000_000_u32).prop_map(either)
}

/// A header.
pub(crate) fn any_header() -> impl Strategy<Value = TrackHeader> {
    let words = (
        ".{0,9}",
        vec(".{0,9}", 0..3),
        ".{0,9}",
        ".{0,9}",
        ".{0,9}",
        vec(".{0,9}".prop_map(TrackNote::Recorded), 0..3),
    );
    (
        any::<u32>(),
        words,
        duration(),
        time(),
        option::of(duration()),
    )
        .prop_map(
            |(pid, (comm, command, strategy, reason, kernel, notes), interval, began, stopped)| {
                TrackHeader {
                    pid,
                    comm,
                    command,
                    strategy,
                    reason,
                    interval,
                    began,
                    tracker: kernel.clone(),
                    kernel,
                    stopped,
                    notes,
                }
            },
        )
}

/// Few, so that they come again in other rounds, vanish, and stand twice in one.
fn mappings() -> impl Strategy<Value = Vec<Arc<TrackedMapping>>> {
    let backing = (0..Backing::ALL.len()).prop_map(|i| Backing::ALL[i]);
    let shared = option::of((any::<(u32, u32)>(), any::<u64>(), any::<u64>()).prop_map(
        |(device, inode, offset)| SharedPlace {
            device,
            inode,
            offset,
        },
    ));
    let places = (any::<u64>(), any::<u64>(), any::<u64>(), shared);
    let one = (places, ".{0,9}", backing);
    let mapping = one.prop_map(|((start, end, page_size, shared), name, backing)| {
        Arc::new(TrackedMapping {
            start,
            end,
            name,
            backing,
            page_size,
            shared,
        })
    });
    vec(mapping, 1..5)
}

fn any_pages() -> impl Strategy<Value = TrackedPages> {
    let some = || option::of(any::<u64>());
    let counts = (
        any::<u64>(),
        0..3_u64,
        0..3_u64,
        any::<u64>(),
        some(),
        some(),
        some(),
        any::<u64>(),
    );
    let pages = counts.prop_map(
        |(tracked, armed, written, unknown, touched, zapped, moved, vanished)| TrackedPages {
            tracked,
            armed,
            written,
            unknown,
            touched,
            zapped,
            moved,
            vanished,
        },
    );
    prop_oneof![Just(TrackedPages::default()), pages]
}

fn extents() -> impl Strategy<Value = Vec<PageExtent>> {
    let unit = prop_oneof![Just(4096_u64), Just(2 << 20), any::<u64>()];
    let odd = (any::<u64>(), any::<u64>(), unit, any::<bool>()).prop_map(
        |(start, end, unit, unknown)| PageExtent {
            range: start..end,
            unit,
            unknown,
        },
    );
    let page =
        (0..1_u64 << 40, 0..1_u64 << 20, any::<bool>()).prop_map(|(start, pages, unknown)| {
            PageExtent {
                range: start << 12..(start + pages) << 12,
                unit: 4096,
                unknown,
            }
        });
    prop_oneof![Just(vec![]), vec(odd, 0..4), vec(page, 0..8)]
}

/// Rounds that share mappings, also such as no kernel would give.
pub(crate) fn any_rounds() -> impl Strategy<Value = Vec<TrackRound>> {
    mappings().prop_flat_map(|mappings| {
        let told = (0..mappings.len(), any_pages(), extents());
        let told = told.prop_map(move |(i, pages, written)| MappingRound {
            mapping: Arc::clone(&mappings[i]),
            pages,
            written,
        });
        let times = (duration(), duration(), duration());
        let events = vec(".{0,9}".prop_map(SessionEvent::Recorded), 0..2);
        let round = (any::<u64>(), times, vec(told, 0..5), untracked(), events);
        let round = round.prop_map(
            |(number, (at, lasted, took), mappings, not_looked_at, events)| TrackRound {
                number,
                at,
                lasted,
                took,
                mappings,
                children: Vec::new(),
                not_looked_at,
                events,
                mapping_count: None,
            },
        );
        vec(round, 0..6)
    })
}

/// Pages that are not looked at.
pub(crate) fn untracked() -> impl Strategy<Value = UntrackedPages> {
    let reason = (0..UntrackedReason::ALL.len()).prop_map(|i| UntrackedReason::ALL[i]);
    vec((reason, 1..9_u64), 0..3).prop_map(UntrackedPages::from_iter)
}

/// A summary.
pub(crate) fn any_summary() -> impl Strategy<Value = TrackSummary> {
    let end = prop_oneof![
        Just(TrackEnd::Done),
        Just(TrackEnd::Interrupted),
        Just(TrackEnd::Exited)
    ];
    let counts = (
        any::<u64>(),
        any::<u64>(),
        any::<u64>(),
        any::<u64>(),
        any::<u64>(),
        any::<u64>(),
    );
    (
        counts,
        untracked(),
        duration(),
        duration(),
        end,
        option::of(any::<i32>()),
    )
        .prop_map(|(counts, not_looked_at, lasted, took, end, status)| {
            let (rounds, written_set, written, unknown_set, tracked, shared) = counts;
            TrackSummary {
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
                huge_pages: None,
            }
        })
}
