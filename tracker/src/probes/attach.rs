//! From a plan to attached programs: tries, notes what the kernel refuses, and plans again.

use std::borrow::Cow;
use std::io;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError};

use aya::programs::{BtfTracePoint, FEntry, FExit, Iter, KProbe, Program, ProgramError};
use aya::{Btf, Ebpf, EbpfLoader};
use tracker_ebpf::MeasuredTime;

use super::constants::{self, MapSizes};
use super::counters::CounterMaps;
use super::diagnostics::{self, ProgramLog};
use super::hooks::{self, HOOKS, Hook, HookMechanism};
use super::plan::{self, HookPlan, HookVerdict, HookWishes, ProbeLevel, ProbedFacts, trial_key};
use super::task_vma::TaskVmaIterator;
use super::{calibrate, missed, patch, signals};
use crate::kernel::facts::{KernelFacts, TrialOutcome, TrialStage};
use crate::kernel::inputs::KernelInputs;
use crate::kernel::kallsyms::Kallsyms;
use crate::model::signal::{Availability, Exactness, Signal};

/// The programs, built by build.rs.
pub static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/tracker-ebpf"));

/// How to attach.
#[derive(Clone, Debug)]
pub struct ProbeOptions {
    /// What the user wants.
    pub wishes: HookWishes,
    /// Sizes of the maps.
    pub sizes: MapSizes,
    /// The programs; [`OBJECT`] unless one is tried out.
    pub object: Cow<'static, [u8]>,
}

/// Everything that came of attaching.
pub struct AttachedProbes {
    /// The facts, with what was tried.
    pub facts: KernelFacts,
    /// What is attached, and why something is not.
    pub plan: Vec<HookPlan>,
    /// How much of the kernel can be seen.
    pub level: ProbeLevel,
    /// Why it is not more.
    pub reason: String,
    /// What can be counted, and how well.
    pub availability: Availability,
    /// The counters; `None` at level observe.
    pub counters: Option<CounterMaps>,
    /// The iterator; `None` if this kernel or this privilege refuses it.
    pub iterator: Option<TaskVmaIterator>,
    /// What the programs say; `None` unless debug is logged.
    pub diagnostics: Option<ProgramLog>,
    ebpf: Option<Arc<Mutex<Ebpf>>>,
}

impl AttachedProbes {
    /// Events that each attached hook missed (`recursion_misses`), where the kernel tells.
    #[must_use]
    pub fn misses(&self) -> Vec<(&str, HookMechanism, Option<u64>)> {
        let Some(ebpf) = &self.ebpf else {
            return Vec::new();
        };
        let ebpf = ebpf.lock().unwrap_or_else(PoisonError::into_inner);
        self.plan
            .iter()
            .filter_map(|hook| Some((hook, hook.mechanism()?)))
            .map(|(hook, mechanism)| {
                (
                    hook.hook.as_str(),
                    mechanism,
                    missed(&ebpf, hook, mechanism),
                )
            })
            .collect()
    }
}

/// Events that a hook's program missed, where the kernel tells.
pub(super) fn missed(ebpf: &Ebpf, hook: &HookPlan, mechanism: HookMechanism) -> Option<u64> {
    let program = ebpf.program(&program_name(&hook.hook, mechanism))?;
    missed::recursion_misses(program.fd().ok()?.as_fd())
}

/// Gathers facts, plans, and attaches what can be attached. Nothing here fails: what cannot be had
/// is absent, with its reason. Everything is detached when the result is dropped, or the process
/// ends in any way.
#[must_use]
pub fn attach(options: &ProbeOptions) -> AttachedProbes {
    let inputs = KernelInputs::gather();
    let mut facts = KernelFacts::from_inputs(&inputs, &hooks::functions(HOOKS), &[]);
    let found = look(&inputs);
    let mut plan = plan::plan(HOOKS, &facts, &found, &options.wishes);
    let mut loaded = None;
    if plan.iter().any(|hook| hook.mechanism().is_some()) {
        match load(&facts, &found, options) {
            Ok(mut object) => {
                plan = climb(
                    HOOKS,
                    &mut object.ebpf,
                    &object.btf,
                    &mut facts,
                    &found,
                    &options.wishes,
                );
                loaded = Some(object);
            }
            Err(error) => give_up(&mut plan, &error.to_string()),
        }
    }
    finish(facts, plan, loaded)
}

