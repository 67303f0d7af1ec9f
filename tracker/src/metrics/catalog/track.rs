//! Families of the processes that the agent tracks (`--track`): a row per process, and what all of
//! it costs.

use std::borrow::Cow;

use super::super::family::{FamilyKind, FamilyRows, FamilySpec};
use super::super::label;
use super::super::tracked::{TrackedField, TrackedReading, TrackedRow, TrackedValue};

/// Families with a row per process.
pub(super) const FAMILIES: &[FamilySpec] = &[
    WRITTEN,
    UNKNOWN,
    VANISHED,
    IN_DOUBT,
    ROUNDS,
    TRACKED,
    SHARED,
    UNTRACKED,
    MAPPINGS,
    MAPPINGS_MAX,
    INTERVAL,
    CPU,
    INFO,
];

/// Families of all tracking together.
pub(super) const NODE_FAMILIES: &[FamilySpec] =
    &[NODE_WRITTEN, NODE_CPU, BUDGET, PROCESSES, FAILURES];

/// What a tracked process shows in `/status` and not in `/metrics`, or only as a label.
pub(super) const STATUS_ONLY: &[TrackedField] = &[
    field("pid", |row| TrackedValue::Count(u64::from(row.process.pid))),
    field("comm", |row| {
        TrackedValue::Word(label::text(&row.comm).into())
    }),
    field("selector", |row| {
        TrackedValue::Word(Cow::Borrowed(&row.selector))
    }),
    field("tracked", |row| TrackedValue::Flag(row.is_live())),
    field("over_budget", |row| TrackedValue::Flag(row.over_budget)),
    field("last_round_cpu_seconds", |row| {
        TrackedValue::Seconds(row.last_cost)
    }),
    field("stopped_seconds", |row| {
        TrackedValue::MaybeSeconds(row.stopped)
    }),
    field("notes", |row| TrackedValue::Notes(&row.notes)),
];

const fn field(key: &'static str, read: fn(&TrackedRow) -> TrackedValue<'_>) -> TrackedField {
    TrackedField {
        key,
        read: TrackedReading::Process(read),
    }
}

const fn shown(key: &'static str, read: fn(&TrackedRow) -> TrackedValue<'_>) -> FamilyRows {
    FamilyRows::Tracked(field(key, read))
}

/// What the families here have in common.
const TRACK: FamilySpec = FamilySpec {
    name: "",
    kind: FamilyKind::Gauge,
    unit: "",
    labels: &["pid", "comm"],
    help: "",
    source: "the rounds",
    exactness: "exact",
    example: "",
    signals: &[],
    rows: FamilyRows::Tracking(|_, _| {}),
};

pub(super) const WRITTEN: FamilySpec = FamilySpec {
    name: "uffdwp_written_pages_total",
    kind: FamilyKind::Counter,
    unit: "pages of 4 KiB, each once for each round in which it was written",
    help: "Pages that a tracked process wrote, summed over all its mappings and over rounds: a \
        page written in two rounds counts twice, one written often between two rounds counts once. \
        A huge page that is mapped as one counts with all its 4 KiB pages.",
    exactness: "as the strategy in uffdwp_track_info, see docs/strategies.md; what was written to \
        memory that was unmapped before the next round is not seen (uffdwp_vanished_pages_total)",
    example: "4096 * rate(uffdwp_written_pages_total[5m])",
    rows: shown("written_pages", |row| {
        TrackedValue::Count(row.written_pages)
    }),
    ..TRACK
};

const UNKNOWN: FamilySpec = FamilySpec {
    name: "uffdwp_unknown_pages_total",
    kind: FamilyKind::Counter,
    unit: "pages of 4 KiB",
    help: "Pages of a tracked process that were there when they were armed for the first time: at \
        attaching, in a mapping that is new, after exec. Nobody saw whether they had been written; \
        whoever copies memory must take them as written.",
    exactness: "exact, as of arming",
    example: "rate(uffdwp_unknown_pages_total[5m])",
    rows: shown("unknown_pages", |row| {
        TrackedValue::Count(row.unknown_pages)
    }),
    ..TRACK
};

const VANISHED: FamilySpec = FamilySpec {
    name: "uffdwp_vanished_pages_total",
    kind: FamilyKind::Counter,
    unit: "pages of 4 KiB, there or not",
    help: "Pages of tracked mappings that were unmapped between two rounds. What was written to \
        them since the first of the two is not in uffdwp_written_pages_total.",
    exactness: "exact for what is gone at the next round",
    example: "rate(uffdwp_vanished_pages_total[5m]) > 0",
    rows: shown("vanished_pages", |row| {
        TrackedValue::Count(row.vanished_pages)
    }),
    ..TRACK
};

