//! The kernel's own tracer counts the same calls as the agent: kprobe events with histogram
//! triggers (Documentation/trace/kprobetrace.rst, histogram.rst), which share no code with the
//! agent's programs. Runs only in guests.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::collections::BTreeMap;

use testbed::tracer::{FunctionTracer, TracerProbe};
use testbed::workload::SteppedRow;
use testbed::{AgentProcess, guest, sum};

const PROBES: [TracerProbe; 14] = [
    TracerProbe {
        name: "write_fault",
        event: ("p", "do_wp_page", "flags=+40(%di):u32 pte=+64(%di):u64"),
        // On x86 the uffd-wp bit is bit 10; FAULT_FLAG_UNSHARE is not a write.
        filter: "pte & 0x400 && !(flags & 0x400)",
        own: true,
    },
    TracerProbe {
        own: true,
        ..TracerProbe::MESSAGE
    },
    TracerProbe {
        name: "marker_fault",
        event: ("p", "do_swap_page", "pte=+64(%di):u64"),
        // Those of 6.12 and later, and of 6.1: the swap type of markers is not the same.
        filter: "pte == 0xfffffffffffffc00 || pte == 0xf7fffffffffffc00",
        own: true,
    },
    TracerProbe {
        name: "marker_retry",
        event: ("r", "do_swap_page", "ret=$retval:u32"),
        // VM_FAULT_RETRY: the same fault comes again.
        filter: "ret & 0x400",
        own: true,
    },
    TracerProbe {
        name: "scan_marker",
        event: ("p", "make_uffd_wp_pte", "pte=%cx:u64"),
        filter: "pte == 0",
        own: true,
    },
    TracerProbe::calls("pte_table", "pmd_install"),
    TracerProbe::calls("pmd_table", "__pmd_alloc"),
    TracerProbe::calls("pud_table", "__pud_alloc"),
    TracerProbe::calls("pte_free", "___pte_free_tlb"),
    TracerProbe::calls("pmd_free", "___pmd_free_tlb"),
    TracerProbe::calls("pud_free", "___pud_free_tlb"),
    TracerProbe {
        name: "waited",
        event: ("r", "handle_userfault", ""),
        filter: "",
        own: false,
    },
    TracerProbe::ARM,
    TracerProbe {
        name: "scan",
        event: ("p", "do_pagemap_scan", ""),
        filter: "",
        own: false,
    },
];

/// A family, and the probes that must have been hit as often as it counts.
struct FamilyClaim {
    family: &'static str,
    labels: &'static [&'static str],
    /// Whether the family has a pid label.
    own: bool,
    calls: &'static [&'static str],
    /// Probes whose hits are subtracted.
    less: &'static [&'static str],
    /// How the names of the rows end for which this holds: others count nothing, or also what no
    /// function of the kernel shows.
    rows: &'static str,
}

const CLAIM: FamilyClaim = FamilyClaim {
    family: "uffdwp_page_tables_allocated_total",
    labels: &[],
    own: true,
    calls: &[],
    less: &[],
    rows: "",
};

const FREED: FamilyClaim = FamilyClaim {
    family: "uffdwp_page_tables_freed_total",
    ..CLAIM
};