fn finish(facts: KernelFacts, plan: Vec<HookPlan>, loaded: Option<Object>) -> AttachedProbes {
    let (level, reason) = plan::level(&plan);
    let availability = signals::availability(&plan);
    let (ebpf, counters, diagnostics) = match loaded {
        Some(object) => (
            Some(Arc::new(Mutex::new(object.ebpf))),
            Some(object.counters),
            object.diagnostics,
        ),
        None => (None, None, None),
    };
    let has = |signal| *availability.get(signal) != Exactness::Absent;
    let measured = [
        has(Signal::FaultWait),
        has(Signal::ArmTime),
        has(Signal::ScanTime),
    ];
    const { assert!(MeasuredTime::ALL.len() == 3) };
    let counters = counters
        .filter(|_| level > ProbeLevel::Observe)
        .map(|mut counters| {
            counters.measure(measured);
            counters
        });
    let iterates = |h: &HookPlan| h.mechanism() == Some(HookMechanism::Iterator);
    let iterator = ebpf
        .clone()
        .filter(|_| plan.iter().any(iterates))
        .map(TaskVmaIterator::new);
    AttachedProbes {
        facts,
        plan,
        level,
        reason,
        availability,
        counters,
        iterator,
        diagnostics,
        ebpf,
    }
}

/// What the kernel's own files do not tell.
pub(super) fn look(inputs: &KernelInputs) -> ProbedFacts {
    let symbols = inputs.kallsyms.as_deref().ok().map(Kallsyms::parse);
    let text = |name: &str| {
        let range = symbols.as_ref()?.text_range(name)?;
        Some((range.start, range.end))
    };
    ProbedFacts {
        marker_pte: calibrate::marker_pte().ok().flatten(),
        fault_text: text("__handle_mm_fault").or_else(|| text("handle_mm_fault")),
        zap_huge_text: text("zap_huge_pmd"),
        split_text: text("__split_huge_pmd"),
        page_offset_symbol: symbols.as_ref().and_then(|s| s.address("page_offset_base")),
        pagemap_scan: uffd::self_test().is_ok_and(|behaviour| behaviour.written.is_some()),
        ..ProbedFacts::default()
    }
}

/// The object in the kernel, before any of its programs is.
struct Object {
    ebpf: Ebpf,
    btf: Btf,
    counters: CounterMaps,
    diagnostics: Option<ProgramLog>,
}

fn load(facts: &KernelFacts, found: &ProbedFacts, options: &ProbeOptions) -> io::Result<Object> {
    let sizes = options.sizes;
    let btf = Btf::from_sys_fs().map_err(io::Error::other)?;
    let offsets = constants::offsets(facts);
    let config = constants::config(facts, found, sizes);
    let object = patch::patch(&options.object, &offsets, &config).map_err(io::Error::other)?;
    let level = diagnostics::level();
    let mut loader = EbpfLoader::new();
    loader
        .btf(Some(&btf))
        .override_global(aya_log::LEVEL, &level, true)
        .map_max_entries("VMAS", sizes.vma_records)
        .map_max_entries("MMS", sizes.mm_records)
        .map_max_entries("VMA_RECORDS", sizes.vma_records)
        .map_max_entries("MM_RECORDS", sizes.mm_records)
        .map_max_entries("FAULTS", sizes.vma_records * sizes.shards)
        .map_max_entries("FREE_VMAS", sizes.vma_records)
        .map_max_entries("FREE_MMS", sizes.mm_records);
    let mut ebpf = loader.load(&object).map_err(io::Error::other)?;
    drop(loader);
    Ok(Object {
        counters: CounterMaps::new(&mut ebpf, sizes)?,
        diagnostics: ProgramLog::take(&mut ebpf)?,
        ebpf,
        btf,
    })
}