const IN_DOUBT: FamilySpec = FamilySpec {
    name: "uffdwp_in_doubt_pages_total",
    kind: FamilyKind::Counter,
    unit: "pages of 4 KiB",
    help: "Pages in uffdwp_written_pages_total that were reported because an event was lost that \
        would have told whether they were written: only with --track-strategy fault-time.",
    exactness: "each of them may be a false positive, and none hides a write",
    example: "rate(uffdwp_in_doubt_pages_total[5m]) / rate(uffdwp_written_pages_total[5m])",
    rows: shown("in_doubt_pages", |row| {
        TrackedValue::Count(row.in_doubt_pages)
    }),
    ..TRACK
};

const ROUNDS: FamilySpec = FamilySpec {
    name: "uffdwp_rounds_total",
    kind: FamilyKind::Counter,
    unit: "rounds, without the first arming",
    help: "How often the written pages of a tracked process were read and armed again.",
    example: "rate(uffdwp_written_pages_total[5m]) / rate(uffdwp_rounds_total[5m])",
    rows: shown("rounds", |row| TrackedValue::Count(row.rounds)),
    ..TRACK
};

const TRACKED: FamilySpec = FamilySpec {
    name: "uffdwp_tracked_pages",
    unit: "pages of 4 KiB, there or not",
    help: "Pages that are tracked of a process; one of shared memory counts once, however often it \
        is mapped. All else that is mapped is in uffdwp_untracked_pages.",
    exactness: "as of the last round",
    example: "4096 * uffdwp_tracked_pages",
    rows: shown("tracked_pages", |row| {
        TrackedValue::Count(row.tracked_pages)
    }),
    ..TRACK
};

const SHARED: FamilySpec = FamilySpec {
    name: "uffdwp_shared_pages",
    unit: "pages of 4 KiB, there or not",
    help: "Those of uffdwp_tracked_pages that are shared memory (MAP_SHARED). What others write to \
        them is in nobody's uffdwp_written_pages_total but theirs, if they are tracked, too; only \
        the strategy hash sees it.",
    exactness: "as of the last round",
    example: "uffdwp_shared_pages / uffdwp_tracked_pages",
    rows: shown("shared_pages", |row| TrackedValue::Count(row.shared_pages)),
    ..TRACK
};

const UNTRACKED: FamilySpec = FamilySpec {
    name: "uffdwp_untracked_pages",
    unit: "pages of 4 KiB, there or not",
    labels: &["pid", "comm", "reason"],
    help: "Pages that a tracked process has mapped and that are not looked at: nobody knows \
        whether they were written. By reason (other_userfaultfd, not_registrable, too_large, \
        secret, shared_read_only, not_writable, device, kernel_ring, kernel, given_back, \
        mapping_limit, growing, changing, not_attached); one is there while it has pages. \
        docs/strategies.md.",
    exactness: "as of the last round",
    example: "sum by (pid, comm) (uffdwp_untracked_pages{reason!~\"kernel|shared_read_only\"}) > 0",
    rows: shown("not_looked_at", |row| {
        TrackedValue::Untracked(&row.not_looked_at)
    }),
    ..TRACK
};

const MAPPINGS: FamilySpec = FamilySpec {
    name: "uffdwp_track_mappings",
    unit: "mappings, as in /proc/PID/maps",
    help: "Mappings that a tracked process has, tracked or not. What is registered does not merge \
        with what is not, so a process that maps and unmaps has more of them while it is tracked; \
        half way from those it had to those it may have, or earlier where counting them is slow, \
        tracking lets go of it.",
    source: "/proc/PID/maps",
    exactness: "as of the last round",
    example: "uffdwp_track_mappings / uffdwp_track_mappings_max > 0.4",
    rows: shown("mappings", |row| {
        TrackedValue::MaybeCount(row.mapping_count.map(|count| count.now as u64))
    }),
    ..TRACK
};

const MAPPINGS_MAX: FamilySpec = FamilySpec {
    name: "uffdwp_track_mappings_max",
    unit: "mappings",
    help: "Mappings that a tracked process may have (vm.max_map_count): beyond, its calls fail with \
        ENOMEM.",
    source: "/proc/sys/vm/max_map_count",
    exactness: "as of attaching",
    example: MAPPINGS.example,
    rows: shown("mappings_max", |row| {
        TrackedValue::MaybeCount(row.mapping_count.map(|count| count.most as u64))
    }),
    ..TRACK
};

const INTERVAL: FamilySpec = FamilySpec {
    name: "uffdwp_track_interval_seconds",
    unit: "seconds",
    help: "Time from the last round of a tracked process to the next: --track-interval, or as much \
        more as it takes to keep to --track-budget.",
    source: "the CPU time of the last round and the budget",
    example: "uffdwp_track_interval_seconds > 10",
    rows: shown("interval_seconds", |row| {
        TrackedValue::Seconds(row.interval)
    }),
    ..TRACK
};

