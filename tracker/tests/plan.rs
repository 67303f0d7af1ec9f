//! The plan on captured facts: what is tried, and the reasons it gives.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod kernels;

use kernels::{planned, planned_after};
use rustix::io::Errno;
use tracker::kernel::KernelFacts;
use tracker::kernel::btf::FieldError;
use tracker::kernel::facts::KernelAddresses;
use tracker::kernel::lockdown::Lockdown;
use tracker::kernel::offsets::{FieldGap, FieldOffset};
use tracker::probes::plan::{HookTrials, PlanInputs, level, plan};
use tracker::probes::verdict::{TrialOutcome, TrialStage};
use tracker::probes::{
    CountAvailability, CountExactness, CountSignal, EVENT_HOOKS, FAULT_TIME_HOOKS, HOOKS, HookId,
    HookMechanism, HookPlan, HookVerdict, HookWishes, ProbeLevel,
};
use tracker_ebpf::{FaultEntry, KernelField, MarkerEvent, MeasuredTime, WpMode};

/// Linux 6.12 of Debian, as root.
fn debian() -> KernelFacts {
    kernels::facts("debian-6.12")
}

/// Why `do_wp_page` is not attached by fentry, which the kernel refused.
fn refusal(stage: TrialStage, errno: Errno, lockdown: Option<Lockdown>) -> String {
    let refused = TrialOutcome::Refused {
        stage,
        errno: Some(errno),
        message: "what the kernel said".to_owned(),
    };
    let tried = (HookId::do_wp_page, HookMechanism::Fentry);
    let mut facts = debian();
    facts.lockdown = lockdown;
    let plan = planned_after(HOOKS, &facts, &HookTrials::from([(tried, refused)]));
    let plan = of(&plan, HookId::do_wp_page);
    assert_ne!(plan.mechanism(), Some(HookMechanism::Fentry));
    plan.reason()
}

/// What becomes of one hook.
fn of(plan: &[HookPlan], id: HookId) -> &HookPlan {
    plan.iter().find(|plan| plan.hook.id == id).unwrap()
}

#[test]
fn a_refusal_says_at_which_step_and_why() {
    use TrialStage::{Attach, Load};
    for (stage, errno, lockdown, why) in [
        (
            Load,
            Errno::INVAL,
            None,
            "refuses to load its program (EINVAL)",
        ),
        (
            Load,
            Errno::INVAL,
            Some(Lockdown::Integrity),
            "refuses to load its program (EINVAL)",
        ),
        (
            Load,
            Errno::INVAL,
            Some(Lockdown::Confidentiality),
            "kernel lockdown (confidentiality) refuses programs that read kernel memory",
        ),
        (
            Attach,
            Errno::INVAL,
            Some(Lockdown::Confidentiality),
            "refuses to attach to this function (EINVAL)",
        ),
        (
            Attach,
            Errno::from_raw_os_error(524),
            None,
            "do not take its arguments (ENOTSUPP)",
        ),
        (Load, Errno::TOOBIG, None, "what the kernel said"),
    ] {
        let reason = refusal(stage, errno, lockdown);
        assert!(reason.contains(why), "{stage:?} {errno}: {reason}");
    }
}

/// The plan of the hooks of events.
fn events(facts: &KernelFacts) -> Vec<HookPlan> {
    planned(EVENT_HOOKS, facts)
}

fn is_attached(plan: &[HookPlan], id: HookId) -> bool {
    of(plan, id).program().is_some()
}

fn is_not_needed(plan: &[HookPlan], id: HookId) -> bool {
    matches!(of(plan, id).verdict, HookVerdict::NotNeeded(_))
}

const OBSERVED: [HookId; 3] = [HookId::user_fault, HookId::kernel_fault, HookId::syscall];

#[test]
fn tracepoints_stand_in_where_no_function_can_be_hooked() {
    let mut facts = debian();
    let plan = events(&facts);
    assert_eq!(level(&plan).0, ProbeLevel::Full);
    for id in OBSERVED {
        assert!(is_not_needed(&plan, id), "{id}");
    }
    facts.kprobe_pmu = None;
    let mut trials = HookTrials::new();
    for hook in EVENT_HOOKS {
        for mechanism in [HookMechanism::Fentry, HookMechanism::Fexit] {
            let refused = TrialOutcome::Refused {
                stage: TrialStage::Attach,
                errno: Some(Errno::PERM),
                message: String::new(),
            };
            trials.insert((hook.id, mechanism), refused);
        }
    }
    let plan = planned_after(EVENT_HOOKS, &facts, &trials);
    let (reached, reason) = level(&plan);
    assert_eq!(reached, ProbeLevel::Observe);
    assert!(reason.starts_with("no function can be hooked"), "{reason}");
    for id in OBSERVED.into_iter().chain([HookId::ksm, HookId::ksm_zero]) {
        assert!(is_attached(&plan, id), "{id}");
    }
    let wp_fault = &of(&plan, HookId::wp_fault).verdict;
    assert!(matches!(wp_fault, HookVerdict::Absent(_)));
}