/// Attaches hook by hook. A refusal becomes a fact, and the next rung is tried.
pub(super) fn climb(
    table: &[Hook],
    ebpf: &mut Ebpf,
    btf: &Btf,
    facts: &mut KernelFacts,
    found: &ProbedFacts,
    wishes: &HookWishes,
) -> Vec<HookPlan> {
    loop {
        let plan = plan::plan(table, facts, found, wishes);
        let next = plan.iter().find_map(|hook| match &hook.verdict {
            HookVerdict::Attach {
                mechanism,
                function,
            } if !facts
                .trial
                .contains_key(&trial_key(&hook.hook, *mechanism, function)) =>
            {
                Some((hook.hook.clone(), *mechanism, function.clone()))
            }
            _ => None,
        });
        let Some((hook, mechanism, function)) = next else {
            return plan;
        };
        let outcome = attach_program(
            ebpf,
            btf,
            &program_name(&hook, mechanism),
            mechanism,
            &function,
        );
        facts
            .trial
            .insert(trial_key(&hook, mechanism, &function), outcome);
    }
}

fn program_name(hook: &str, mechanism: HookMechanism) -> String {
    match mechanism {
        HookMechanism::Iterator => hook.to_owned(),
        _ => format!("{hook}_{mechanism}"),
    }
}

fn attach_program(
    ebpf: &mut Ebpf,
    btf: &Btf,
    name: &str,
    mechanism: HookMechanism,
    function: &str,
) -> TrialOutcome {
    let Some(program) = ebpf.program_mut(name) else {
        return refused(
            TrialStage::Load,
            None,
            format!("the object has no program {name}"),
        );
    };
    match attach_to(program, btf, mechanism, function) {
        Ok(()) => TrialOutcome::Attached,
        Err((stage, error)) => {
            tracing::debug!(
                program = name,
                function,
                error = chain(&error),
                "not attached"
            );
            refused(stage, errno(&error), summary(&error))
        }
    }
}

fn attach_to(
    program: &mut Program,
    btf: &Btf,
    mechanism: HookMechanism,
    function: &str,
) -> Result<(), (TrialStage, ProgramError)> {
    let load = |error| (TrialStage::Load, error);
    let attach = |error| (TrialStage::Attach, error);
    match mechanism {
        HookMechanism::Fentry => {
            let program: &mut FEntry = program.try_into().map_err(load)?;
            program.load(function, btf).map_err(load)?;
            program.attach().map(drop).map_err(attach)
        }
        HookMechanism::Fexit => {
            let program: &mut FExit = program.try_into().map_err(load)?;
            program.load(function, btf).map_err(load)?;
            program.attach().map(drop).map_err(attach)
        }
        HookMechanism::Kprobe | HookMechanism::Kretprobe => {
            let program: &mut KProbe = program.try_into().map_err(load)?;
            program.load().map_err(load)?;
            program.attach(function, 0).map(drop).map_err(attach)
        }
        HookMechanism::Tracepoint => {
            let program: &mut BtfTracePoint = program.try_into().map_err(load)?;
            let event = function
                .split_once(':')
                .map_or(function, |(_, event)| event);
            program.load(event, btf).map_err(load)?;
            program.attach().map(drop).map_err(attach)
        }
        HookMechanism::Iterator => {
            let program: &mut Iter = program.try_into().map_err(load)?;
            program
                .load(function.trim_start_matches("bpf_iter_"), btf)
                .map_err(load)
        }
    }
}

fn refused(stage: TrialStage, errno: Option<i32>, message: String) -> TrialOutcome {
    TrialOutcome::Refused {
        stage,
        errno: errno.unwrap_or(0),
        message,
    }
}

/// The error number at the end of the chain, if there is one.
fn errno(error: &ProgramError) -> Option<i32> {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return error.raw_os_error();
        }
        next = error.source();
    }
    None
}

/// The error with everything it came from, the verifier's log among it.
fn chain(error: &ProgramError) -> String {
    let mut text = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(error) = next {
        text.push_str(": ");
        text.push_str(&error.to_string());
        next = error.source();
    }
    text
}

/// The error in one line.
fn summary(error: &ProgramError) -> String {
    let text = chain(error);
    match text.split_once('\n') {
        Some((first, _)) => first.trim_end().to_owned(),
        None => text,
    }
}

pub(super) fn give_up(plan: &mut [HookPlan], reason: &str) {
    for hook in plan.iter_mut().filter(|hook| hook.mechanism().is_some()) {
        hook.verdict = HookVerdict::Absent;
        hook.reason = format!("the BPF object could not be loaded: {reason}");
    }
}
