//! What can be counted here, and how well: what is not counted is not exported.
//!
//! A signal is one thing that hooks count: it says which hooks it needs, and metric families name
//! the signals that they show.

use std::collections::BTreeMap;
use std::fmt;

use tracker_ebpf::{FaultEntry, MarkerEvent, MeasuredTime, TableLevel, WpMode};

use super::hooks::{HookId, HookMechanism};
use super::verdict::HookPlan;

/// One thing that hooks count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CountSignal {
    /// Write-protect faults of this mode that found this.
    Fault(WpMode, FaultEntry),
    /// What happened to pte markers.
    Marker(MarkerEvent),
    /// Page tables allocated.
    TableAllocated(TableLevel),
    /// Page tables freed.
    TableFreed(TableLevel),
    /// How long this took.
    Time(MeasuredTime),
    /// Pages armed and written, as the background scan sees them.
    Pages,
}

/// What a signal needs.
struct SignalNeeds {
    /// Hooks that see it together, where nothing else does.
    all_of: &'static [HookId],
    /// Hooks that see together what those above do not see: one part is counted without the other.
    and_apart: &'static [HookId],
    /// Hooks without which the count is too low.
    better_with: &'static [HookId],
    /// Why the count is an estimate even with all of them.
    estimated: Option<&'static str>,
}

const fn needs(all_of: &'static [HookId]) -> SignalNeeds {
    SignalNeeds {
        all_of,
        and_apart: &[],
        better_with: &[],
        estimated: None,
    }
}

impl SignalNeeds {
    const fn and_apart(self, and_apart: &'static [HookId]) -> Self {
        Self { and_apart, ..self }
    }

    const fn better_with(self, better_with: &'static [HookId]) -> Self {
        Self {
            better_with,
            ..self
        }
    }

    const fn estimated(self, reason: &'static str) -> Self {
        Self {
            estimated: Some(reason),
            ..self
        }
    }
}

/// Hooks that see what `do_swap_page` and `split_huge_pmd` do not see.
const HUGETLB: &[HookId] = &[HookId::hugetlb_fault, HookId::huge_pte_alloc_exit];

impl CountSignal {
    /// Every kind of fault.
    pub const FAULTS: [Self; 6] = [
        Self::Fault(WpMode::Sync, FaultEntry::Pte),
        Self::Fault(WpMode::Sync, FaultEntry::Marker),
        Self::Fault(WpMode::Sync, FaultEntry::Huge),
        Self::Fault(WpMode::Async, FaultEntry::Pte),
        Self::Fault(WpMode::Async, FaultEntry::Marker),
        Self::Fault(WpMode::Async, FaultEntry::Huge),
    ];
    /// Everything that happens to markers.
    pub const MARKERS: [Self; 3] = [
        Self::Marker(MarkerEvent::Installed),
        Self::Marker(MarkerEvent::Consumed),
        Self::Marker(MarkerEvent::Dropped),
    ];
    /// Allocations at every level.
    pub const TABLES_ALLOCATED: [Self; 3] = [
        Self::TableAllocated(TableLevel::Pte),
        Self::TableAllocated(TableLevel::Pmd),
        Self::TableAllocated(TableLevel::Pud),
    ];
    /// Frees at every level.
    pub const TABLES_FREED: [Self; 3] = [
        Self::TableFreed(TableLevel::Pte),
        Self::TableFreed(TableLevel::Pmd),
        Self::TableFreed(TableLevel::Pud),
    ];

    /// All signals, in the order in which they are told.
    pub fn all() -> impl Iterator<Item = Self> {
        (Self::FAULTS.into_iter())
            .chain(Self::MARKERS)
            .chain(Self::TABLES_ALLOCATED)
            .chain(Self::TABLES_FREED)
            .chain(MeasuredTime::ALL.map(Self::Time))
            .chain([Self::Pages])
    }

    const fn needs(self) -> SignalNeeds {
        use FaultEntry::{Huge, Marker, Pte};
        match self {
            Self::Fault(WpMode::Async, Pte) => needs(&[HookId::do_wp_page]),
            Self::Fault(WpMode::Async, Huge) => needs(&[HookId::split_huge_pmd]).and_apart(HUGETLB),
            Self::Fault(WpMode::Sync, Pte | Huge) => needs(&[HookId::handle_userfault]),
            Self::Fault(_, Marker) | Self::Marker(MarkerEvent::Consumed) => {
                needs(&[HookId::do_swap_page]).and_apart(HUGETLB)
            }
            Self::Marker(MarkerEvent::Installed) => needs(&[HookId::marks])
                .better_with(&[HookId::make_uffd_wp_pte, HookId::zap, HookId::hugetlb_zap])
                .estimated(
                    "change_pte_range and zap_pte_range are inlined: the entries of a range are \
                     counted before the kernel changes it; what reclaim leaves \
                     (try_to_unmap_one) is not",
                ),
            Self::Marker(MarkerEvent::Dropped) => needs(&[HookId::zap])
                .better_with(&[
                    HookId::marks,
                    HookId::hugetlb_zap,
                    HookId::clear,
                    HookId::clear_exit,
                ])
                .estimated(
                    "zap_pte_range and change_pte_range are inlined: the entries of a range are \
                     counted before the kernel changes it; what mremap and UFFDIO_COPY drop is not",
                ),
            Self::TableAllocated(TableLevel::Pte) => {
                needs(&[HookId::pmd_install]).better_with(&[HookId::deposit])
            }
            Self::TableAllocated(TableLevel::Pmd) => needs(&[HookId::pmd_alloc]),
            Self::TableAllocated(TableLevel::Pud) => needs(&[HookId::pud_alloc]),
            Self::TableFreed(TableLevel::Pte) => needs(&[HookId::pte_free_tlb])
                .better_with(&[HookId::withdraw, HookId::pte_free_defer]),
            Self::TableFreed(TableLevel::Pmd) => needs(&[HookId::pmd_free_tlb]),
            Self::TableFreed(TableLevel::Pud) => needs(&[HookId::pud_free_tlb]),
            Self::Time(MeasuredTime::FaultWait) => {
                needs(&[HookId::handle_userfault, HookId::handle_userfault_exit])
            }
            Self::Time(MeasuredTime::Arm) => {
                needs(&[HookId::userfaultfd_ioctl, HookId::userfaultfd_ioctl_exit])
            }
            Self::Time(MeasuredTime::Scan) => needs(&[HookId::scan, HookId::scan_exit]),
            // The background scan counts them, without any hook.
            Self::Pages => needs(&[]),
        }
    }