const CPU: FamilySpec = FamilySpec {
    name: "uffdwp_track_cpu_seconds_total",
    kind: FamilyKind::Counter,
    unit: "seconds",
    help: "CPU time that attaching to a process and its rounds took the agent.",
    source: "clock_gettime(2), CLOCK_THREAD_CPUTIME_ID; for the helper process of attaching, \
        cutime and cstime of /proc/self/stat",
    exactness: "exact to the clock, for the helper to a tick of 10 ms; without the threads that \
        resolve faults for the strategies sync and missing-zeropage, and without what faults cost \
        the process itself",
    example: "topk(3, rate(uffdwp_track_cpu_seconds_total[5m]))",
    rows: shown("cpu_seconds", |row| TrackedValue::Seconds(row.cpu)),
    ..TRACK
};

const INFO: FamilySpec = FamilySpec {
    name: "uffdwp_track_info",
    unit: "always 1",
    labels: &["pid", "comm", "strategy"],
    help: "Which processes are tracked at the moment, and how.",
    source: "the agent",
    example: "rate(uffdwp_written_pages_total[5m]) * on (pid) group_left (strategy) \
        uffdwp_track_info",
    rows: shown("strategy", |row| {
        TrackedValue::Word(Cow::Borrowed(&row.strategy))
    }),
    ..TRACK
};

const NODE_WRITTEN: FamilySpec = FamilySpec {
    name: "uffdwp_node_written_pages_total",
    kind: FamilyKind::Counter,
    unit: "pages of 4 KiB, each once for each round in which it was written",
    labels: &[],
    help: "Sum of uffdwp_written_pages_total over all processes since the agent started, those \
        that ended included.",
    example: "4096 * rate(uffdwp_node_written_pages_total[5m])",
    rows: FamilyRows::Tracking(|rows, samples| samples.count(&[], [], rows.written)),
    ..TRACK
};

const NODE_CPU: FamilySpec = FamilySpec {
    name: "uffdwp_node_track_cpu_seconds_total",
    kind: FamilyKind::Counter,
    unit: "seconds",
    labels: &["work"],
    help: "CPU time that tracking took the agent since it started: reading and arming (round), \
        getting userfaultfds and arming for the first time (attach), looking for processes \
        (select). What --track-budget bounds.",
    source: CPU.source,
    exactness: CPU.exactness,
    example: "sum(rate(uffdwp_node_track_cpu_seconds_total[5m])) > uffdwp_track_budget_ratio",
    rows: FamilyRows::Tracking(|rows, samples| {
        for (work, cpu) in &rows.cpu {
            samples.add(&[], [("work", work)], cpu.as_secs_f64());
        }
    }),
    ..TRACK
};

const BUDGET: FamilySpec = FamilySpec {
    name: "uffdwp_track_budget_ratio",
    unit: "share of one core",
    labels: &[],
    help: "What tracking may take of one CPU core: --track-budget.",
    source: "the options of the agent",
    example: "sum(rate(uffdwp_node_track_cpu_seconds_total[5m])) / uffdwp_track_budget_ratio",
    rows: FamilyRows::Tracking(|rows, samples| samples.add(&[], [], rows.budget)),
    ..TRACK
};

const PROCESSES: FamilySpec = FamilySpec {
    name: "uffdwp_track_processes",
    unit: "processes",
    labels: &["state"],
    help: "Processes that --track means: tracked; refused, which are tried again later; over_max, \
        which are left out because of --track-max: each user has one before anybody has a second. \
        /status names them and says how many are whose.",
    source: "the agent",
    exactness: "as of the last look for processes",
    example: "uffdwp_track_processes{state!=\"tracked\"} > 0",
    rows: FamilyRows::Tracking(|rows, samples| {
        for (state, processes) in &rows.states {
            samples.count(&[], [("state", state)], *processes as u64);
        }
    }),
    ..TRACK
};

const FAILURES: FamilySpec = FamilySpec {
    name: "uffdwp_track_failures_total",
    kind: FamilyKind::Counter,
    unit: "tries",
    labels: &["reason"],
    help: "How often a process could not be tracked, or not any further: it has a tracer already \
        (traced), a seccomp filter that cannot be suspended (seccomp), this agent may not trace it \
        (privilege), it cannot be stopped at the moment (busy), its program is of 32 bits or \
        otherwise unfit (program), none of its memory can be tracked, for example because another \
        process has the same memory and is tracked (nothing), /proc does not show it (hidden), /proc is \
        that of another pid namespace (pid_namespace), the strategy does not work there, or none does \
        (strategy), the kernel refuses a userfaultfd or a step (kernel, unexpected). /status has \
        the sentence.",
    source: "the agent",
    example: "increase(uffdwp_track_failures_total[15m]) > 0",
    rows: FamilyRows::Tracking(|rows, samples| {
        for (reason, tries) in &rows.failures {
            samples.count(&[], [("reason", reason)], *tries);
        }
    }),
    ..TRACK
};