#[test]
fn an_older_kernel_has_other_hooks_for_the_same() {
    let mut facts = debian();
    for event in ["ksm:ksm_merge_with_ksm_page", "ksm:ksm_merge_one_page"] {
        facts.tracepoints.get_mut(event).unwrap().in_btf = false;
    }
    facts.functions.remove("userfaultfd_clear_vma");
    let plan = events(&facts);
    for id in [
        HookId::ksm,
        HookId::ksm_zero,
        HookId::unregistered,
        HookId::guard_install,
    ] {
        assert!(is_not_needed(&plan, id), "{id}");
    }
    for id in [HookId::ksm_merge, HookId::uffd_command] {
        assert!(is_attached(&plan, id), "{id}");
    }
    assert_eq!(level(&plan).0, ProbeLevel::Full);
}

#[test]
fn without_ksm_nothing_is_missed() {
    let mut facts = debian();
    for event in ["ksm:ksm_merge_with_ksm_page", "ksm:ksm_merge_one_page"] {
        facts.tracepoints.get_mut(event).unwrap().in_btf = false;
    }
    facts.functions.remove("try_to_merge_one_page");
    let no_struct = FieldError::NoStruct {
        name: "ksm_rmap_item".to_owned(),
    };
    facts.offsets[KernelField::ksm_address] = FieldOffset::Missing(FieldGap::Btf(no_struct));
    let plan = events(&facts);
    for id in [HookId::ksm, HookId::ksm_zero, HookId::ksm_merge] {
        assert!(is_not_needed(&plan, id), "{id}");
    }
    assert_eq!(level(&plan).0, ProbeLevel::Full);
}

/// Where the kernel has memory mapped, and which code is the caller, is not guessed.
#[test]
fn what_needs_an_address_is_absent_where_kallsyms_hides_them() {
    let mut facts = debian();
    facts.addresses = KernelAddresses::default();
    let random = planned(HOOKS, &facts);
    assert!(
        is_attached(&random, HookId::marks),
        "without CONFIG_RANDOMIZE_MEMORY"
    );
    facts.addresses_hidden = true;
    let plan = planned(HOOKS, &facts);
    for id in [
        HookId::split_huge_pmd,
        HookId::withdraw,
        HookId::marks,
        HookId::zap,
        HookId::hugetlb_zap,
        HookId::pmd_alloc,
        HookId::pud_alloc,
    ] {
        let reason = of(&plan, id).reason();
        assert!(!is_attached(&plan, id), "{id}");
        assert!(reason.contains("/proc/kallsyms hides it"), "{id}: {reason}");
    }
    for id in [
        HookId::do_wp_page,
        HookId::do_swap_page,
        HookId::pmd_install,
    ] {
        assert!(is_attached(&plan, id), "{id}");
    }
}

/// Before 6.1 the kernel kept VMAs in a tree of another kind.
#[test]
fn nothing_is_loaded_on_a_kernel_older_than_the_oldest_supported() {
    let mut facts = debian();
    facts.release = "5.10.0-30-amd64".to_owned();
    for field in [
        KernelField::maple_range_pivots,
        KernelField::maple_arange_pivots,
    ] {
        facts.offsets[field] = FieldOffset::Missing(FieldGap::Btf(FieldError::NoStruct {
            name: field.owner().to_owned(),
        }));
    }
    for table in [HOOKS, EVENT_HOOKS, FAULT_TIME_HOOKS] {
        let plan = planned(table, &facts);
        assert!(plan.iter().all(|plan| plan.program().is_none()));
        let (reached, reason) = level(&plan);
        assert_eq!(reached, ProbeLevel::Observe);
        assert!(
            reason.contains("kernel 5.10.0-30-amd64") && reason.contains("older than 6.1"),
            "{reason}"
        );
    }
}

