//! What each program reads of the kernel, as the built object says: against what aya links
//! together, and what a kernel that lacks it loses.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod kernels;

use std::collections::{BTreeMap, BTreeSet};

use aya_obj::generated::bpf_insn;
use aya_obj::{Object, ProgramSection};
use kernels::{DEBIAN, PROGRAMS, facts, planned};
use tracker::kernel::KernelFacts;
use tracker::kernel::btf::FieldError;
use tracker::kernel::offsets::{FieldGap, FieldOffset};
use tracker::probes::hooks::HookPartner;
use tracker::probes::object::ProgramReads;
use tracker::probes::{
    EVENT_HOOKS, FAULT_TIME_HOOKS, HOOKS, Hook, HookId, HookMechanism, HookPlan, OBJECT,
};
use tracker_ebpf::{FIELD_TAG, FIRST_FIELD, FieldPresence, KernelField, KernelValue, VALUE_TAG};

const TABLES: [&[Hook]; 3] = [HOOKS, EVENT_HOOKS, FAULT_TIME_HOOKS];

fn all_hooks() -> impl Iterator<Item = &'static Hook> {
    TABLES.into_iter().flatten()
}

/// The object as aya links it when it loads a program: with all functions that are called.
fn linked() -> Object {
    let mut object = Object::parse(OBJECT).unwrap();
    let sections = object.functions.keys().map(|(section, _)| *section);
    let sections = sections.collect();
    object.relocate_calls(&sections).unwrap();
    object
}

/// The marks in linked instructions.
fn marks(instructions: &[bpf_insn]) -> ProgramReads {
    let mut reads = ProgramReads::default();
    let mut rest = instructions.iter();
    while let Some(one) = rest.next() {
        // BPF_LDX | BPF_MEM of any size; BPF_LD | BPF_IMM | BPF_DW.
        if one.code & 0xe7 == 0x61 && one.off >= FIRST_FIELD {
            let number = (one.off - FIRST_FIELD) as usize;
            reads.fields.insert(KernelField::ALL[number]);
        }
        if one.code != 0x18 {
            continue;
        }
        let high = rest.next().unwrap();
        let constant = u64::from(high.imm as u32) << 32 | u64::from(one.imm as u32);
        if one.src_reg() == 0 && constant >> 24 == FIELD_TAG >> 24 {
            let number = (constant - FIELD_TAG) as usize;
            reads.fields.insert(KernelField::ALL[number]);
        }
        if one.src_reg() == 0 && constant >> 24 == VALUE_TAG >> 24 {
            let number = (constant - VALUE_TAG) as usize;
            reads.values.insert(KernelValue::ALL[number]);
        }
    }
    reads
}

fn mechanism(section: &ProgramSection) -> HookMechanism {
    match section {
        ProgramSection::FEntry { .. } => HookMechanism::Fentry,
        ProgramSection::FExit { .. } => HookMechanism::Fexit,
        ProgramSection::KProbe => HookMechanism::Kprobe,
        ProgramSection::KRetProbe => HookMechanism::Kretprobe,
        ProgramSection::BtfTracePoint => HookMechanism::Tracepoint,
        ProgramSection::Iter { .. } => HookMechanism::Iterator,
        other => panic!("a program of an unknown kind: {other:?}"),
    }
}

#[test]
fn rows_and_programs_are_the_same() {
    let object = linked();
    let rows: BTreeMap<&str, HookMechanism> = all_hooks()
        .flat_map(|hook| hook.programs)
        .map(|program| (program.name, program.mechanism))
        .collect();
    let programs: BTreeMap<&str, HookMechanism> = object
        .programs
        .iter()
        .map(|(name, program)| (name.as_str(), mechanism(&program.section)))
        .collect();
    assert_eq!(rows, programs);
    assert!(PROGRAMS.programs().eq(rows.keys().copied()));
    let rungs: usize = all_hooks().map(|hook| hook.programs.len()).sum();
    assert_eq!(rungs, rows.len(), "no program belongs to two hooks");
}

#[test]
fn reads_are_those_of_all_that_aya_links() {
    let object = linked();
    for (name, program) in &object.programs {
        let function = &object.functions[&program.function_key()];
        let reads = PROGRAMS.reads(name).unwrap();
        assert_eq!(*reads, marks(&function.instructions), "{name}");
    }
}

/// Functions that are called, and what bpf_loop() calls, count; what is only near does not.
#[test]
fn reads_are_known_of_some_programs() {
    let reads = |program: &str, field| PROGRAMS.reads(program).unwrap().fields.contains(&field);
    for (program, read) in [
        // resolve_mm() names the process.
        ("fork_kprobe", KernelField::task_comm),
        ("pte_free_tlb_fentry", KernelField::task_group_leader),
        ("pmd_free_tlb_kprobe", KernelField::task_tgid),
        ("pud_free_tlb_kprobe", KernelField::task_start_boottime),
        // The steps of bpf_loop(): of the maple tree, and of the stack.
        ("pud_alloc_fexit", KernelField::maple_arange_slots),
        ("pmd_install_fexit", KernelField::fault_address),
    ] {
        assert!(reads(program, read), "{program}: {read:?}");
    }
    for (program, unread) in [
        ("userfaultfd_ioctl_kprobe", KernelField::vma_start),
        ("pmd_alloc_fexit", KernelField::fault_vma),
        ("pud_alloc_fexit", KernelField::fault_pmd),
        ("do_swap_page_kprobe", KernelField::fault_pte),
    ] {
        assert!(!reads(program, unread), "{program}: {unread:?}");
    }
}

