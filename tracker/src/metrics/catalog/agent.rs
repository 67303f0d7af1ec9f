//! Families of the agent itself: what it is, what it can see, what it missed, what it costs.

use tracker_ebpf::RecordLoss;

use super::super::facts::LEVELS;
use super::super::family::{Family, Kind, Samples};
use super::super::label::pair;
use super::super::scrape::Scrape;
use super::no_signals;
use crate::model::sample::Usage;
use crate::model::words;

/// What the families here have in common.
const AGENT: Family = Family {
    name: "",
    kind: Kind::Gauge,
    unit: "",
    labels: &[],
    help: "",
    source: "",
    exactness: "exact",
    example: "",
    signals: no_signals,
    samples: |_, _| {},
};

pub(super) const BUILD_INFO: Family = Family {
    name: "uffdwp_build_info",
    unit: "always 1",
    labels: &["version", "revision", "rustc", "kernel"],
    help: "What was built, and the release of the kernel it runs on.",
    source: "the build; uname(2)",
    example: "count by (version) (uffdwp_build_info)",
    samples: |scrape, samples| {
        let build = &scrape.facts.build;
        let labels = [
            ("version", build.version.as_str()),
            ("revision", build.revision.as_str()),
            ("rustc", build.rustc.as_str()),
            ("kernel", build.kernel.as_str()),
        ];
        samples.count(&[], labels, 1);
    },
    ..AGENT
};

pub(super) const LEVEL: Family = Family {
    name: "uffdwp_level",
    unit: "1 for the level reached, else 0",
    labels: &["level"],
    help: "What the agent can see: full is every hook attached, partial is some hook absent, observe is no function hook at all.",
    source: "the plan of the probes, see tracker check",
    example: "uffdwp_level{level=\"full\"} == 0",
    samples: |scrape, samples| {
        let reached = &scrape.facts.level;
        for level in LEVELS.iter().filter(|_| !reached.is_empty()) {
            samples.count(&[], [("level", level)], u64::from(level == reached));
        }
    },
    ..AGENT
};

pub(super) const PROBE_ATTACHED: Family = Family {
    name: "uffdwp_probe_attached",
    unit: "1 if attached, else 0",
    labels: &["hook", "mechanism"],
    help: "Each hook with the mechanism that was chosen for it.",
    source: "bpf(2) links",
    example: "uffdwp_probe_attached == 0",
    samples: |scrape, samples| {
        for hook in &scrape.facts.hooks {
            let labels = [
                ("hook", hook.hook.as_str()),
                ("mechanism", hook.mechanism.as_str()),
            ];
            samples.count(&[], labels, u64::from(hook.attached));
        }
    },
    ..AGENT
};

pub(super) const PROBE_MISSED: Family = Family {
    name: "uffdwp_probe_missed_total",
    kind: Kind::Counter,
    unit: "events",
    labels: &["hook"],
    help: "Events that the kernel did not hand to the hook, because its program was already running on that CPU. Counts are too low by these.",
    source: "recursion_misses of the program's fdinfo",
    example: "increase(uffdwp_probe_missed_total[5m]) > 0",
    samples: |scrape, samples| {
        for hook in &scrape.facts.hooks {
            if let Some(missed) = hook.missed {
                samples.count(&[], [("hook", hook.hook.as_str())], missed);
            }
        }
    },
    ..AGENT
};

pub(super) const PROBE_EVENTS: Family = Family {
    name: "uffdwp_probe_events_total",
    kind: Kind::Counter,
    unit: "increments of fault, marker and table counters",
    labels: &["outcome"],
    help: "Where every event that the hooks saw was counted; the sum over outcomes is what was seen, and the sum of the node's totals. counted is in the record of its VMA, process_only in that of its process because its VMA does not use uffd-wp or could not be told, unattributed in pid=\"other\" because there was no record for it, see uffdwp_record_failures_total.",
    source: "the records that the hooks fill",
    example: "rate(uffdwp_probe_events_total{outcome=\"unattributed\"}[5m]) > 0",
    samples: probe_events,
    ..AGENT
};

