//! Families of the agent itself: what it is, what it can see, what it missed, what it costs.

use tracker_ebpf::RecordLoss;

use super::super::family::{FamilyKind, FamilyRows, FamilySamples, FamilySpec};
use super::super::rows::ScrapeRows;
use crate::model::RecordUsage;
use crate::probes::{HookMechanism, ProbeLevel};

pub(super) const FAMILIES: &[FamilySpec] = &[
    BUILD_INFO,
    LEVEL,
    READY,
    PROBE_ATTACHED,
    PROBE_FIRING,
    SELF_TEST_TIMESTAMP,
    PROBE_MISSED,
    PROBE_EVENTS,
    RECORD_FAILURES,
    MAP_ENTRIES,
    MAP_CAPACITY,
    VMAS_FOLDED,
    SCAN_TIMESTAMP,
    SCAN_LATE_VMAS,
    COLLECTOR_DURATION,
    COLLECTOR_SUCCESS,
    COLLECTOR_TIMESTAMP,
    PROCESSES_SEEN,
    PROCESSES_REFUSED,
    LOG_LINES_LOST,
    CPU_SECONDS,
    RESIDENT_BYTES,
    VIRTUAL_BYTES,
    OPEN_FDS,
    MAX_FDS,
    THREADS,
    START_TIME,
];

/// The levels, best first.
const LEVELS: [ProbeLevel; 3] = [ProbeLevel::Full, ProbeLevel::Partial, ProbeLevel::Observe];

/// What the families here have in common.
const AGENT: FamilySpec = FamilySpec {
    name: "",
    kind: FamilyKind::Gauge,
    unit: "",
    labels: &[],
    help: "",
    source: "",
    exactness: "exact",
    example: "",
    signals: &[],
    rows: FamilyRows::Agent(|_, _| {}),
};

const BUILD_INFO: FamilySpec = FamilySpec {
    name: "uffdwp_build_info",
    unit: "always 1",
    labels: &["version", "revision", "rustc", "kernel"],
    help: "What was built, and the release of the kernel it runs on.",
    source: "the build; uname(2)",
    example: "count by (version) (uffdwp_build_info)",
    rows: FamilyRows::Agent(|rows, samples| {
        let build = &rows.agent.build;
        let labels = [
            ("version", build.version.as_str()),
            ("revision", build.revision.as_str()),
            ("rustc", build.rustc.as_str()),
            ("kernel", build.kernel.as_str()),
        ];
        samples.count(&[], labels, 1);
    }),
    ..AGENT
};

const LEVEL: FamilySpec = FamilySpec {
    name: "uffdwp_level",
    unit: "1 for the level reached, else 0",
    labels: &["level"],
    help: "What the agent can see: full is every hook attached and none silent, partial is \
        some hook absent or silent, observe is no function hook at all.",
    source: "the plan of the probes, see tracker check",
    example: "uffdwp_level{level=\"full\"} == 0",
    rows: FamilyRows::Agent(|rows, samples| {
        for level in LEVELS {
            let reached = level == rows.agent.level;
            samples.count(&[], [("level", level.as_str())], u64::from(reached));
        }
    }),
    ..AGENT
};

const READY: FamilySpec = FamilySpec {
    name: "uffdwp_ready",
    unit: "1 if ready, else 0",
    help: "Whether /readyz says that the agent does what it was asked to do; it says why not.",
    source: "level, loops, discovery and threads of the agent",
    example: "uffdwp_ready == 0",
    rows: FamilyRows::Agent(|rows, samples| {
        if let Some(ready) = rows.agent.ready {
            samples.count(&[], [], u64::from(ready));
        }
    }),
    ..AGENT
};

const PROBE_ATTACHED: FamilySpec = FamilySpec {
    name: "uffdwp_probe_attached",
    unit: "1 if attached, else 0",
    labels: &["hook", "mechanism"],
    help: "Each hook with the mechanism that was chosen for it.",
    source: "bpf(2) links",
    example: "uffdwp_probe_attached == 0",
    rows: FamilyRows::Agent(|rows, samples| {
        for hook in &rows.agent.hooks {
            let mechanism = hook.mechanism.map_or("none", HookMechanism::as_str);
            let labels = [("hook", hook.hook), ("mechanism", mechanism)];
            samples.count(&[], labels, u64::from(hook.mechanism.is_some()));
        }
    }),
    ..AGENT
};

