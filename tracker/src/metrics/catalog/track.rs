//! Families of the processes that the agent tracks (`--track`): a row per process, and what it costs.

use super::super::family::{Family, Kind, Samples};
use super::super::label::{self, pair};
use super::super::scrape::Scrape;
use super::{explain, no_signals};
use crate::metrics::facts::{TrackFacts, TrackRow};
use crate::model::Detail;
use prometheus::proto::LabelPair;

/// What the families here have in common.
const TRACK: Family = Family {
    name: "",
    kind: Kind::Gauge,
    unit: "",
    labels: &["pid", "comm"],
    help: "",
    source: "the rounds",
    exactness: "exact",
    example: "",
    signals: no_signals,
    samples: |_, _| {},
};

/// Whether a family is one of these.
pub(in crate::metrics) fn is_track(family: &Family) -> bool {
    const ALL: [&Family; 18] = [
        &WRITTEN,
        &UNKNOWN,
        &VANISHED,
        &ROUNDS,
        &TRACKED,
        &INTERVAL,
        &CPU,
        &INFO,
        &explain::REPORTED,
        &explain::MISSED,
        &explain::VERIFIED,
        &explain::LOST,
        &explain::SAMPLE,
        &NODE_WRITTEN,
        &NODE_CPU,
        &BUDGET,
        &PROCESSES,
        &FAILURES,
    ];
    ALL.iter().any(|one| one.name == family.name)
}

pub(super) const WRITTEN: Family = Family {
    name: "uffdwp_written_pages_total",
    kind: Kind::Counter,
    unit: "pages of 4 KiB, each once for each round in which it was written",
    help: "Pages that a tracked process wrote, summed over all its mappings and over rounds: a page written in two rounds counts twice, one written often between two rounds counts once. A huge page that is mapped as one counts with all its 4 KiB pages.",
    exactness: "as the strategy in uffdwp_track_info, see docs/strategies.md; what was written to memory that was unmapped before the next round is not seen (uffdwp_vanished_pages_total)",
    example: "4096 * rate(uffdwp_written_pages_total[5m])",
    samples: |scrape, samples| counts(scrape, samples, |row| row.written),
    ..TRACK
};

pub(super) const UNKNOWN: Family = Family {
    name: "uffdwp_unknown_pages_total",
    kind: Kind::Counter,
    unit: "pages of 4 KiB",
    help: "Pages of a tracked process that were there when they were armed for the first time: at attaching, in a mapping that is new, after exec. Nobody saw whether they had been written; who copies memory must take them as written.",
    exactness: "exact, as of arming",
    example: "rate(uffdwp_unknown_pages_total[5m])",
    samples: |scrape, samples| counts(scrape, samples, |row| row.unknown),
    ..TRACK
};

pub(super) const VANISHED: Family = Family {
    name: "uffdwp_vanished_pages_total",
    kind: Kind::Counter,
    unit: "pages of 4 KiB, there or not",
    help: "Pages of tracked mappings that were unmapped between two rounds. What was written to them since the first of the two is not in uffdwp_written_pages_total.",
    exactness: "exact for what is gone at the next round",
    example: "rate(uffdwp_vanished_pages_total[5m]) > 0",
    samples: |scrape, samples| counts(scrape, samples, |row| row.vanished),
    ..TRACK
};

pub(super) const ROUNDS: Family = Family {
    name: "uffdwp_rounds_total",
    kind: Kind::Counter,
    unit: "rounds, without the first arming",
    help: "How often the written pages of a tracked process were read and armed again.",
    example: "rate(uffdwp_written_pages_total[5m]) / rate(uffdwp_rounds_total[5m])",
    samples: |scrape, samples| counts(scrape, samples, |row| row.rounds),
    ..TRACK
};

pub(super) const TRACKED: Family = Family {
    name: "uffdwp_tracked_pages",
    unit: "pages of 4 KiB, there or not",
    help: "Size of the mappings that are tracked of a process: those it can write to, without devices and without what belongs to another userfaultfd.",
    exactness: "as of the last round",
    example: "4096 * uffdwp_tracked_pages",
    samples: |scrape, samples| {
        for row in live(scrape) {
            samples.count(&labels(row), [], row.tracked);
        }
    },
    ..TRACK
};

pub(super) const INTERVAL: Family = Family {
    name: "uffdwp_track_interval_seconds",
    unit: "seconds",
    help: "Time from the last round of a tracked process to the next: --track-interval, or as much more as it takes to keep to --track-budget.",
    source: "the CPU time of the last round and the budget",
    example: "uffdwp_track_interval_seconds > 10",
    samples: |scrape, samples| {
        for row in live(scrape) {
            samples.add(&labels(row), [], row.interval.as_secs_f64());
        }
    },
    ..TRACK
};

pub(super) const CPU: Family = Family {
    name: "uffdwp_track_cpu_seconds_total",
    kind: Kind::Counter,
    unit: "seconds",
    help: "CPU time that attaching to a process and its rounds took the agent.",
    source: "clock_gettime(2), CLOCK_THREAD_CPUTIME_ID; for the helper process of attaching, cutime and cstime of /proc/self/stat",
    exactness: "exact to the clock, for the helper to a tick of 10 ms; without the threads that resolve faults for the strategies sync and missing-zeropage, and without what faults cost the process itself",
    example: "topk(3, rate(uffdwp_track_cpu_seconds_total[5m]))",
    samples: |scrape, samples| {
        for row in rows(scrape) {
            samples.add(&labels(row), [], row.cpu.as_secs_f64());
        }
    },
    ..TRACK
};