fn probe_events(scrape: &Scrape, samples: &mut Samples) {
    if scrape.view.vma_records.capacity == 0 {
        return;
    }
    let outcomes = scrape.view.outcomes;
    for (outcome, events) in [
        ("counted", outcomes.counted),
        ("process_only", outcomes.process_only),
        ("unattributed", outcomes.unattributed),
    ] {
        samples.count(&[], [("outcome", outcome)], events);
    }
}

pub(super) const RECORD_FAILURES: Family = Family {
    name: "uffdwp_record_failures_total",
    kind: Kind::Counter,
    unit: "failed look-ups; several events may follow one",
    labels: &["reason"],
    help: "How often a hook had no record to count in: vma_records_full and mm_records_full ask for more records, map_update_failed is a race or a lack of memory in the kernel, vma_unknown is a table whose VMA could not be told.",
    source: "the hooks",
    example: "increase(uffdwp_record_failures_total{reason=~\".*_full\"}[5m]) > 0",
    samples: |scrape, samples| {
        for loss in RecordLoss::ALL
            .iter()
            .filter(|_| scrape.view.vma_records.capacity > 0)
        {
            let failures = scrape.view.losses[*loss as usize];
            samples.count(&[], [("reason", words::loss(*loss))], failures);
        }
    },
    ..AGENT
};

pub(super) const MAP_ENTRIES: Family = Family {
    name: "uffdwp_map_entries",
    unit: "entries",
    labels: &["map"],
    help: "Entries in use of each table that the hooks fill.",
    source: "the maps",
    example: "uffdwp_map_entries / uffdwp_map_capacity > 0.9",
    samples: |scrape, samples| maps(scrape, samples, |usage| usage.used),
    ..AGENT
};

pub(super) const MAP_CAPACITY: Family = Family {
    name: "uffdwp_map_capacity",
    unit: "entries",
    labels: &["map"],
    help: "Entries that each table that the hooks fill can have; what finds none is in uffdwp_record_failures_total.",
    source: "the options of the agent",
    example: "uffdwp_map_entries / uffdwp_map_capacity > 0.9",
    samples: |scrape, samples| maps(scrape, samples, |usage| usage.capacity),
    ..AGENT
};

fn maps(scrape: &Scrape, samples: &mut Samples, value: impl Fn(&Usage) -> u64) {
    let records = [
        ("vma_records", &scrape.view.vma_records),
        ("mm_records", &scrape.view.mm_records),
    ];
    let further = scrape
        .facts
        .maps
        .iter()
        .map(|(name, usage)| (name.as_str(), usage));
    for (map, usage) in records.into_iter().chain(further) {
        if usage.capacity > 0 {
            samples.count(&[], [("map", map)], value(usage));
        }
    }
}

pub(super) const VMAS_FOLDED: Family = Family {
    name: "uffdwp_vmas_folded",
    unit: "VMAs",
    help: "Live VMAs that have no series of their own and are counted in vma=\"other\" or pid=\"other\", because of --max-vmas, --max-processes or --detail.",
    source: "the bounds of the agent",
    example: "uffdwp_vmas_folded > 0",
    samples: |scrape, samples| samples.count(&[], [], scrape.view.folded),
    ..AGENT
};

pub(super) const SCAN_TIMESTAMP: Family = Family {
    name: "uffdwp_scan_timestamp_seconds",
    unit: "seconds since the Unix epoch",
    help: "When the oldest background scan that uffdwp_pages still shows was finished.",
    source: "the agent's clock",
    example: "time() - uffdwp_scan_timestamp_seconds > 300",
    samples: |scrape, samples| gauge(samples, scrape.view.oldest_scan_unix_seconds),
    ..AGENT
};

