//! Families of the processes that the agent explains (`--explain`): whether what is reported was
//! true, and why it was reported.

use super::super::family::{FamilyKind, FamilyRows, FamilySpec};
use super::super::tracked::{
    ExplainedTotals, ObservedTotals, TrackedField, TrackedReading, TrackedValue,
};
use super::track::WRITTEN;

pub(super) const FAMILIES: &[FamilySpec] = &[
    REPORTED,
    MISSED,
    VERIFIED,
    LOST,
    SAMPLE,
    OBSERVED_REPORTED,
    OBSERVED_MISSED,
    OBSERVED_VERIFIED,
];

const fn shown_observed(
    key: &'static str,
    read: fn(&ObservedTotals) -> TrackedValue<'_>,
) -> FamilyRows {
    FamilyRows::Tracked(TrackedField {
        key,
        read: TrackedReading::Observed(read),
    })
}

const OBSERVED_REPORTED: FamilySpec = FamilySpec {
    name: "uffdwp_observed_reported_pages_total",
    help: "Pages of an explained process that another tracker was told of as written, in memory \
        that belongs to its userfaultfd, by verdict and cause as in uffdwp_reported_pages_total; \
        cause filled: the tracker filled it and did not arm it. \
        The agent observes that memory and touches nothing. There is no series without such memory. \
        docs/explain.md.",
    source: "looks at pagemap and at hashes of pages, and the kernel's events of docs/hooks.md",
    exactness: "where functions can be hooked, by the calls of the tracker; elsewhere as of the \
        agent's looks: what was reported and armed again between two of them with the same content \
        is not counted",
    example: "sum by (cause) (rate(uffdwp_observed_reported_pages_total{verdict=\"unchanged\"}[5m]))",
    rows: shown_observed("reported", |totals| TrackedValue::Pages(&totals.reported)),
    ..REPORTED
};

const OBSERVED_MISSED: FamilySpec = FamilySpec {
    name: "uffdwp_observed_missed_pages_total",
    help: "Pages that belong to the userfaultfd of another tracker and changed while they stayed \
        armed: it is not told of them. Told only where every hook tells causes.",
    source: "looks at pagemap and at hashes of pages, and the kernel's events of docs/hooks.md",
    exactness: "exact for the pages that were compared (uffdwp_observed_verified_pages_total)",
    example: "rate(uffdwp_observed_missed_pages_total[5m]) > 0",
    rows: shown_observed("missed_pages", |totals| TrackedValue::Count(totals.missed)),
    ..MISSED
};

const OBSERVED_VERIFIED: FamilySpec = FamilySpec {
    name: "uffdwp_observed_verified_pages_total",
    help: "Pages that belong to the userfaultfd of another tracker, were armed at two looks, and \
        had the same content.",
    source: "looks at pagemap and at hashes of pages",
    example: "rate(uffdwp_observed_verified_pages_total[5m])",
    rows: shown_observed("verified_pages", |totals| {
        TrackedValue::Count(totals.verified)
    }),
    ..VERIFIED
};

const fn shown(key: &'static str, read: fn(&ExplainedTotals) -> TrackedValue<'_>) -> FamilyRows {
    FamilyRows::Tracked(TrackedField {
        key,
        read: TrackedReading::Explained(read),
    })
}

const REPORTED: FamilySpec = FamilySpec {
    name: "uffdwp_reported_pages_total",
    kind: FamilyKind::Counter,
    unit: "pages of 4 KiB, each once for each round in which it was reported",
    labels: &["pid", "comm", "verdict", "cause"],
    help: "Pages of an explained process that were reported as written, by whether their content \
        has changed (verdict: changed, unchanged, zeroed, gone, unknown) and what took the \
        protection off them (cause: user-store, kernel-copy, remote-or-pin, zap, ksm, huge-unit, \
        move, fork, unregister, guard, never-armed, unknown). A combination is there once it has \
        occurred. docs/explain.md, docs/patterns.md.",
    source: "the rounds, hashes of pages, and the kernel's events of docs/hooks.md",
    exactness: "exact; what cannot be told is unknown, and counted as that",
    example: "sum by (cause) (rate(uffdwp_reported_pages_total{verdict=\"unchanged\"}[5m]))",
    rows: shown("reported", |totals| TrackedValue::Pages(&totals.reported)),
    ..WRITTEN
};

const MISSED: FamilySpec = FamilySpec {
    name: "uffdwp_missed_pages_total",
    unit: "pages of 4 KiB",
    help: "Pages of an explained process whose content changed although they were armed and \
        reported clean: written through another mapping or the file, punched out, or by a device \
        into a pinned buffer.",
    source: "hashes of pages",
    exactness: "exact for the pages that were compared (uffdwp_verified_pages_total)",
    example: "rate(uffdwp_missed_pages_total[5m]) > 0",
    rows: shown("missed_pages", |totals| TrackedValue::Count(totals.missed)),
    ..WRITTEN
};

const VERIFIED: FamilySpec = FamilySpec {
    name: "uffdwp_verified_pages_total",
    unit: "pages of 4 KiB, each once for each round in which it was compared",
    help: "Pages of an explained process that were reported clean and whose content was compared \
        with what it was.",
    source: "hashes of pages",
    exactness: "exact",
    example: "rate(uffdwp_missed_pages_total[5m]) / rate(uffdwp_verified_pages_total[5m])",
    rows: shown("verified_pages", |totals| {
        TrackedValue::Count(totals.verified)
    }),
    ..WRITTEN
};

const LOST: FamilySpec = FamilySpec {
    name: "uffdwp_explain_events_lost_total",
    unit: "events",
    help: "Events of the kernel that were lost while a process was explained: the ring was full, \
        or the kernel ran no program for them. The causes of as many pages may be unknown.",
    source: "the programs",
    exactness: "exact; an event lost for several processes counts for each",
    example: "rate(uffdwp_explain_events_lost_total[5m]) > 0",
    rows: shown("lost_events", |totals| TrackedValue::Count(totals.lost)),
    ..WRITTEN
};

const SAMPLE: FamilySpec = FamilySpec {
    name: "uffdwp_explain_sample_ratio",
    kind: FamilyKind::Gauge,
    unit: "share of all pages",
    help: "Share of the pages of an explained process whose content is compared: less than 1 if \
        there is more memory than --content-limit allows. The verdict of the others is unknown.",
    source: "the agent",
    exactness: "as chosen when it was attached to",
    example: "uffdwp_explain_sample_ratio < 1",
    rows: shown("one_page_of", |totals| TrackedValue::OneOf(totals.one_of)),
    ..WRITTEN
};
