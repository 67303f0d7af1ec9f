//! From a plan to what can be counted, and how well.

use tracker_ebpf::{FaultEntry, MarkerEvent, TableLevel, WpMode};

use super::hooks::HookId;
use super::verdict::HookPlan;
use crate::model::{CountAvailability, CountExactness, CountSignal};

/// What a signal needs.
struct SignalNeeds {
    signal: CountSignal,
    /// Hooks without which nothing can be counted.
    all_of: &'static [HookId],
    /// Hooks without which the count is too low.
    better_with: &'static [HookId],
    /// Why the count is an estimate even with all of them.
    estimated: Option<&'static str>,
}

/// Hooks that every attribution to a VMA is better with.
const HUGETLB: &[HookId] = &[HookId::hugetlb_fault, HookId::huge_pte_alloc_exit];

fn requirements() -> Vec<SignalNeeds> {
    let need = |signal, all_of, better_with| SignalNeeds {
        signal,
        all_of,
        better_with,
        estimated: None,
    };
    let mut all = vec![
        need(
            CountSignal::Fault(WpMode::Async, FaultEntry::Pte),
            &[HookId::do_wp_page][..],
            &[][..],
        ),
        need(
            CountSignal::Fault(WpMode::Async, FaultEntry::Huge),
            &[HookId::split_huge_pmd],
            HUGETLB,
        ),
        need(
            CountSignal::Fault(WpMode::Async, FaultEntry::Marker),
            &[HookId::do_swap_page],
            HUGETLB,
        ),
        need(
            CountSignal::Fault(WpMode::Sync, FaultEntry::Pte),
            &[HookId::handle_userfault],
            &[],
        ),
        need(
            CountSignal::Fault(WpMode::Sync, FaultEntry::Huge),
            &[HookId::handle_userfault],
            &[],
        ),
        need(
            CountSignal::Fault(WpMode::Sync, FaultEntry::Marker),
            &[HookId::do_swap_page],
            HUGETLB,
        ),
        need(
            CountSignal::Marker(MarkerEvent::Consumed),
            &[HookId::do_swap_page],
            HUGETLB,
        ),
        need(
            CountSignal::TableAllocated(TableLevel::Pte),
            &[HookId::pmd_install],
            &[HookId::deposit],
        ),
        need(
            CountSignal::TableAllocated(TableLevel::Pmd),
            &[HookId::pmd_alloc],
            &[],
        ),
        need(
            CountSignal::TableAllocated(TableLevel::Pud),
            &[HookId::pud_alloc],
            &[],
        ),
        need(
            CountSignal::TableFreed(TableLevel::Pte),
            &[HookId::pte_free_tlb],
            &[HookId::withdraw, HookId::pte_free_defer],
        ),
        need(
            CountSignal::TableFreed(TableLevel::Pmd),
            &[HookId::pmd_free_tlb],
            &[],
        ),
        need(
            CountSignal::TableFreed(TableLevel::Pud),
            &[HookId::pud_free_tlb],
            &[],
        ),
        need(
            CountSignal::FaultWait,
            &[HookId::handle_userfault, HookId::handle_userfault_exit],
            &[],
        ),
        need(
            CountSignal::ArmTime,
            &[HookId::userfaultfd_ioctl, HookId::userfaultfd_ioctl_exit],
            &[],
        ),
        need(
            CountSignal::ScanTime,
            &[HookId::scan, HookId::scan_exit],
            &[],
        ),
    ];
    all.push(SignalNeeds {
        signal: CountSignal::Marker(MarkerEvent::Installed),
        all_of: &[HookId::marks],
        better_with: &[HookId::make_uffd_wp_pte, HookId::zap, HookId::hugetlb_zap],
        estimated: Some(
            "change_pte_range and zap_pte_range are inlined: the entries of a range are counted before \
             the kernel changes it; what reclaim leaves (try_to_unmap_one) is not",
        ),
    });
    all.push(SignalNeeds {
        signal: CountSignal::Marker(MarkerEvent::Dropped),
        all_of: &[HookId::zap],
        better_with: &[HookId::marks, HookId::hugetlb_zap],
        estimated: Some(
            "zap_pte_range and change_pte_range are inlined: the entries of a range are counted before \
             the kernel changes it; what mremap and UFFDIO_COPY drop is not",
        ),
    });
    all
}

/// How well each signal is counted under a plan. `uffdwp_pages` needs no hook.
#[must_use]
pub fn availability(plan: &[HookPlan]) -> CountAvailability {
    let mut available = CountAvailability::default();
    available.set(CountSignal::Pages, CountExactness::Exact);
    for requirement in requirements() {
        available.set(requirement.signal, exactness(&requirement, plan));
    }
    available
}

fn exactness(requirement: &SignalNeeds, plan: &[HookPlan]) -> CountExactness {
    let find = |id: &HookId| plan.iter().find(|plan| plan.hook.id == *id);
    let attached = |id| find(id).is_some_and(|plan| plan.program().is_some());
    if !requirement.all_of.iter().all(attached) {
        return CountExactness::Absent;
    }
    let better_with = requirement.better_with.iter();
    let gap = better_with.filter_map(find).find(|plan| plan.is_missing());
    match (gap, requirement.estimated) {
        (Some(gap), _) => {
            let (hook, reason) = (gap.hook.name(), gap.reason());
            CountExactness::Estimated(format!("without {hook}: {reason}"))
        }
        (None, Some(reason)) => CountExactness::Estimated(reason.to_owned()),
        (None, None) => CountExactness::Exact,
    }
}