pub(super) const COLLECTOR_DURATION: Family = Family {
    name: "uffdwp_scrape_collector_duration_seconds",
    unit: "seconds",
    labels: &["collector"],
    help: "How long the last run of each collector took.",
    source: "the agent's clock",
    example: "uffdwp_scrape_collector_duration_seconds > 1",
    samples: |scrape, samples| {
        for run in &scrape.facts.collectors {
            let labels = [pair("collector", run.collector.as_str())];
            samples.add(&labels, [], run.duration.as_secs_f64());
        }
    },
    ..AGENT
};

pub(super) const COLLECTOR_SUCCESS: Family = Family {
    name: "uffdwp_scrape_collector_success",
    unit: "1 if it did all it set out to do, else 0",
    labels: &["collector"],
    help: "Whether the last run of each collector succeeded.",
    source: "the agent",
    example: "uffdwp_scrape_collector_success == 0",
    samples: |scrape, samples| {
        for run in &scrape.facts.collectors {
            let labels = [("collector", run.collector.as_str())];
            samples.count(&[], labels, u64::from(run.success));
        }
    },
    ..AGENT
};

pub(super) const CPU_SECONDS: Family = Family {
    name: "process_cpu_seconds_total",
    kind: Kind::Counter,
    unit: "seconds",
    help: "User and system time that the agent used.",
    source: "/proc/self/stat",
    example: "rate(process_cpu_seconds_total[5m])",
    samples: |scrape, samples| gauge(samples, scrape.process.cpu_seconds),
    ..AGENT
};

pub(super) const RESIDENT_BYTES: Family = Family {
    name: "process_resident_memory_bytes",
    unit: "bytes",
    help: "Memory that the agent has resident.",
    source: "/proc/self/stat",
    example: "process_resident_memory_bytes",
    samples: |scrape, samples| count(samples, scrape.process.resident_bytes),
    ..AGENT
};

pub(super) const VIRTUAL_BYTES: Family = Family {
    name: "process_virtual_memory_bytes",
    unit: "bytes",
    help: "Memory that the agent has mapped.",
    source: "/proc/self/stat",
    example: "process_virtual_memory_bytes",
    samples: |scrape, samples| count(samples, scrape.process.virtual_bytes),
    ..AGENT
};

pub(super) const OPEN_FDS: Family = Family {
    name: "process_open_fds",
    unit: "file descriptors",
    help: "File descriptors that the agent has open.",
    source: "/proc/self/fd",
    example: "process_open_fds / process_max_fds",
    samples: |scrape, samples| count(samples, scrape.process.open_fds),
    ..AGENT
};

pub(super) const MAX_FDS: Family = Family {
    name: "process_max_fds",
    unit: "file descriptors",
    help: "File descriptors that the agent may have open.",
    source: "getrlimit(2), RLIMIT_NOFILE",
    example: "process_open_fds / process_max_fds",
    samples: |scrape, samples| count(samples, scrape.process.max_fds),
    ..AGENT
};

pub(super) const THREADS: Family = Family {
    name: "process_threads",
    unit: "threads",
    help: "Threads of the agent.",
    source: "/proc/self/stat",
    example: "process_threads",
    samples: |scrape, samples| count(samples, scrape.process.threads),
    ..AGENT
};

pub(super) const START_TIME: Family = Family {
    name: "process_start_time_seconds",
    unit: "seconds since the Unix epoch",
    help: "When the agent started.",
    source: "/proc/self/stat and btime of /proc/stat",
    example: "changes(process_start_time_seconds[1h]) > 0",
    samples: |scrape, samples| gauge(samples, scrape.process.start_unix_seconds),
    ..AGENT
};

fn gauge(samples: &mut Samples, value: Option<f64>) {
    if let Some(value) = value {
        samples.add(&[], [], value);
    }
}

fn count(samples: &mut Samples, value: Option<u64>) {
    if let Some(value) = value {
        samples.count(&[], [], value);
    }
}
