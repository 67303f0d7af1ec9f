//! Attaches the hooks that count.

use std::borrow::Cow;
use std::sync::{Arc, Mutex, PoisonError};

use aya::Ebpf;

use super::calibrate;
use super::counters::CounterMaps;
use super::error::ProbeError;
use super::hooks::{self, HOOKS, HookMechanism};
use super::ladder::HookLadder;
use super::missed::{self, HookMisses};
use super::object::ProbeObject;
use super::plan::{self, HookWishes, ProbeLevel};
use super::program_log::ProgramLog;
use super::proof::{self, HookState, HookStates};
use super::prover::HookProver;
use super::signals::CountAvailability;
use super::task_vma::TaskVmaIterator;
use super::values::MapSizes;
use super::verdict::HookPlan;
use crate::kernel::facts::KernelFacts;
use crate::kernel::switches::KernelSwitches;

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
    /// What sees, and why something does not: an attached hook may be silent.
    pub plan: Vec<HookPlan>,
    /// Whether each attached hook is known to fire, as of the last self-test.
    pub states: HookStates,
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
    /// What is attached, whether it fires or not.
    attached: Vec<HookPlan>,
    options: ProbeOptions,
    prover: Option<HookProver>,
    ebpf: Option<Arc<Mutex<Ebpf>>>,
    /// Why the last self-test failed itself.
    untested: Option<String>,
}

impl AttachedProbes {
    /// Why the last self-test failed itself: then what is known of the hooks is older.
    #[must_use]
    pub fn untested(&self) -> Option<&str> {
        self.untested.as_deref()
    }

    /// Events that the kernel kept from each attached hook, where it tells.
    #[must_use]
    pub fn misses(&self) -> Vec<HookMisses> {
        let Some(ebpf) = &self.ebpf else {
            return Vec::new();
        };
        let ebpf = ebpf.lock().unwrap_or_else(PoisonError::into_inner);
        missed::misses(&ebpf, &self.attached)
    }

    /// Has the hooks fire for several threads at once, which preempt each other where this kernel
    /// lets them; returns what each missed since it was attached. Takes half a second.
    #[must_use]
    pub fn misses_in_a_crowd(&self) -> Vec<HookMisses> {
        if let Some(prover) = &self.prover
            && let Err(error) = prover.crowd(&self.attached)
        {
            tracing::warn!(%error, "what is missed by many threads at once was not tried");
        }
        self.misses()
    }

    /// Whether anything is attached.
    #[must_use]
    pub const fn is_any(&self) -> bool {
        self.prover.is_some()
    }

    /// Proves that each attached hook fires, and attaches anew what does not. Plan, level and
    /// availability are then what was seen.
    pub fn prove(&mut self) {
        let switches = KernelSwitches::read(&self.facts.mounts);
        if switches.allow_more_than(self.facts.switches) {
            self.facts.switches = switches;
            if let Err(error) = self.attach_again() {
                tracing::warn!(%error, "cannot attach what was switched off");
            }
        }
        let (Some(prover), Some(ebpf)) = (&self.prover, &self.ebpf) else {
            return;
        };
        let ebpf = || ebpf.lock().unwrap_or_else(PoisonError::into_inner);
        let switches = || KernelSwitches::read(&self.facts.mounts);
        let tested = prover.prove_or_attach_anew(&self.attached, switches, ebpf);
        self.untested = proof::failure(&tested);
        self.states = proof::kept(&self.states, tested);
        self.plan = proof::settled(&self.attached, &self.states, switches());
        (self.level, self.reason) = plan::level(&self.plan);
        let missed = |hook| self.states.get(&hook).map_or(0, HookState::missed);
        self.availability = CountAvailability::of(&self.plan).less_missed(missed);
    }
}

impl AttachedProbes {
    /// Attaches what the facts now allow.
    fn attach_again(&mut self) -> Result<(), ProbeError> {
        let Some(ebpf) = &self.ebpf else {
            return Ok(());
        };
        let ladder = HookLadder {
            table: HOOKS,
            facts: &self.facts,
            wishes: &self.options.wishes,
            sizes: self.options.sizes,
        };
        let object = ProbeObject::parse(self.options.object.clone())?;
        let mut ebpf = ebpf.lock().unwrap_or_else(PoisonError::into_inner);
        self.attached = ladder.attach_again(object, &mut ebpf, &self.attached)?;
        Ok(())
    }
}

/// Gathers facts, plans, and attaches what can be attached. This never fails: what cannot be had is
/// absent, with its reason. Everything is detached when the result is dropped, or when the process
/// ends, however it does.
#[must_use]
pub fn attach(options: &ProbeOptions) -> AttachedProbes {
    let mut facts = KernelFacts::gather(&hooks::functions(HOOKS), &[]);
    facts.tried = calibrate::tried();
    facts.switches = KernelSwitches::read(&facts.mounts);
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
        |ebpf| {
            let counters = CounterMaps::new(ebpf, sizes)?;
            Ok((counters, ProgramLog::take(ebpf)?, HookProver::take(ebpf)?))
        },
    );
    let mut attached = finish(options.clone(), facts, plan, loaded);
    attached.prove();
    attached
}

type LoadedProbes = (Ebpf, (CounterMaps, Option<ProgramLog>, HookProver));

fn finish(
    options: ProbeOptions,
    facts: KernelFacts,
    plan: Vec<HookPlan>,
    loaded: Option<LoadedProbes>,
) -> AttachedProbes {
    let (level, reason) = plan::level(&plan);
    let availability = CountAvailability::of(&plan);
    let (ebpf, counters, diagnostics, prover) = match loaded {
        Some((ebpf, (counters, log, prover))) => {
            let ebpf = Arc::new(Mutex::new(ebpf));
            (Some(ebpf), Some(counters), log, Some(prover))
        }
        None => (None, None, None, None),
    };
    let counters = counters
        // What is switched off now may be attached later.
        .filter(|_| level > ProbeLevel::Observe || !facts.switches.on());
    let iterates = |plan: &HookPlan| plan.mechanism() == Some(HookMechanism::Iterator);
    let iterator = ebpf
        .clone()
        .filter(|_| plan.iter().any(iterates))
        .map(TaskVmaIterator::new);
    AttachedProbes {
        options,
        facts,
        attached: plan.clone(),
        plan,
        states: HookStates::new(),
        level,
        reason,
        availability,
        counters,
        iterator,
        diagnostics,
        prover,
        ebpf,
        untested: None,
    }
}
