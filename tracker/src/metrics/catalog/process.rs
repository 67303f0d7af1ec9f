//! Families with a row per process.

use tracker_ebpf::TableLevel;

use super::super::facts::Signal;
use super::super::family::{Family, Kind, Samples, seconds};
use super::super::label::{self, pair};
use super::super::scrape::{Scrape, process_labels};
use super::{fault_wait_signals, freed_signals, no_signals};
use crate::model::{Detail, words};

pub(super) const PAGE_TABLES_FREED: Family = Family {
    name: "uffdwp_page_tables_freed_total",
    kind: Kind::Counter,
    unit: "page tables of 4 KiB",
    labels: &["pid", "comm", "level"],
    help: "Page tables freed by processes that use uffd-wp. Arming allocates tables that stay when the userfaultfd is closed.",
    source: "___pte_free_tlb, ___pmd_free_tlb, ___pud_free_tlb, pte_free_defer, pgtable_trans_huge_withdraw",
    exactness: "exact: allocated minus freed is the change of VmPTE",
    example: "sum by (pid) (uffdwp_page_tables_allocated_total) - on (pid) sum by (pid) (uffdwp_page_tables_freed_total)",
    signals: freed_signals,
    samples: freed,
};

fn freed(scrape: &Scrape, samples: &mut Samples) {
    for line in &scrape.processes {
        for level in TableLevel::ALL {
            if scrape.facts.availability.has(Signal::TableFreed(level)) {
                let labels = [("level", words::level(level))];
                samples.count(&line.labels, labels, line.counts.freed[level as usize]);
            }
        }
    }
}

pub(super) const PAGE_TABLE_BYTES: Family = Family {
    name: "uffdwp_page_table_bytes",
    kind: Kind::Gauge,
    unit: "bytes",
    labels: &["pid", "comm"],
    help: "Memory in page tables of a process that uses uffd-wp.",
    source: "VmPTE of /proc/PID/status (mm->pgtables_bytes)",
    exactness: "exact at the last discovery",
    example: "sum by (pid, comm) (uffdwp_page_table_bytes) > 64 * 1024 * 1024",
    signals: no_signals,
    samples: table_bytes,
};

fn table_bytes(scrape: &Scrape, samples: &mut Samples) {
    for line in &scrape.processes {
        if let Some(bytes) = line.page_table_bytes {
            samples.count(&line.labels, [], bytes);
        }
    }
}

pub(super) const FAULT_WAIT: Family = Family {
    name: "uffdwp_process_fault_wait_seconds_total",
    kind: Kind::Counter,
    unit: "seconds, summed over threads",
    labels: &["pid", "comm"],
    help: "Time that threads of the process waited until a handler resolved their write-protect fault.",
    source: "handle_userfault, entry to return",
    exactness: "exact to the clock; the time of a wait counts when it is over",
    example: "rate(uffdwp_process_fault_wait_seconds_total[5m])",
    signals: fault_wait_signals,
    samples: fault_wait,
};

fn fault_wait(scrape: &Scrape, samples: &mut Samples) {
    for line in &scrape.processes {
        samples.add(&line.labels, [], seconds(line.counts.fault_wait_ns));
    }
}

pub(super) const PROCESS_INFO: Family = Family {
    name: "uffdwp_process_info",
    kind: Kind::Gauge,
    unit: "always 1",
    labels: &["pid", "comm", "cgroup"],
    help: "What else is known about a process with series of its own, to join on pid: its cgroup.",
    source: "/proc/PID/cgroup",
    exactness: "as of the last discovery",
    example: "rate(uffdwp_faults_total[5m]) * on (pid) group_left (cgroup) uffdwp_process_info",
    signals: no_signals,
    samples: process_info,
};

fn process_info(scrape: &Scrape, samples: &mut Samples) {
    if scrape.view.detail == Detail::Node {
        return;
    }
    for row in &scrape.view.processes {
        let mut labels = process_labels(row);
        labels.push(pair(
            "cgroup",
            label::text(row.cgroup.as_deref().unwrap_or_default()),
        ));
        samples.count(&labels, [], 1);
    }
}
