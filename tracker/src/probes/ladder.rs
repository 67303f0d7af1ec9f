//! From a plan to attached programs: tries, notes what the kernel refuses, and plans again.

use std::error::Error;
use std::io;

use aya::programs::{BtfTracePoint, FEntry, FExit, Iter, KProbe, Program, ProgramError};
use aya::{Btf, Ebpf, EbpfLoader};
use rustix::io::Errno;

use super::error::ProbeError;
use super::hooks::{Hook, HookMechanism, HookProgram};
use super::object::ProbeObject;
use super::plan::{self, HookTrials, HookWishes, PlanInputs};
use super::program_log;
use super::target_btf;
use super::values::{self, MapSizes};
use super::verdict::{HookObstacle, HookPlan, HookVerdict, TrialOutcome, TrialStage};
use crate::kernel::facts::KernelFacts;
use tracker_ebpf::ABSENT;

/// A table of hooks, and what decides how each is attached.
pub struct HookLadder<'a> {
    /// The table.
    pub table: &'static [Hook],
    /// What is known of the kernel.
    pub facts: &'a KernelFacts,
    /// What the user wants.
    pub wishes: &'a HookWishes,
    /// Sizes of the maps.
    pub sizes: MapSizes,
}

/// An object in the kernel; its programs are not loaded yet.
struct LoadedObject {
    ebpf: Ebpf,
    btf: Btf,
}