const PROBE_FIRING: FamilySpec = FamilySpec {
    name: "uffdwp_probe_firing",
    unit: "1 if it fires, else 0",
    labels: &["hook"],
    help: "Whether an attached hook fired when the agent had the kernel do what it sees, in the \
        last self-test. What a silent hook counts is not exported. A hook that no self-test can \
        make fire has no series; tracker check says why.",
    source: "the self-test of the agent on memory of its own",
    example: "uffdwp_probe_firing == 0",
    rows: FamilyRows::Agent(|rows, samples| {
        for hook in &rows.agent.hooks {
            if let Some(firing) = hook.firing {
                samples.count(&[], [("hook", hook.hook)], u64::from(firing));
            }
        }
    }),
    ..AGENT
};

const SELF_TEST_TIMESTAMP: FamilySpec = FamilySpec {
    name: "uffdwp_self_test_timestamp_seconds",
    unit: "seconds since the Unix epoch",
    help: "When the last self-test of the hooks ended.",
    source: "the agent's clock",
    example: "time() - uffdwp_self_test_timestamp_seconds > 300",
    rows: FamilyRows::Agent(|rows, samples| gauge(samples, rows.agent.proved_unix_seconds)),
    ..AGENT
};

const PROBE_MISSED: FamilySpec = FamilySpec {
    name: "uffdwp_probe_missed_total",
    kind: FamilyKind::Counter,
    unit: "events",
    labels: &["hook"],
    help: "Events that the kernel did not hand to the hook, because a program was already \
        running on that CPU or, for a kretprobe, more returns were under way than it has room \
        for (told since Linux 6.7). Counts are too low by these.",
    source: "recursion_misses of the program (bpf_prog_info), missed of its link (bpf_link_info)",
    exactness: "as the kernel tells it: of missed returns one too few in some runs",
    example: "increase(uffdwp_probe_missed_total[5m]) > 0",
    rows: FamilyRows::Agent(|rows, samples| {
        for hook in &rows.agent.hooks {
            if let Some(missed) = hook.missed {
                samples.count(&[], [("hook", hook.hook)], missed);
            }
        }
    }),
    ..AGENT
};

const PROBE_EVENTS: FamilySpec = FamilySpec {
    name: "uffdwp_probe_events_total",
    kind: FamilyKind::Counter,
    unit: "increments of fault, marker and table counters",
    labels: &["outcome"],
    help: "Where every event that the hooks saw was counted; the sum over outcomes is what was \
        seen, and the sum of the node's totals. counted is in the record of its VMA, process_only \
        in that of its process because its VMA does not use uffd-wp or could not be told, \
        unattributed in pid=\"other\" because there was no record for it, see \
        uffdwp_record_failures_total.",
    source: "the records that the hooks fill",
    example: "rate(uffdwp_probe_events_total{outcome=\"unattributed\"}[5m]) > 0",
    rows: FamilyRows::Agent(|rows, samples| {
        if rows.counted.reading.vma_records.capacity == 0 {
            return;
        }
        let outcomes = rows.counted.outcomes;
        for (outcome, events) in [
            ("counted", outcomes.counted),
            ("process_only", outcomes.process_only),
            ("unattributed", outcomes.unattributed),
        ] {
            samples.count(&[], [("outcome", outcome)], events);
        }
    }),
    ..AGENT
};

const RECORD_FAILURES: FamilySpec = FamilySpec {
    name: "uffdwp_record_failures_total",
    kind: FamilyKind::Counter,
    unit: "failed look-ups; several events may follow one",
    labels: &["reason"],
    help: "How often a hook had no record to count in: vma_records_full and mm_records_full ask \
        for more records, map_update_failed is a race or a lack of memory in the kernel, \
        vma_unknown is a table whose VMA could not be told.",
    source: "the hooks",
    example: "increase(uffdwp_record_failures_total{reason=~\".*_full\"}[5m]) > 0",
    rows: FamilyRows::Agent(|rows, samples| {
        let reading = &rows.counted.reading;
        if reading.vma_records.capacity == 0 {
            return;
        }
        for (loss, failures) in RecordLoss::ALL.into_iter().zip(reading.losses) {
            samples.count(&[], [("reason", loss.as_str())], failures);
        }
    }),
    ..AGENT
};

const MAP_ENTRIES: FamilySpec = FamilySpec {
    name: "uffdwp_map_entries",
    unit: "entries",
    labels: &["map"],
    help: "Entries in use of each table that the hooks fill.",
    source: "the maps",
    example: "uffdwp_map_entries / uffdwp_map_capacity > 0.9",
    rows: FamilyRows::Agent(|rows, samples| maps(rows, samples, |usage| usage.used)),
    ..AGENT
};

