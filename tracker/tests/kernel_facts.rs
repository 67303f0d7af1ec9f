//! The facts of real kernels, captured by the `capture-facts` example: what is known of each, and
//! that JSON keeps it.
#![allow(clippy::unwrap_used, reason = "tests")]

mod kernels;

use std::sync::Arc;

use kernels::{DEBIAN, facts};
use tracker::kernel::KernelFacts;
use tracker::kernel::btf::TypeClass;
use tracker::kernel::facts::{FactSource, FunctionFacts};
use tracker::kernel::inputs::{InputError, KernelInput, KernelInputs};
use tracker::kernel::lockdown::Lockdown;
use tracker::kernel::offsets::FieldGap;
use tracker_ebpf::KernelField;

const NO_KPROBES: &str = "no-kprobes-6.18";

/// Asks the same of the four Debian kernels, oldest first.
fn on_debian<T>(ask: impl Fn(&KernelFacts) -> T) -> [T; 4] {
    DEBIAN.map(|kernel| ask(&facts(kernel)))
}

/// `B` in BTF, `S` exactly one symbol, `T` traceable.
fn marks(function: &FunctionFacts) -> String {
    let mark = |there, letter| if there { letter } else { '-' };
    let marks = [
        mark(function.signature.is_some(), 'B'),
        mark(function.symbols == Some(1), 'S'),
        mark(function.traceable == Some(true), 'T'),
    ];
    marks.into_iter().collect()
}

#[test]
fn json_keeps_everything() {
    for kernel in DEBIAN.into_iter().chain([NO_KPROBES]) {
        let before = facts(kernel);
        let text = serde_json::to_string(&before).unwrap();
        assert_eq!(serde_json::from_str::<KernelFacts>(&text).unwrap(), before);
    }
}

#[test]
fn offsets_are_those_read_off_the_sources() {
    let at = |field| on_debian(|facts| facts.offsets[field].get());
    for (field, offset) in [
        (KernelField::fault_vma, 0),
        (KernelField::fault_address, 24),
        (KernelField::fault_flags, 40),
        (KernelField::fault_orig_pte, 64),
        (KernelField::fault_pte, 88),
        (KernelField::vma_end, 8),
        (KernelField::vma_mm, 16),
        (KernelField::vma_flags, 32),
        (KernelField::uffd_features, 108),
        (KernelField::zap_flags, 12),
        // The size of a struct page.
        (KernelField::folio_second_flags, 64),
    ] {
        assert_eq!(at(field), [Some(offset); 4], "{field:?}");
    }
    let vma_ops = [Some(96), Some(112), Some(72), Some(72)];
    assert_eq!(at(KernelField::vma_ops), vma_ops);
    let vma_uffd_ctx = [Some(144), Some(168), Some(168), Some(168)];
    assert_eq!(at(KernelField::vma_uffd_ctx), vma_uffd_ctx);
    assert_eq!(at(KernelField::move_new), [None, None, Some(8), Some(8)]);
    let reason = "this kernel's BTF has no struct pagetable_move_control";
    let gap = facts("debian-6.1").offsets[KernelField::move_new]
        .gap()
        .cloned();
    assert_eq!(gap.unwrap().to_string(), reason);
}

#[test]
fn functions_come_and_go() {
    for (function, expected) in [
        ("do_wp_page", ["BST", "BST", "BST", "BST"]),
        // Inlined.
        ("handle_pte_fault", ["---", "---", "---", "---"]),
        ("do_anonymous_page", ["---", "BST", "BST", "BST"]),
        ("folio_remove_rmap_ptes", ["---", "BST", "BST", "BST"]),
        ("change_pte_range", ["---", "---", "BST", "BST"]),
        // A static inline function emitted out of line is notrace.
        ("wp_page_reuse", ["BS-", "BS-", "BS-", "BS-"]),
        // Renamed by the compiler, and described by BTF all the same.
        ("unmap_single_vma", ["BST", "BST", "B--", "---"]),
        ("mfill_atomic_poison", ["---", "BST", "BST", "B--"]),
        // In the kernel, but left out of BTF.
        ("free_pte", ["---", "---", "-ST", "---"]),
        ("unmap_page_range", ["BST", "BST", "BST", "---"]),
    ] {
        assert_eq!(
            on_debian(|facts| marks(&facts.functions[function])),
            expected,
            "{function}"
        );
    }
    let renamed = &facts("debian-6.18").functions["unmap_single_vma"];
    assert_eq!(
        (renamed.symbols, &*renamed.variants),
        (Some(0), &[".isra.0".to_owned()][..])
    );
}