    /// How well it is counted under a plan.
    fn exactness(self, plan: &[HookPlan]) -> CountExactness {
        let needs = self.needs();
        let find = |id: &HookId| plan.iter().find(|plan| plan.hook.id == *id);
        let parts = [needs.all_of, needs.and_apart];
        let hooks = |part: &[HookId]| part.iter().filter_map(find).collect::<Vec<_>>();
        if !needs.all_of.is_empty() && !parts.iter().any(|part| is_seen(&hooks(part))) {
            return CountExactness::Absent;
        }
        let used = || parts.into_iter().flatten().chain(needs.better_with);
        let gap = used().filter_map(find).find(|plan| plan.is_missing());
        let bounded = used()
            .filter_map(find)
            .find(|plan| plan.mechanism() == Some(HookMechanism::Kretprobe));
        match (gap.or(bounded), needs.estimated) {
            (Some(bounded), _) if !bounded.is_missing() => CountExactness::Estimated(format!(
                "{} is seen by a kretprobe, which misses returns when more are under way than the \
                 kernel has room for (twice its CPUs, at least 10)",
                bounded.hook.name()
            )),
            (Some(gap), _) => {
                let (hook, reason) = (gap.hook.name(), &gap.verdict);
                CountExactness::Estimated(format!("without {hook}: {reason}"))
            }
            (None, Some(reason)) => CountExactness::Estimated(reason.to_owned()),
            (None, None) => CountExactness::Exact,
        }
    }
}

/// Whether hooks see their part together: none is missing, and there is one that sees.
fn is_seen(part: &[&HookPlan]) -> bool {
    let sees = |plan: &&HookPlan| plan.program().is_some();
    part.iter().any(sees) && !part.iter().any(|plan| plan.is_missing())
}

/// Which part of its family it is.
impl fmt::Display for CountSignal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fault(mode, entry) => {
                write!(f, "mode={} entry={}", mode.as_str(), entry.as_str())
            }
            Self::Marker(event) => write!(f, "event={}", event.as_str()),
            Self::TableAllocated(level) | Self::TableFreed(level) => {
                write!(f, "level={}", level.as_str())
            }
            Self::Time(time) => f.write_str(time.as_str()),
            Self::Pages => f.write_str("pages"),
        }
    }
}

/// How well a signal can be counted here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CountExactness {
    /// To the unit.
    Exact,
    /// Not to the unit, for this reason.
    Estimated(String),
    /// Not at all: its series are not exported.
    Absent,
}

/// What can be counted on this kernel and with this privilege. A signal that was not set is absent:
/// nothing is silently zero.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CountAvailability(BTreeMap<CountSignal, CountExactness>);

impl CountAvailability {
    /// What can be counted under a plan.
    #[must_use]
    pub fn of(plan: &[HookPlan]) -> Self {
        let exactness = |signal: CountSignal| (signal, signal.exactness(plan));
        Self(CountSignal::all().map(exactness).collect())
    }

    /// Everything can be counted, exactly.
    #[must_use]
    pub fn all_exact() -> Self {
        Self(
            CountSignal::all()
                .map(|s| (s, CountExactness::Exact))
                .collect(),
        )
    }

    /// Says how well `signal` is counted.
    pub fn set(&mut self, signal: CountSignal, exactness: CountExactness) {
        self.0.insert(signal, exactness);
    }

    /// The same after hooks missed events, by what each missed: no count that needs one of those is
    /// exact.
    #[must_use]
    pub fn less_missed(mut self, missed: impl Fn(HookId) -> u64) -> Self {
        for (signal, exactness) in &mut self.0 {
            let needs = signal.needs();
            let parts = [needs.all_of, needs.and_apart, needs.better_with];
            let found = parts.into_iter().flatten().find(|id| missed(**id) > 0);
            if let (Some(hook), CountExactness::Exact) = (found, &*exactness) {
                let events = missed(*hook);
                let why = format!("{hook} missed {events} events so far");
                *exactness = CountExactness::Estimated(why);
            }
        }
        self
    }

    /// How well `signal` is counted.
    #[must_use]
    pub fn get(&self, signal: CountSignal) -> &CountExactness {
        self.0.get(&signal).unwrap_or(&CountExactness::Absent)
    }

    /// Whether `signal` is counted at all.
    #[must_use]
    pub fn has(&self, signal: CountSignal) -> bool {
        *self.get(signal) != CountExactness::Absent
    }
}
