//! Attaches the hooks that count.

use std::borrow::Cow;
use std::sync::{Arc, Mutex, PoisonError};

use aya::Ebpf;
use tracker_ebpf::MeasuredTime;

use super::calibrate;
use super::counters::CounterMaps;
use super::hooks::{self, HOOKS, HookMechanism};
use super::ladder::HookLadder;
use super::missed::{self, HookMisses};
use super::object::ProbeObject;
use super::plan::{self, HookWishes, ProbeLevel};
use super::program_log::ProgramLog;
use super::signals::{CountAvailability, CountSignal};
use super::task_vma::TaskVmaIterator;
use super::values::MapSizes;
use super::verdict::HookPlan;
use crate::kernel::facts::KernelFacts;

/// How to attach.
#[derive(Clone, Debug)]
pub struct ProbeOptions {
    /// What the user wants of the hooks.
    pub wishes: HookWishes,
    /// Sizes of the shared maps.
    pub sizes: MapSizes,
    /// The programs: [`super::OBJECT`], unless others are tried out.
    pub object: Cow<'static, [u8]>,
}

/// Everything that came of attaching.
pub struct AttachedProbes {
    /// What is known of the kernel.
    pub facts: KernelFacts,
    /// What is attached, and why something is not.
    pub plan: Vec<HookPlan>,
    /// How much of the kernel can be seen.
    pub level: ProbeLevel,
    /// Why not more can be seen.
    pub reason: String,
    /// What can be counted, and how well.
    pub availability: CountAvailability,
    /// The counters; `None` at level observe.
    pub counters: Option<CounterMaps>,
    /// The iterator; `None` if this kernel or this privilege refuses it.
    pub iterator: Option<TaskVmaIterator>,
    /// What the programs say; `None` unless debug is logged.
    pub diagnostics: Option<ProgramLog>,
    ebpf: Option<Arc<Mutex<Ebpf>>>,
}

impl AttachedProbes {
    /// Events that the kernel kept from each attached hook, where it tells.
    #[must_use]
    pub fn misses(&self) -> Vec<HookMisses> {
        let Some(ebpf) = &self.ebpf else {
            return Vec::new();
        };
        let ebpf = ebpf.lock().unwrap_or_else(PoisonError::into_inner);
        missed::misses(&ebpf, &self.plan).collect()
    }
}

/// Gathers facts, plans, and attaches what can be attached. This never fails: what cannot be had is
/// absent, with its reason. Everything is detached when the result is dropped, or when the process
/// ends, however it does.
#[must_use]
pub fn attach(options: &ProbeOptions) -> AttachedProbes {
    let mut facts = KernelFacts::gather(&hooks::functions(HOOKS), &[]);
    facts.tried = calibrate::tried();
    let sizes = options.sizes;
    let ladder = HookLadder {
        table: HOOKS,
        facts: &facts,
        wishes: &options.wishes,
        sizes,
    };
    let object = ProbeObject::parse(options.object.clone()).map_err(Into::into);
    let (plan, loaded) = ladder.attach(
        object,
        |loader| {
            loader
                .map_max_entries("VMAS", sizes.vma_records)
                .map_max_entries("MMS", sizes.mm_records)
                .map_max_entries("VMA_RECORDS", sizes.vma_records)
                .map_max_entries("MM_RECORDS", sizes.mm_records)
                .map_max_entries("FAULTS", sizes.vma_records * sizes.shards)
                .map_max_entries("FREE_VMAS", sizes.vma_records)
                .map_max_entries("FREE_MMS", sizes.mm_records);
        },
        |ebpf| Ok((CounterMaps::new(ebpf, sizes)?, ProgramLog::take(ebpf)?)),
    );
    finish(facts, plan, loaded)
}

type LoadedProbes = (Ebpf, (CounterMaps, Option<ProgramLog>));

fn finish(facts: KernelFacts, plan: Vec<HookPlan>, loaded: Option<LoadedProbes>) -> AttachedProbes {
    let (level, reason) = plan::level(&plan);
    let availability = CountAvailability::of(&plan);
    let (ebpf, counters, diagnostics) = match loaded {
        Some((ebpf, (counters, log))) => (Some(Arc::new(Mutex::new(ebpf))), Some(counters), log),
        None => (None, None, None),
    };
    let measured = MeasuredTime::ALL.map(|time| availability.has(CountSignal::Time(time)));
    let counters = counters
        .filter(|_| level > ProbeLevel::Observe)
        .map(|mut counters| {
            counters.measure(measured);
            counters
        });
    let iterates = |plan: &HookPlan| plan.mechanism() == Some(HookMechanism::Iterator);
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