impl HookLadder<'_> {
    /// Loads the object, unless the plan has nothing to attach; `prepare` takes what it needs of
    /// the object before programs are loaded. Then attaches hook by hook.
    ///
    /// Nothing here fails: what cannot be had is absent, with its reason.
    pub fn attach<T>(
        &self,
        object: Result<ProbeObject, ProbeError>,
        configure: impl FnOnce(&mut EbpfLoader<'_>),
        prepare: impl FnOnce(&mut Ebpf) -> Result<T, ProbeError>,
    ) -> (Vec<HookPlan>, Option<(Ebpf, T)>) {
        let object = match object {
            Ok(object) => object,
            Err(error) => return (self.without_object(&error), None),
        };
        let mut trials = HookTrials::new();
        let mut plan = self.plan(&object, &trials);
        if plan.iter().all(|plan| plan.program().is_none()) {
            return (plan, None);
        }
        let loaded = self.load(&object, configure).and_then(|mut loaded| {
            let prepared = prepare(&mut loaded.ebpf)?;
            Ok((loaded, prepared))
        });
        match loaded {
            Ok((mut loaded, prepared)) => {
                plan = self.climb(&object, &mut loaded.ebpf, &loaded.btf, &mut trials);
                (plan, Some((loaded.ebpf, prepared)))
            }
            Err(error) => {
                give_up(&mut plan, &error);
                (plan, None)
            }
        }
    }

    /// Attaches again after facts have changed, in an object that is loaded; `plan` is what is
    /// attached now.
    ///
    /// # Errors
    /// If the object or the kernel's BTF cannot be read.
    pub fn attach_again(
        &self,
        object: ProbeObject,
        ebpf: &mut Ebpf,
        plan: &[HookPlan],
    ) -> Result<Vec<HookPlan>, ProbeError> {
        let btf = target_btf::of_hooks(self.table)?;
        let mut trials = HookTrials::new();
        for (old, new) in plan.iter().zip(self.plan(&object, &trials)) {
            match (old.program(), new.program()) {
                (Some(old_program), Some(new_program)) if old_program == new_program => {
                    let attached = (old.hook.id, old_program.mechanism);
                    trials.insert(attached, TrialOutcome::Attached);
                }
                (Some(program), _) => unload(ebpf, program)?,
                (None, _) => {}
            }
        }
        Ok(self.climb(&object, ebpf, &btf, &mut trials))
    }

    fn plan(&self, object: &ProbeObject, trials: &HookTrials) -> Vec<HookPlan> {
        let inputs = PlanInputs {
            facts: self.facts,
            object,
            wishes: self.wishes,
            trials,
        };
        plan::plan(self.table, inputs)
    }

    fn without_object(&self, error: &ProbeError) -> Vec<HookPlan> {
        let absent = |hook| HookPlan {
            hook,
            verdict: HookVerdict::Absent(HookObstacle::NoObject(error.to_string())),
        };
        self.table.iter().map(absent).collect()
    }

    /// Writes this kernel's offsets and values into the object, and hands it to the kernel.
    fn load(
        &self,
        object: &ProbeObject,
        configure: impl FnOnce(&mut EbpfLoader<'_>),
    ) -> Result<LoadedObject, ProbeError> {
        let mut loader = EbpfLoader::new();
        // It has read all of the kernel's BTF for relocations, of which the object has none.
        loader.btf(None);
        let facts = self.facts;
        let patched = object.patched(
            |field| facts.offsets[field].get().unwrap_or(ABSENT),
            // A program that uses one that is not known is not loaded.
            |value| values::value(value, facts, self.sizes).unwrap_or_default(),
        )?;
        let level = program_log::level();
        loader.override_global(aya_log::LEVEL, &level, true);
        configure(&mut loader);
        let ebpf = loader.load(&patched)?;
        drop((loader, patched));
        let btf = target_btf::of_hooks(self.table)?;
        Ok(LoadedObject { ebpf, btf })
    }

    /// Attaches hook by hook. A refusal is noted, and the next rung is tried.
    fn climb(
        &self,
        object: &ProbeObject,
        ebpf: &mut Ebpf,
        btf: &Btf,
        trials: &mut HookTrials,
    ) -> Vec<HookPlan> {
        loop {
            let plan = self.plan(object, trials);
            let next = plan.iter().find_map(|plan| match plan.verdict {
                HookVerdict::Attach {
                    program, function, ..
                } if !trials.contains_key(&(plan.hook.id, program.mechanism)) => {
                    Some((plan.hook.id, program, function))
                }
                _ => None,
            });
            let Some((id, program, function)) = next else {
                return plan;
            };
            let outcome = try_attach(ebpf, btf, program, function);
            trials.insert((id, program.mechanism), outcome);
        }
    }
}

/// Nothing could be loaded.
fn give_up(plan: &mut [HookPlan], error: &ProbeError) {
    for plan in plan.iter_mut().filter(|plan| plan.program().is_some()) {
        plan.verdict = HookVerdict::Absent(HookObstacle::NoObject(error.to_string()));
    }
}

fn try_attach(ebpf: &mut Ebpf, btf: &Btf, program: &HookProgram, function: &str) -> TrialOutcome {
    let Some(loaded) = ebpf.program_mut(program.name) else {
        return TrialOutcome::Refused {
            stage: TrialStage::Load,
            errno: None,
            message: ProbeError::NoProgram(program.name).to_string(),
        };
    };
    match attach(loaded, btf, program.mechanism, function) {
        Ok(()) => TrialOutcome::Attached,
        Err((stage, error)) => {
            let error_chain = chain(&error);
            tracing::debug!(
                program = program.name,
                function,
                error = error_chain,
                "not attached"
            );
            TrialOutcome::Refused {
                stage,
                errno: errno(&error),
                message: first_line(&error_chain),
            }
        }
    }
}

fn attach(
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

/// Detaches a program and attaches it again: a kprobe that was attached while kprobes were switched
/// off stays so.
///
/// # Errors
/// If the kernel now refuses it.
pub fn attach_anew(
    ebpf: &mut Ebpf,
    btf: &Btf,
    program: &HookProgram,
    function: &str,
) -> Result<(), ProbeError> {
    unload(ebpf, program)?;
    let found = ebpf.program_mut(program.name);
    let found = found.ok_or(ProbeError::NoProgram(program.name))?;
    attach(found, btf, program.mechanism, function).map_err(|(_, error)| error.into())
}

/// Detaches a program in a function.
fn unload(ebpf: &mut Ebpf, program: &HookProgram) -> Result<(), ProbeError> {
    let found = ebpf.program_mut(program.name);
    let unloaded = match found.ok_or(ProbeError::NoProgram(program.name))? {
        Program::FEntry(program) => program.unload(),
        Program::FExit(program) => program.unload(),
        Program::KProbe(program) => program.unload(),
        // These are not in functions.
        _ => return Ok(()),
    };
    match unloaded {
        // The last try was refused.
        Ok(()) | Err(ProgramError::NotLoaded) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// The error and everything it came from.
fn sources(error: &ProgramError) -> impl Iterator<Item = &(dyn Error + 'static)> {
    let first: &(dyn Error + 'static) = error;
    std::iter::successors(Some(first), |error| Error::source(*error))
}

/// The error number at the end of the chain, if there is one.
fn errno(error: &ProgramError) -> Option<Errno> {
    let io = sources(error).find_map(|error| error.downcast_ref::<io::Error>());
    Errno::from_io_error(io?)
}

/// The error with everything it came from, the verifier's log among it.
fn chain(error: &ProgramError) -> String {
    let texts: Vec<_> = sources(error).map(ToString::to_string).collect();
    texts.join(": ")
}

fn first_line(text: &str) -> String {
    let first = text.split_once('\n').map(|(first, _)| first.trim_end());
    first.unwrap_or(text).to_owned()
}