/// PREEMPT_RT has no transparent huge pages, and preempts tasks that hold the pte lock.
#[test]
fn a_realtime_kernel_lacks_nothing_that_it_could_need() {
    let mut facts = debian();
    facts.preempt_rt = true;
    facts.tried.huge_pages = false;
    for name in [
        "__split_huge_pmd",
        "pgtable_trans_huge_deposit",
        "pgtable_trans_huge_withdraw",
        "pte_free_defer",
        "split_huge_pmd_locked",
        "zap_huge_pmd",
    ] {
        facts.functions.remove(name);
    }
    facts.addresses.split_text = None;
    facts.addresses.zap_huge_text = None;
    let plan = planned(HOOKS, &facts);
    assert_eq!(level(&plan).0, ProbeLevel::Full, "{}", level(&plan).1);
    assert_eq!(level(&events(&facts)).0, ProbeLevel::Full);
    for id in [HookId::split_huge_pmd, HookId::deposit, HookId::withdraw] {
        assert!(is_not_needed(&plan, id), "{id}");
    }
    let availability = CountAvailability::of(&plan);
    let debian = CountAvailability::of(&planned(HOOKS, &self::debian()));
    for signal in CountSignal::all() {
        assert_eq!(availability.get(signal), debian.get(signal), "{signal}");
    }
    for id in [HookId::do_wp_page, HookId::make_uffd_wp_pte] {
        assert_eq!(of(&plan, id).mechanism(), Some(HookMechanism::Kprobe));
        assert!(of(&plan, id).reason().contains("PREEMPT_RT"), "{id}");
    }
}

/// A family loses the part that is not seen, and says so.
#[test]
fn what_sees_one_part_counts_without_what_sees_the_other() {
    let huge = CountSignal::Fault(WpMode::Async, FaultEntry::Huge);
    let marker = CountSignal::Marker(MarkerEvent::Consumed);
    let without = |functions: &[&str]| {
        let mut facts = debian();
        for name in functions {
            facts.functions.remove(*name);
        }
        CountAvailability::of(&planned(HOOKS, &facts))
    };
    let estimated = |found: &CountAvailability, signal, hook: &str| {
        let CountExactness::Estimated(why) = found.get(signal) else {
            panic!("{signal} without {hook}: {:?}", found.get(signal));
        };
        assert!(why.contains(&format!("without {hook}:")), "{why}");
    };
    estimated(&without(&["__split_huge_pmd"]), huge, "split_huge_pmd");
    let found = without(&["hugetlb_fault"]);
    estimated(&found, huge, "hugetlb_fault");
    estimated(&found, marker, "hugetlb_fault");
    estimated(&without(&["do_swap_page"]), marker, "do_swap_page");
    let neither = without(&["__split_huge_pmd", "hugetlb_fault", "do_swap_page"]);
    assert_eq!(neither.get(huge), &CountExactness::Absent);
    assert_eq!(neither.get(marker), &CountExactness::Absent);
}

#[test]
fn what_is_switched_off_is_not_attached() {
    let mut facts = debian();
    facts.switches.kprobes = Some(false);
    let plan = planned(HOOKS, &facts);
    // A trampoline stands in where there is one.
    let by = |id| of(&plan, id).mechanism();
    assert_eq!(by(HookId::do_swap_page), Some(HookMechanism::Fentry));
    assert_eq!(by(HookId::deposit), None);
    assert_eq!(level(&plan).0, ProbeLevel::Partial);

    facts.switches.ftrace = Some(false);
    let plan = planned(HOOKS, &facts);
    let (reached, reason) = level(&plan);
    assert_eq!(reached, ProbeLevel::Observe);
    assert!(reason.contains("ftrace is switched off"), "{reason}");
    assert!(is_attached(&plan, HookId::task_vma));
}

/// A kretprobe has room for so many returns only.
#[test]
fn what_a_kretprobe_sees_is_not_called_exact() {
    let facts = debian();
    let waits = CountSignal::Time(MeasuredTime::FaultWait);
    let exactness = |wishes: &HookWishes| {
        let inputs = PlanInputs {
            facts: &facts,
            object: &kernels::PROGRAMS,
            wishes,
            trials: &HookTrials::new(),
        };
        let availability = CountAvailability::of(&plan(HOOKS, inputs));
        availability.get(waits).clone()
    };
    assert_eq!(exactness(&HookWishes::default()), CountExactness::Exact);
    let forced = HookWishes {
        forced: vec![(None, HookMechanism::Kretprobe)],
        ..HookWishes::default()
    };
    let CountExactness::Estimated(why) = exactness(&forced) else {
        panic!("a kretprobe is bounded");
    };
    assert!(
        why.contains("handle_userfault_exit is seen by a kretprobe"),
        "{why}"
    );
}
