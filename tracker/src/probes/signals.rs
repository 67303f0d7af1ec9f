//! From a plan to what can be counted, and how well.

use tracker_ebpf::{FaultEntry, MarkerEvent, TableLevel, WpMode};

use super::hooks::HookId;
use super::verdict::HookPlan;
use crate::model::{CountAvailability, CountExactness, CountSignal};

/// What it takes to count a signal.
#[derive(Clone, Copy)]
struct SignalNeeds {
    /// Hooks without which nothing can be counted.
    all_of: &'static [HookId],
    /// Hooks without which the count is too low.
    better_with: &'static [HookId],
    /// Why the count is an estimate even with all of them.
    estimated: Option<&'static str>,
}

/// See what `do_swap_page` and `split_huge_pmd` do not see.
const HUGETLB: &[HookId] = &[HookId::hugetlb_fault, HookId::huge_pte_alloc_exit];

const fn of(all_of: &'static [HookId]) -> SignalNeeds {
    SignalNeeds {
        all_of,
        better_with: &[],
        estimated: None,
    }
}

const fn needs(signal: CountSignal) -> SignalNeeds {
    use HookId::*;
    match signal {
        CountSignal::Fault(WpMode::Async, FaultEntry::Pte) => of(&[do_wp_page]),
        CountSignal::Fault(WpMode::Async, FaultEntry::Huge) => SignalNeeds {
            better_with: HUGETLB,
            ..of(&[split_huge_pmd])
        },
        CountSignal::Fault(WpMode::Sync, FaultEntry::Pte | FaultEntry::Huge) => {
            of(&[handle_userfault])
        }
        CountSignal::Fault(_, FaultEntry::Marker) | CountSignal::Marker(MarkerEvent::Consumed) => {
            SignalNeeds {
                better_with: HUGETLB,
                ..of(&[do_swap_page])
            }
        }
        CountSignal::Marker(MarkerEvent::Installed) => SignalNeeds {
            better_with: &[make_uffd_wp_pte, zap, hugetlb_zap],
            estimated: Some(
                "change_pte_range and zap_pte_range are inlined: the entries of a range are \
                 counted before the kernel changes it; what reclaim leaves (try_to_unmap_one) is \
                 not",
            ),
            ..of(&[marks])
        },
        CountSignal::Marker(MarkerEvent::Dropped) => SignalNeeds {
            better_with: &[marks, hugetlb_zap],
            estimated: Some(
                "zap_pte_range and change_pte_range are inlined: the entries of a range are \
                 counted before the kernel changes it; what mremap and UFFDIO_COPY drop is not",
            ),
            ..of(&[zap])
        },
        CountSignal::TableAllocated(TableLevel::Pte) => SignalNeeds {
            better_with: &[deposit],
            ..of(&[pmd_install])
        },
        CountSignal::TableAllocated(TableLevel::Pmd) => of(&[pmd_alloc]),
        CountSignal::TableAllocated(TableLevel::Pud) => of(&[pud_alloc]),
        CountSignal::TableFreed(TableLevel::Pte) => SignalNeeds {
            better_with: &[withdraw, pte_free_defer],
            ..of(&[pte_free_tlb])
        },
        CountSignal::TableFreed(TableLevel::Pmd) => of(&[pmd_free_tlb]),
        CountSignal::TableFreed(TableLevel::Pud) => of(&[pud_free_tlb]),
        CountSignal::FaultWait => of(&[handle_userfault, handle_userfault_exit]),
        CountSignal::ArmTime => of(&[userfaultfd_ioctl, userfaultfd_ioctl_exit]),
        CountSignal::ScanTime => of(&[scan, scan_exit]),
        // The background scan counts them, without any hook.
        CountSignal::Pages => of(&[]),
    }
}

/// How well each signal is counted under a plan.
#[must_use]
pub fn availability(plan: &[HookPlan]) -> CountAvailability {
    let mut available = CountAvailability::default();
    for signal in CountSignal::all() {
        available.set(signal, exactness(needs(signal), plan));
    }
    available
}

fn exactness(needs: SignalNeeds, plan: &[HookPlan]) -> CountExactness {
    let find = |id: &HookId| plan.iter().find(|plan| plan.hook.id == *id);
    let attached = |id| find(id).is_some_and(|plan| plan.program().is_some());
    if !needs.all_of.iter().all(attached) {
        return CountExactness::Absent;
    }
    let better_with = needs.better_with.iter().filter_map(find);
    let gap = { better_with }.find(|plan| plan.is_missing());
    match (gap, needs.estimated) {
        (Some(gap), _) => {
            let (hook, reason) = (gap.hook.name(), &gap.verdict);
            CountExactness::Estimated(format!("without {hook}: {reason}"))
        }
        (None, Some(reason)) => CountExactness::Estimated(reason.to_owned()),
        (None, None) => CountExactness::Exact,
    }
}