pub(super) const INFO: Family = Family {
    name: "uffdwp_track_info",
    unit: "always 1",
    labels: &["pid", "comm", "strategy"],
    help: "Which processes are tracked at the moment, and how.",
    source: "the agent",
    example: "rate(uffdwp_written_pages_total[5m]) * on (pid) group_left (strategy) uffdwp_track_info",
    samples: |scrape, samples| {
        for row in live(scrape) {
            samples.count(&labels(row), [("strategy", row.strategy.as_str())], 1);
        }
    },
    ..TRACK
};

pub(super) const NODE_WRITTEN: Family = Family {
    name: "uffdwp_node_written_pages_total",
    kind: Kind::Counter,
    unit: "pages of 4 KiB, each once for each round in which it was written",
    labels: &[],
    help: "Sum of uffdwp_written_pages_total over all processes since the agent started, those that ended included.",
    example: "4096 * rate(uffdwp_node_written_pages_total[5m])",
    samples: |scrape, samples| {
        if let Some(track) = &scrape.facts.track {
            samples.count(&[], [], track.written);
        }
    },
    ..TRACK
};

pub(super) const NODE_CPU: Family = Family {
    name: "uffdwp_node_track_cpu_seconds_total",
    kind: Kind::Counter,
    unit: "seconds",
    labels: &["work"],
    help: "CPU time that tracking took the agent since it started: reading and arming (round), getting userfaultfds and arming for the first time (attach), looking for processes (select). What --track-budget bounds.",
    source: CPU.source,
    exactness: CPU.exactness,
    example: "sum(rate(uffdwp_node_track_cpu_seconds_total[5m])) > uffdwp_track_budget_ratio",
    samples: |scrape, samples| {
        for (work, cpu) in scrape.facts.track.iter().flat_map(|track| &track.cpu) {
            samples.add(&[], [("work", work)], cpu.as_secs_f64());
        }
    },
    ..TRACK
};

pub(super) const BUDGET: Family = Family {
    name: "uffdwp_track_budget_ratio",
    unit: "share of one core",
    labels: &[],
    help: "What tracking may take of one CPU core: --track-budget.",
    source: "the options of the agent",
    example: "sum(rate(uffdwp_node_track_cpu_seconds_total[5m])) / uffdwp_track_budget_ratio",
    samples: |scrape, samples| {
        if let Some(track) = &scrape.facts.track {
            samples.add(&[], [], track.budget);
        }
    },
    ..TRACK
};

pub(super) const PROCESSES: Family = Family {
    name: "uffdwp_track_processes",
    unit: "processes",
    labels: &["state"],
    help: "Processes that --track means: tracked; refused, which are tried again later; over_max, which are left out because of --track-max. /status names them.",
    source: "the agent",
    exactness: "as of the last look for processes",
    example: "uffdwp_track_processes{state!=\"tracked\"} > 0",
    samples: |scrape, samples| {
        for (state, processes) in scrape.facts.track.iter().flat_map(|track| &track.states) {
            samples.count(&[], [("state", state)], *processes as u64);
        }
    },
    ..TRACK
};

pub(super) const FAILURES: Family = Family {
    name: "uffdwp_track_failures_total",
    kind: Kind::Counter,
    unit: "tries",
    labels: &["reason"],
    help: "How often a process could not be tracked, or not any further: it has a tracer already (traced), a seccomp filter that cannot be suspended (seccomp), this agent may not trace it (privilege), it cannot be stopped at the moment (busy), its program is of 32 bits or otherwise unfit (program), the strategy does not work there (strategy), the kernel refuses a userfaultfd or a step (kernel, unexpected). /status has the sentence.",
    source: "the agent",
    example: "increase(uffdwp_track_failures_total[15m]) > 0",
    samples: |scrape, samples| {
        for (reason, tries) in scrape.facts.track.iter().flat_map(|track| &track.failures) {
            samples.count(&[], [("reason", reason)], *tries);
        }
    },
    ..TRACK
};

/// The rows, where series of processes are asked for.
pub(super) fn rows(scrape: &Scrape) -> impl Iterator<Item = &TrackRow> {
    let track: Option<&TrackFacts> = scrape.facts.track.as_ref();
    let track = track.filter(|_| scrape.view.detail > Detail::Node);
    track.into_iter().flat_map(|track| &track.processes)
}

pub(super) fn live(scrape: &Scrape) -> impl Iterator<Item = &TrackRow> {
    rows(scrape).filter(|row| row.live)
}

pub(super) fn labels(row: &TrackRow) -> [LabelPair; 2] {
    [
        pair("pid", row.pid.to_string()),
        pair("comm", label::text(&row.comm)),
    ]
}

fn counts(scrape: &Scrape, samples: &mut Samples, value: impl Fn(&TrackRow) -> u64) {
    for row in rows(scrape) {
        samples.count(&labels(row), [], value(row));
    }
}