#[test]
fn every_field_and_value_is_read_and_can_be_written() {
    let mut all = ProgramReads::default();
    for reads in PROGRAMS
        .programs()
        .map(|name| PROGRAMS.reads(name).unwrap())
    {
        all.fields.extend(&reads.fields);
        all.values.extend(&reads.values);
    }
    assert_eq!(all.fields, BTreeSet::from(KernelField::ALL));
    assert_eq!(all.values, BTreeSet::from(KernelValue::ALL));
    let patched = PROGRAMS.patched(|_| 0, |_| 0).unwrap();
    let object = Object::parse(&patched).unwrap();
    for function in object.functions.values() {
        let left = marks(&function.instructions);
        assert_eq!(left, ProgramReads::default(), "{}", function.name);
    }
}

/// What no attached program may read.
fn unknown(facts: &KernelFacts) -> BTreeSet<KernelField> {
    let fields = KernelField::ALL.into_iter();
    fields
        .filter(|field| facts.offsets.obstacle(*field).is_some())
        .collect()
}

#[test]
fn programs_read_what_the_captured_kernels_have() {
    for kernel in DEBIAN {
        let facts = facts(kernel);
        assert_eq!(unknown(&facts), BTreeSet::new(), "{kernel}");
        for plan in TABLES.map(|table| planned(table, &facts)).concat() {
            let reads = plan
                .program()
                .map(|program| PROGRAMS.reads(program.name).unwrap());
            for field in reads.into_iter().flat_map(|reads| &reads.fields) {
                let offset = &facts.offsets[*field];
                let tolerated = match field.presence() {
                    FieldPresence::Required => false,
                    FieldPresence::Optional => true,
                    FieldPresence::WithStruct => offset.lacks_struct(),
                };
                assert!(
                    offset.get().is_some() || tolerated,
                    "{kernel}: {} reads {field:?}",
                    plan.hook.name()
                );
            }
        }
    }
}

/// A kernel whose struct has lost a member.
fn without(field: KernelField, facts: &KernelFacts) -> KernelFacts {
    let mut facts = facts.clone();
    facts.offsets[field] = FieldOffset::Missing(FieldGap::Btf(FieldError::NoMember {
        owner: field.owner().to_owned(),
        member: field.member().to_owned(),
    }));
    facts
}

fn reads_of(plan: &HookPlan) -> Option<&'static ProgramReads> {
    PROGRAMS.reads(plan.program()?.name)
}

/// The hook that decides over this one.
fn partner(hook: &Hook) -> Option<HookId> {
    match hook.partner? {
        HookPartner::Both(id)
        | HookPartner::Entry(id)
        | HookPartner::Return(id)
        | HookPartner::Instead(id) => Some(id),
    }
}

/// The hooks of which something else becomes when the kernel lacks a field.
fn changed(table: &'static [Hook], field: KernelField, facts: &KernelFacts) -> BTreeSet<HookId> {
    let before = planned(table, facts);
    let after = planned(table, &without(field, facts));
    let pairs = before.iter().zip(&after);
    let changed = pairs.filter(|(before, after)| before.verdict != after.verdict);
    for plan in &after {
        let reads = reads_of(plan).is_some_and(|reads| reads.fields.contains(&field));
        let optional = field.presence() == FieldPresence::Optional;
        assert!(!reads || optional, "{} reads {field:?}", plan.hook.name());
    }
    changed.map(|(before, _)| before.hook.id).collect()
}

#[test]
fn a_kernel_without_a_field_loses_what_reads_it_and_nothing_else() {
    for kernel in DEBIAN {
        let facts = facts(kernel);
        for (table, field) in TABLES
            .into_iter()
            .flat_map(|table| KernelField::ALL.map(|field| (table, field)))
        {
            let changed = changed(table, field, &facts);
            for plan in planned(table, &facts) {
                let hook = plan.hook;
                let optional = field.presence() == FieldPresence::Optional;
                let reads = reads_of(&plan).is_some_and(|reads| reads.fields.contains(&field));
                let loses = reads && !optional;
                let follows = partner(hook).is_some_and(|id| changed.contains(&id));
                let name = hook.name();
                if loses {
                    assert!(changed.contains(&hook.id), "{kernel}: {name}, {field:?}");
                } else if changed.contains(&hook.id) {
                    let absent = plan.program().is_none();
                    assert!(follows || absent, "{kernel}: {name}, {field:?}");
                }
            }
        }
    }
}

/// By name, for the reader.
#[test]
fn some_fields_are_read_by_one_hook_only() {
    let facts = facts("debian-6.12");
    for (table, field, lost) in [
        (
            HOOKS,
            KernelField::task_min_flt,
            &[HookId::do_swap_page][..],
        ),
        (HOOKS, KernelField::zap_flags, &[HookId::zap]),
        (
            EVENT_HOOKS,
            KernelField::folio_mapping,
            &[HookId::reclaimed],
        ),
        (EVENT_HOOKS, KernelField::walk_vma, &[HookId::freed]),
        (
            HOOKS,
            KernelField::gather_mm,
            &[
                HookId::pte_free_tlb,
                HookId::pmd_free_tlb,
                HookId::pud_free_tlb,
            ],
        ),
        // An exit goes with its entry.
        (
            HOOKS,
            KernelField::uffd_released,
            &[HookId::handle_userfault, HookId::handle_userfault_exit],
        ),
        (HOOKS, KernelField::mm_owner, &[]),
    ] {
        let lost: BTreeSet<_> = lost.iter().copied().collect();
        assert_eq!(changed(table, field, &facts), lost, "{field:?}");
    }
}