const MAP_CAPACITY: FamilySpec = FamilySpec {
    name: "uffdwp_map_capacity",
    unit: "entries",
    labels: &["map"],
    help: "Entries that each table of the hooks has room for; what finds none free is in \
        uffdwp_record_failures_total.",
    source: "the options of the agent",
    example: "uffdwp_map_entries / uffdwp_map_capacity > 0.9",
    rows: FamilyRows::Agent(|rows, samples| maps(rows, samples, |usage| usage.capacity)),
    ..AGENT
};

fn maps(rows: &ScrapeRows, samples: &mut FamilySamples<'_>, value: fn(&RecordUsage) -> u64) {
    for (map, usage) in rows.counted.reading.record_tables() {
        if usage.capacity > 0 {
            samples.count(&[], [("map", map)], value(&usage));
        }
    }
}

const VMAS_FOLDED: FamilySpec = FamilySpec {
    name: "uffdwp_vmas_folded",
    unit: "VMAs",
    help: "Live VMAs that have no series of their own and are counted in vma=\"other\" or \
        pid=\"other\", because of --max-vmas, --max-processes or --detail.",
    source: "the bounds of the agent",
    example: "uffdwp_vmas_folded > 0",
    rows: FamilyRows::Agent(|rows, samples| samples.count(&[], [], rows.counted.folded)),
    ..AGENT
};

const SCAN_TIMESTAMP: FamilySpec = FamilySpec {
    name: "uffdwp_scan_timestamp_seconds",
    unit: "seconds since the Unix epoch",
    help: "When the oldest background scan that uffdwp_pages still shows was finished.",
    source: "the agent's clock",
    example: "time() - uffdwp_scan_timestamp_seconds > 300",
    rows: FamilyRows::Agent(|rows, samples| gauge(samples, rows.counted.oldest_scan_unix_seconds)),
    ..AGENT
};

const SCAN_LATE_VMAS: FamilySpec = FamilySpec {
    name: "uffdwp_scan_late_vmas",
    unit: "VMAs",
    help: "VMAs that take more turns of the background scan than one, and have not been counted to \
        their end: uffdwp_pages shows them as they were before, or not yet.",
    source: "the scan",
    example: "min_over_time(uffdwp_scan_late_vmas[10m]) > 0",
    rows: FamilyRows::Agent(|rows, samples| count(samples, rows.agent.late_vmas)),
    ..AGENT
};

const COLLECTOR_DURATION: FamilySpec = FamilySpec {
    name: "uffdwp_scrape_collector_duration_seconds",
    unit: "seconds",
    labels: &["collector"],
    help: "How long the last run of each collector took.",
    source: "the agent's clock",
    example: "uffdwp_scrape_collector_duration_seconds > 1",
    rows: FamilyRows::Agent(|rows, samples| {
        for run in &rows.agent.collectors {
            let labels = [("collector", run.collector)];
            samples.add(&[], labels, run.duration.as_secs_f64());
        }
    }),
    ..AGENT
};

const COLLECTOR_SUCCESS: FamilySpec = FamilySpec {
    name: "uffdwp_scrape_collector_success",
    unit: "1 if it did all it set out to do, else 0",
    labels: &["collector"],
    help: "Whether the last run of each collector succeeded.",
    source: "the agent",
    example: "uffdwp_scrape_collector_success == 0",
    rows: FamilyRows::Agent(|rows, samples| {
        for run in &rows.agent.collectors {
            let labels = [("collector", run.collector)];
            samples.count(&[], labels, u64::from(run.success));
        }
    }),
    ..AGENT
};

const COLLECTOR_TIMESTAMP: FamilySpec = FamilySpec {
    name: "uffdwp_scrape_collector_timestamp_seconds",
    unit: "seconds since the Unix epoch",
    labels: &["collector"],
    help: "When the last run of each collector ended. A scan of all VMAs may take long within its \
        budget; /readyz fails when a loop stands still.",
    source: "the agent's clock",
    example: "time() - uffdwp_scrape_collector_timestamp_seconds > 300",
    rows: FamilyRows::Agent(|rows, samples| {
        for run in &rows.agent.collectors {
            let labels = [("collector", run.collector)];
            samples.add(&[], labels, run.completed_unix_seconds);
        }
    }),
    ..AGENT
};

const PROCESSES_SEEN: FamilySpec = FamilySpec {
    name: "uffdwp_discovery_processes_seen",
    unit: "processes",
    help: "Processes that the last discovery saw, without the agent: of all by smaps, of those \
        that use uffd-wp by the BPF iterator.",
    source: "/proc, or the BPF iterator task_vma",
    example: "uffdwp_discovery_processes_seen == 0",
    rows: FamilyRows::Agent(|rows, samples| {
        count(samples, rows.agent.sight.seen.map(|seen| seen as u64));
    }),
    ..AGENT
};