#[test]
fn signatures_change() {
    let count = |function: &'static str| {
        on_debian(move |facts| {
            facts.functions[function]
                .signature
                .as_ref()
                .map(|proto| proto.params.len())
        })
    };
    assert_eq!(count("hugetlb_wp"), [Some(7), Some(1), Some(1), Some(1)]);
    assert_eq!(
        count("__split_huge_pmd"),
        [Some(5), Some(5), Some(4), Some(4)]
    );
    assert_eq!(count("uffd_wp_range"), [Some(5), Some(4), Some(4), Some(4)]);
    let facts = facts("debian-6.12");
    let proto = |function: &str| facts.functions[function].signature.clone().unwrap();
    let pmd_install = proto("pmd_install");
    assert_eq!(pmd_install.params[2].type_name, "pgtable_t *");
    assert_eq!(proto("ptep_clear_flush").return_class, TypeClass::Aggregate);
    assert_eq!(
        proto("make_uffd_wp_pte").params[3].class,
        TypeClass::Aggregate
    );
}

#[test]
fn debian_kernels_allow_everything() {
    for kernel in DEBIAN {
        let facts = facts(kernel);
        assert!(facts.kprobe_pmu.is_some(), "{kernel}");
        assert_eq!(facts.lockdown, Some(Lockdown::None), "{kernel}");
        assert_eq!(facts.privilege.missing().next(), None, "{kernel}");
        assert!(
            facts.has(FactSource::FilterFunctions) && !facts.addresses_hidden,
            "{kernel}"
        );
        assert!(
            facts.tracepoints["raw_syscalls:sys_enter"].in_btf,
            "{kernel}"
        );
        assert!(
            !facts.tracepoints["syscalls:sys_enter_userfaultfd"].in_btf,
            "{kernel}"
        );
    }
    let ksm = |facts: &KernelFacts| facts.tracepoints["ksm:ksm_merge_one_page"].in_tracefs;
    assert_eq!(
        on_debian(ksm),
        [Some(false), Some(true), Some(true), Some(true)]
    );
}

#[test]
fn a_host_without_kprobes_says_so() {
    let facts = facts(NO_KPROBES);
    assert_eq!(facts.kprobe_pmu, None);
    assert_eq!(facts.config["KPROBES"], "n");
    assert!(facts.has(FactSource::Btf) && facts.has(FactSource::Kallsyms));
    assert_eq!(
        facts.unavailable[&FactSource::FilterFunctions],
        "cannot read available_filter_functions: tracefs is not mounted \
         (mount -t tracefs tracefs /sys/kernel/tracing)"
    );
    let do_wp_page = &facts.functions["do_wp_page"];
    assert_eq!((do_wp_page.traceable, do_wp_page.symbols), (None, Some(1)));
    assert!(
        facts
            .offsets
            .iter()
            .all(|(_, offset)| offset.get().is_some())
    );
}

/// Whatever this host has or lacks, gathering does not fail.
#[test]
fn gathers_on_this_host() {
    let facts = KernelFacts::gather(
        &["handle_mm_fault", "no_such_function"],
        &["sched:sched_switch"],
    );
    assert!(!facts.release.is_empty());
    let absent = &facts.functions["no_such_function"];
    assert_eq!(
        (&absent.signature, absent.traceable.unwrap_or(false)),
        (&None, false)
    );
    if facts.has(FactSource::Btf) {
        let proto = facts.functions["handle_mm_fault"]
            .signature
            .as_ref()
            .unwrap();
        assert_eq!(proto.params[0].type_name, "struct vm_area_struct *");
        assert!(facts.tracepoints["sched:sched_switch"].in_btf);
    }
    assert!(facts.unavailable.values().all(|reason| !reason.is_empty()));
}

