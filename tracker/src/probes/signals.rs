//! From a plan to what can be counted, and how well.

use tracker_ebpf::{FaultEntry, MarkerEvent, TableLevel, WpMode};

use super::plan::{HookPlan, HookVerdict};
use crate::model::signal::{Availability, Exactness, Signal};

/// What a signal needs.
struct SignalNeeds {
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

fn requirements() -> Vec<SignalNeeds> {
    let need = |signal, all_of, better_with| SignalNeeds {
        signal,
        all_of,
        better_with,
        estimated: None,
    };
    let mut all = vec![
        need(
            Signal::Fault(WpMode::Async, FaultEntry::Pte),
            &["do_wp_page"][..],
            &[][..],
        ),
        need(
            Signal::Fault(WpMode::Async, FaultEntry::Huge),
            &["split_huge_pmd"],
            HUGETLB,
        ),
        need(
            Signal::Fault(WpMode::Async, FaultEntry::Marker),
            &["do_swap_page"],
            HUGETLB,
        ),
        need(
            Signal::Fault(WpMode::Sync, FaultEntry::Pte),
            &["handle_userfault"],
            &[],
        ),
        need(
            Signal::Fault(WpMode::Sync, FaultEntry::Huge),
            &["handle_userfault"],
            &[],
        ),
        need(
            Signal::Fault(WpMode::Sync, FaultEntry::Marker),
            &["do_swap_page"],
            HUGETLB,
        ),
        need(
            Signal::Marker(MarkerEvent::Consumed),
            &["do_swap_page"],
            HUGETLB,
        ),
        need(
            Signal::TableAllocated(TableLevel::Pte),
            &["pmd_install"],
            &["deposit"],
        ),
        need(Signal::TableAllocated(TableLevel::Pmd), &["pmd_alloc"], &[]),
        need(Signal::TableAllocated(TableLevel::Pud), &["pud_alloc"], &[]),
        need(
            Signal::TableFreed(TableLevel::Pte),
            &["pte_free_tlb"],
            &["withdraw", "pte_free_defer"],
        ),
        need(Signal::TableFreed(TableLevel::Pmd), &["pmd_free_tlb"], &[]),
        need(Signal::TableFreed(TableLevel::Pud), &["pud_free_tlb"], &[]),
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
    all.push(SignalNeeds {
        signal: Signal::Marker(MarkerEvent::Installed),
        all_of: &["marks"],
        better_with: &["make_uffd_wp_pte", "zap", "hugetlb_zap"],
        estimated: Some(
            "change_pte_range and zap_pte_range are inlined: the entries of a range are counted before \
             the kernel changes it; what reclaim leaves (try_to_unmap_one) is not",
        ),
    });
    all.push(SignalNeeds {
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

fn exactness(requirement: &SignalNeeds, plan: &[HookPlan]) -> Exactness {
    let find = |name: &str| plan.iter().find(|hook| hook.hook == name);
    let attached = |name: &&&str| find(name).is_some_and(|hook| hook.mechanism().is_some());
    if !requirement.all_of.iter().all(|name| attached(&name)) {
        return Exactness::Absent;
    }
    let gap = requirement
        .better_with
        .iter()
        .filter_map(|name| find(name))
        .find(|hook| matches!(hook.verdict, HookVerdict::Absent | HookVerdict::Off));
    match (gap, requirement.estimated) {
        (Some(hook), _) => Exactness::Estimated(format!("without {}: {}", hook.hook, hook.reason)),
        (None, Some(reason)) => Exactness::Estimated(reason.to_owned()),
        (None, None) => Exactness::Exact,
    }
}
