//! From a plan to what can be counted, and how well.

use tracker_ebpf::{Entry, Level, MarkerEvent, Mode};

use super::plan::{HookPlan, Verdict};
use crate::model::signal::{Availability, Exactness, Signal};

/// What a signal needs.
struct Requirement {
    signal: Signal,
    /// Hooks without which nothing can be counted.
    all_of: &'static [&'static str],
    /// Hooks without which the count is too low.
    better_with: &'static [&'static str],
    /// Why the count is an estimate even with all of them.
    estimated: Option<&'static str>,
}

/// Hooks that every attribution to a VMA is better with.
const HUGETLB: &[&str] = &["hugetlb_fault", "huge_pte_alloc_exit"];

fn requirements() -> Vec<Requirement> {
    let need = |signal, all_of, better_with| Requirement {
        signal,
        all_of,
        better_with,
        estimated: None,
    };
    let mut all = vec![
        need(
            Signal::Fault(Mode::Async, Entry::Pte),
            &["do_wp_page"][..],
            &[][..],
        ),
        need(
            Signal::Fault(Mode::Async, Entry::Huge),
            &["split_huge_pmd"],
            HUGETLB,
        ),
        need(
            Signal::Fault(Mode::Async, Entry::Marker),
            &["do_swap_page"],
            HUGETLB,
        ),
        need(
            Signal::Fault(Mode::Sync, Entry::Pte),
            &["handle_userfault"],
            &[],
        ),
        need(
            Signal::Fault(Mode::Sync, Entry::Huge),
            &["handle_userfault"],
            &[],
        ),
        need(
            Signal::Fault(Mode::Sync, Entry::Marker),
            &["do_swap_page"],
            HUGETLB,
        ),
        need(
            Signal::Marker(MarkerEvent::Consumed),
            &["do_swap_page"],
            HUGETLB,
        ),
        need(
            Signal::TableAllocated(Level::Pte),
            &["pmd_install"],
            &["deposit"],
        ),
        need(Signal::TableAllocated(Level::Pmd), &["pmd_alloc"], &[]),
        need(Signal::TableAllocated(Level::Pud), &["pud_alloc"], &[]),
        need(
            Signal::TableFreed(Level::Pte),
            &["pte_free_tlb"],
            &["withdraw", "pte_free_defer"],
        ),
        need(Signal::TableFreed(Level::Pmd), &["pmd_free_tlb"], &[]),
        need(Signal::TableFreed(Level::Pud), &["pud_free_tlb"], &[]),
        need(
            Signal::FaultWait,
            &["handle_userfault", "handle_userfault_exit"],
            &[],
        ),
        need(
            Signal::ArmTime,
            &["userfaultfd_ioctl", "userfaultfd_ioctl_exit"],
            &[],
        ),
        need(Signal::ScanTime, &["scan", "scan_exit"], &[]),
    ];
    all.push(Requirement {
        signal: Signal::Marker(MarkerEvent::Installed),
        all_of: &["marks"],
        better_with: &["make_uffd_wp_pte", "zap", "hugetlb_zap"],
        estimated: Some(
            "change_pte_range and zap_pte_range are inlined: the entries of a range are counted before \
             the kernel changes it; what reclaim leaves (try_to_unmap_one) is not",
        ),
    });
    all.push(Requirement {
        signal: Signal::Marker(MarkerEvent::Dropped),
        all_of: &["zap"],
        better_with: &["marks", "hugetlb_zap"],
        estimated: Some(
            "zap_pte_range and change_pte_range are inlined: the entries of a range are counted before \
             the kernel changes it; what mremap and UFFDIO_COPY drop is not",
        ),
    });
    all
}

/// How well each signal is counted under a plan. `uffdwp_pages` needs no hook.
#[must_use]
pub fn availability(plan: &[HookPlan]) -> Availability {
    let mut available = Availability::default();
    available.set(Signal::Pages, Exactness::Exact);
    for requirement in requirements() {
        available.set(requirement.signal, exactness(&requirement, plan));
    }
    available
}

fn exactness(requirement: &Requirement, plan: &[HookPlan]) -> Exactness {
    let find = |name: &str| plan.iter().find(|hook| hook.hook == name);
    let attached = |name: &&&str| find(name).is_some_and(|hook| hook.mechanism().is_some());
    if !requirement.all_of.iter().all(|name| attached(&name)) {
        return Exactness::Absent;
    }
    let gap = requirement
        .better_with
        .iter()
        .filter_map(|name| find(name))
        .find(|hook| matches!(hook.verdict, Verdict::Absent | Verdict::Off));
    match (gap, requirement.estimated) {
        (Some(hook), _) => Exactness::Estimated(format!("without {}: {}", hook.hook, hook.reason)),
        (None, Some(reason)) => Exactness::Estimated(reason.to_owned()),
        (None, None) => Exactness::Exact,
    }
}