/// Inputs in which every file has the same content, or the same reason for having none.
fn inputs(every: KernelInput) -> KernelInputs {
    KernelInputs {
        release: "6.12.0".to_owned(),
        version: "#1 SMP PREEMPT_DYNAMIC".to_owned(),
        arch: "x86_64".to_owned(),
        btf: every.clone(),
        kallsyms: every.clone(),
        mountinfo: every.clone(),
        filter_functions: every.clone(),
        events: every.clone(),
        kprobe_blacklist: every.clone(),
        kprobe_pmu: every.clone(),
        lockdown: every.clone(),
        status: every.clone(),
        user_namespace: None,
        unprivileged_bpf_disabled: every.clone(),
        perf_event_paranoid: every.clone(),
        kptr_restrict: every.clone(),
        ftrace_enabled: every.clone(),
        bpf_jit_enable: every.clone(),
        unprivileged_userfaultfd: every.clone(),
        config: every,
    }
}

fn unreadable() -> InputError {
    InputError::Unreadable {
        path: "it".into(),
        error: Arc::new(std::io::Error::other("Permission denied")),
    }
}

#[test]
fn nothing_readable_is_all_reasons() {
    let reason = "cannot read it: Permission denied";
    let facts = KernelFacts::from_inputs(inputs(Err(unreadable())), &["do_wp_page"], &["a:b"]);
    assert_eq!(facts.unavailable.len(), 10);
    assert!(facts.unavailable.values().all(|said| said == reason));
    let gap = FieldGap::NoBtf(reason.to_owned());
    assert!(
        facts
            .offsets
            .iter()
            .all(|(_, offset)| offset.gap() == Some(&gap))
    );
    let unknown = FunctionFacts {
        signature: None,
        symbols: None,
        variants: Vec::new(),
        traceable: None,
        kprobe_blacklisted: None,
    };
    assert_eq!(facts.functions["do_wp_page"], unknown);
    assert_eq!(facts.tracepoints["a:b"].in_tracefs, None);
    assert!(facts.privilege.capabilities.is_empty());
    assert_eq!(facts.privilege.missing().count(), 0);
    assert_eq!(facts.sysctls.kptr_restrict, None);
}

#[test]
fn what_is_not_understood_is_a_reason_too() {
    let facts = KernelFacts::from_inputs(inputs(Ok(b"\xff\xfe garbage".to_vec())), &["f"], &[]);
    let reasons = [
        (
            FactSource::Btf,
            "cannot use /sys/kernel/btf/vmlinux: this is no BTF: 10 bytes are fewer than its \
             header has",
        ),
        (
            FactSource::Kallsyms,
            "cannot use /proc/kallsyms: it holds no symbols",
        ),
        (
            FactSource::KprobePmu,
            "cannot use /sys/bus/event_source/devices/kprobe/type: its form is not known",
        ),
        (
            FactSource::Lockdown,
            "cannot use securityfs's lockdown: its form is not known",
        ),
        (
            FactSource::Config,
            "cannot use the kernel's build configuration: it holds no CONFIG_ lines",
        ),
    ];
    for (source, reason) in reasons {
        assert_eq!(facts.unavailable[&source], reason);
    }
    // A list without the function is still a list.
    assert_eq!(facts.functions["f"].traceable, Some(false));
}

/// Facts are known one by one: one that is missing takes no other away.
#[test]
fn hidden_addresses_and_lockdown() {
    let mut inputs = inputs(Err(unreadable()));
    inputs.kallsyms = Ok(b"0000000000000000 T do_wp_page\n".to_vec());
    inputs.lockdown = Ok(b"none integrity [confidentiality]\n".to_vec());
    inputs.kptr_restrict = Ok(b"2\n".to_vec());
    let facts = KernelFacts::from_inputs(inputs, &["do_wp_page"], &[]);
    assert!(facts.addresses_hidden && facts.has(FactSource::Kallsyms));
    assert_eq!(facts.functions["do_wp_page"].symbols, Some(1));
    assert!(facts.lockdown.is_some_and(Lockdown::forbids_kprobes));
    assert_eq!(facts.sysctls.kptr_restrict, Some(2));
}