const PROCESSES_REFUSED: FamilySpec = FamilySpec {
    name: "uffdwp_discovery_processes_refused",
    unit: "processes",
    labels: &["reason"],
    help: "Processes that the last discovery could not look at, or not in all: hidden is a /proc \
        with hidepid= (those that it hides are not listed, so 1 stands for all), pid_namespace a \
        /proc of another pid namespace, privilege a missing CAP_SYS_PTRACE, stuck a file that the \
        kernel does not answer. /status names the first.",
    source: "errors of files in /proc",
    example: "uffdwp_discovery_processes_refused > 0",
    rows: FamilyRows::Agent(|rows, samples| {
        for (reason, refused) in &rows.agent.sight.refused {
            samples.count(&[], [("reason", reason)], *refused as u64);
        }
    }),
    ..AGENT
};

const LOG_LINES_LOST: FamilySpec = FamilySpec {
    name: "uffdwp_log_lines_lost_total",
    kind: FamilyKind::Counter,
    unit: "lines",
    labels: &["reason"],
    help: "Log lines that were not written: rate is more than 100 of one kind at once and one a \
        second from then on, unwritable is a stderr that takes no bytes (a full disk, a closed \
        pipe, a reader that stands still). Neither stops the agent.",
    source: "the agent",
    example: "increase(uffdwp_log_lines_lost_total[5m]) > 0",
    rows: FamilyRows::Agent(|rows, samples| {
        for (reason, lines) in &rows.agent.log_lines_lost {
            samples.count(&[], [("reason", reason)], *lines);
        }
    }),
    ..AGENT
};

const CPU_SECONDS: FamilySpec = FamilySpec {
    name: "process_cpu_seconds_total",
    kind: FamilyKind::Counter,
    unit: "seconds",
    help: "User and system time that the agent used.",
    source: "/proc/self/stat",
    example: "rate(process_cpu_seconds_total[5m])",
    rows: FamilyRows::Agent(|rows, samples| gauge(samples, rows.usage.cpu_seconds)),
    ..AGENT
};

const RESIDENT_BYTES: FamilySpec = FamilySpec {
    name: "process_resident_memory_bytes",
    unit: "bytes",
    help: "Memory that the agent has resident.",
    source: "/proc/self/stat",
    example: "process_resident_memory_bytes",
    rows: FamilyRows::Agent(|rows, samples| count(samples, rows.usage.resident_bytes)),
    ..AGENT
};

const VIRTUAL_BYTES: FamilySpec = FamilySpec {
    name: "process_virtual_memory_bytes",
    unit: "bytes",
    help: "Memory that the agent has mapped.",
    source: "/proc/self/stat",
    example: "process_virtual_memory_bytes",
    rows: FamilyRows::Agent(|rows, samples| count(samples, rows.usage.virtual_bytes)),
    ..AGENT
};

const OPEN_FDS: FamilySpec = FamilySpec {
    name: "process_open_fds",
    unit: "file descriptors",
    help: "File descriptors that the agent has open.",
    source: "/proc/self/fd",
    example: "process_open_fds / process_max_fds",
    rows: FamilyRows::Agent(|rows, samples| count(samples, rows.usage.open_fds)),
    ..AGENT
};

const MAX_FDS: FamilySpec = FamilySpec {
    name: "process_max_fds",
    unit: "file descriptors",
    help: "File descriptors that the agent may have open.",
    source: "getrlimit(2), RLIMIT_NOFILE",
    example: "process_open_fds / process_max_fds",
    rows: FamilyRows::Agent(|rows, samples| count(samples, rows.usage.max_fds)),
    ..AGENT
};

const THREADS: FamilySpec = FamilySpec {
    name: "process_threads",
    unit: "threads",
    help: "Threads of the agent.",
    source: "/proc/self/stat",
    example: "process_threads",
    rows: FamilyRows::Agent(|rows, samples| count(samples, rows.usage.threads)),
    ..AGENT
};

const START_TIME: FamilySpec = FamilySpec {
    name: "process_start_time_seconds",
    unit: "seconds since the Unix epoch",
    help: "When the agent started, by the clock as it was then; later steps of the clock do not \
        move it.",
    source: "/proc/self/stat and clock_gettime(2)",
    example: "changes(process_start_time_seconds[1h]) > 0",
    rows: FamilyRows::Agent(|rows, samples| gauge(samples, rows.usage.start_unix_seconds)),
    ..AGENT
};

fn gauge(samples: &mut FamilySamples<'_>, value: Option<f64>) {
    if let Some(value) = value {
        samples.add(&[], [], value);
    }
}

fn count(samples: &mut FamilySamples<'_>, value: Option<u64>) {
    if let Some(value) = value {
        samples.count(&[], [], value);
    }
}
