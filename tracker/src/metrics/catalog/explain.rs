//! Families of the processes that the agent explains (`--explain`): whether what is reported was true, and why it was
//! reported.

use super::super::family::{Family, Kind};
use super::super::scrape::Scrape;
use super::track::{WRITTEN, labels, live, rows};
use crate::metrics::facts::{ExplainRow, TrackRow};

pub(super) const REPORTED: Family = Family {
    name: "uffdwp_reported_pages_total",
    kind: Kind::Counter,
    unit: "pages of 4 KiB, each once for each round in which it was reported",
    labels: &["pid", "comm", "verdict", "cause"],
    help: "Pages of an explained process that were reported as written, by whether their content has changed (verdict: changed, unchanged, zeroed, gone, unknown) and what took the protection off them (cause: user-store, kernel-copy, remote-or-pin, zap, ksm, huge-unit, move, fork, unregister, guard, never-armed, unknown). A combination is there once it has occurred. docs/explain.md, docs/patterns.md.",
    source: "the rounds, hashes of pages, and the kernel's events of docs/hooks.md",
    exactness: "exact; what cannot be told is unknown, and counted as that",
    example: "sum by (cause) (rate(uffdwp_reported_pages_total{verdict=\"unchanged\"}[5m]))",
    samples: |scrape, samples| {
        for (row, explained) in explained(scrape) {
            for (verdict, cause, pages) in &explained.reported {
                let more = [("verdict", *verdict), ("cause", *cause)];
                samples.count(&labels(row), more, *pages);
            }
        }
    },
    ..WRITTEN
};

pub(super) const MISSED: Family = Family {
    name: "uffdwp_missed_pages_total",
    unit: "pages of 4 KiB",
    help: "Pages of an explained process whose content changed although they were armed and reported clean: written through another mapping or the file, punched out, or by a device into a pinned buffer.",
    source: "hashes of pages",
    exactness: "exact for the pages that were compared (uffdwp_verified_pages_total)",
    example: "rate(uffdwp_missed_pages_total[5m]) > 0",
    samples: |scrape, samples| {
        for (row, explained) in explained(scrape) {
            samples.count(&labels(row), [], explained.missed);
        }
    },
    ..WRITTEN
};

pub(super) const VERIFIED: Family = Family {
    name: "uffdwp_verified_pages_total",
    unit: "pages of 4 KiB, each once for each round in which it was compared",
    help: "Pages of an explained process that were reported clean and whose content was compared with what it was.",
    source: "hashes of pages",
    exactness: "exact",
    example: "rate(uffdwp_missed_pages_total[5m]) / rate(uffdwp_verified_pages_total[5m])",
    samples: |scrape, samples| {
        for (row, explained) in explained(scrape) {
            samples.count(&labels(row), [], explained.verified);
        }
    },
    ..WRITTEN
};

pub(super) const LOST: Family = Family {
    name: "uffdwp_explain_events_lost_total",
    unit: "events",
    help: "Events of the kernel that were lost while a process was explained: the ring was full, or the kernel ran no program for them. The causes of as many pages may be unknown.",
    source: "the programs",
    exactness: "exact; an event lost for several processes counts for each",
    example: "rate(uffdwp_explain_events_lost_total[5m]) > 0",
    samples: |scrape, samples| {
        for (row, explained) in explained(scrape) {
            samples.count(&labels(row), [], explained.lost);
        }
    },
    ..WRITTEN
};

pub(super) const SAMPLE: Family = Family {
    name: "uffdwp_explain_sample_ratio",
    kind: Kind::Gauge,
    unit: "share of all pages",
    help: "Share of the pages of an explained process whose content is compared: less than 1 if there is more memory than --content-limit allows. The verdict of the others is unknown.",
    source: "the agent",
    exactness: "as chosen when it was attached to",
    example: "uffdwp_explain_sample_ratio < 1",
    samples: |scrape, samples| {
        for row in live(scrape) {
            if let Some(explained) = &row.explained {
                samples.add(&labels(row), [], 1.0 / explained.one_of.max(1) as f64);
            }
        }
    },
    ..WRITTEN
};

fn explained(scrape: &Scrape) -> impl Iterator<Item = (&TrackRow, &ExplainRow)> {
    rows(scrape).filter_map(|row| Some((row, row.explained.as_ref()?)))
}