const CLAIMS: [FamilyClaim; 14] = [
    FamilyClaim {
        family: "uffdwp_faults_total",
        labels: &["mode=\"async\"", "entry=\"pte\""],
        calls: &["write_fault"],
        rows: "async",
        ..CLAIM
    },
    FamilyClaim {
        family: "uffdwp_faults_total",
        labels: &["mode=\"sync\"", "entry=\"pte\""],
        calls: &["message"],
        ..CLAIM
    },
    FamilyClaim {
        family: "uffdwp_faults_total",
        labels: &["entry=\"marker\""],
        calls: &["marker_fault"],
        less: &["marker_retry"],
        ..CLAIM
    },
    FamilyClaim {
        family: "uffdwp_markers_total",
        labels: &["event=\"consumed\""],
        calls: &["marker_fault"],
        less: &["marker_retry"],
        ..CLAIM
    },
    FamilyClaim {
        family: "uffdwp_markers_total",
        labels: &["event=\"installed\""],
        calls: &["scan_marker"],
        rows: "scan-ptes-async",
        ..CLAIM
    },
    FamilyClaim {
        labels: &["level=\"pte\""],
        calls: &["pte_table"],
        ..CLAIM
    },
    FamilyClaim {
        labels: &["level=\"pmd\""],
        calls: &["pmd_table"],
        ..CLAIM
    },
    FamilyClaim {
        labels: &["level=\"pud\""],
        calls: &["pud_table"],
        ..CLAIM
    },
    FamilyClaim {
        labels: &["level=\"pte\""],
        calls: &["pte_free"],
        ..FREED
    },
    FamilyClaim {
        labels: &["level=\"pmd\""],
        calls: &["pmd_free"],
        ..FREED
    },
    FamilyClaim {
        labels: &["level=\"pud\""],
        calls: &["pud_free"],
        ..FREED
    },
    FamilyClaim {
        family: "uffdwp_fault_wait_seconds_count",
        own: false,
        calls: &["waited"],
        ..CLAIM
    },
    FamilyClaim {
        family: "uffdwp_arm_seconds_count",
        own: false,
        calls: &["arm"],
        ..CLAIM
    },
    FamilyClaim {
        family: "uffdwp_scan_seconds_count",
        own: false,
        calls: &["scan"],
        ..CLAIM
    },
];

/// The calls that a claim expects; `None` if this kernel has no such function.
fn calls(tracer: &FunctionTracer, claim: &FamilyClaim) -> Option<f64> {
    let sum = |names: &[&str]| {
        names
            .iter()
            .map(|name| tracer.hits(name))
            .sum::<Option<f64>>()
    };
    Some(sum(claim.calls)? - sum(claim.less)?)
}

/// How much the agent's series gained, over all labels that a claim does not name.
fn gained(claim: &FamilyClaim, pid: u32, before: &str, after: &str) -> f64 {
    let own = format!("pid=\"{pid}\"");
    let mut labels = claim.labels.to_vec();
    if claim.own {
        labels.push(&own);
    }
    let value = |exposition| sum(exposition, claim.family, &labels).unwrap_or(0.0);
    value(after) - value(before)
}

/// Runs a row; returns what both counted for each claim, or `None` if the row cannot run here.
fn run(agent: &AgentProcess, row: &str) -> Option<Vec<(&'static FamilyClaim, f64, f64)>> {
    let mut workload = SteppedRow::start(row, &[])?;
    let pid = workload.pid();
    let tracer = FunctionTracer::start(&PROBES, Some(pid));
    let before = agent.metrics();
    workload.work();
    guest::wait_exact(agent, &before, &workload);
    let after = agent.metrics();
    let mut all = Vec::new();
    for claim in CLAIMS.iter().filter(|claim| row.ends_with(claim.rows)) {
        if let Some(calls) = calls(&tracer, claim) {
            all.push((claim, calls, gained(claim, pid, &before, &after)));
        }
    }
    Some(all)
}

#[test]
#[ignore = "needs a kernel whose functions can be hooked: cargo xtask test"]
fn the_kernels_tracer_counts_the_same() {
    let agent = guest::agent(&[]);
    let mut seen: BTreeMap<&str, f64> = BTreeMap::new();
    let mut wrong = Vec::new();
    for row in [
        "anon-present-sync",
        "shmem-marker-write-sync",
        "munmap-sync",
        "anon-present-async",
        "anon-marker-write-async",
        "scan-ptes-async",
        "munmap-async",
    ] {
        let Some(compared) = run(&agent, row) else {
            continue;
        };
        println!("{row}");
        for (claim, calls, counted) in compared {
            let FamilyClaim { family, labels, .. } = claim;
            let line = format!("{family}{labels:?}: the tracer {calls}, the agent {counted}");
            println!("    {line}");
            if calls != counted {
                wrong.push(format!("{row}: {line}"));
            }
            *seen.entry(family).or_default() += calls;
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    // Each family was tested by at least one event; 6.1 has no PAGEMAP_SCAN.
    let scans = agent.metrics().contains("uffdwp_scan_seconds_count");
    for (family, calls) in seen {
        let idle = family.contains("_scan_") && !scans;
        assert!(calls > 0.0 || idle, "{family} was never tested");
    }
}
