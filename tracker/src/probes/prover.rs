//! Proves that attached hooks fire: has the kernel do their work on memory of our own, and looks
//! who noticed (`tracker-ebpf/src/proof.rs`).

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, RandomState};
use std::ops::DerefMut;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::{self, Builder};
use std::time::{Duration, Instant};

use aya::Ebpf;
use aya::maps::{Array, MapData};
use tracker_ebpf::{HookFirings, HookId};
use uffd::KernelExercise;

use super::error::ProbeError;
use super::hooks::HookProof;
use super::ladder;
use super::proof::{self, ExerciseOutcome, HookState, HookStates, ProofGap};
use super::shared::SharedArray;
use super::target_btf;
use super::verdict::{HookPlan, HookVerdict};
use crate::kernel::switches::KernelSwitches;

/// How long to wait for what happens in other tasks.
const PATIENCE: Duration = Duration::from_millis(20);
/// How often to look.
const LOOKS: u32 = 10;
/// Between two exercises, for others to run.
const PAUSE: Duration = Duration::from_millis(1);
/// How often a hook is found silent before it is taken for that: a thread that was preempted in its
/// program on our CPU keeps it from firing for us.
const PROOFS: usize = 3;
/// Threads that have the hooks fire at once.
pub const CROWD: usize = 8;
/// For how long: some hundred time slices.
const CROWD_TIME: Duration = Duration::from_millis(400);

/// The name that a thread must have for its work not to count, as two words.
type Exerciser = Array<MapData, [u64; 2]>;

/// Every object that is loaded: what is done to prove the hooks of one must not count in another.
static LOADED: Mutex<Vec<Weak<Mutex<Exerciser>>>> = Mutex::new(Vec::new());
/// The name of the thread that exercises. Nobody else's is the same by chance.
static NAME: LazyLock<String> = LazyLock::new(|| {
    let random = RandomState::new().hash_one("exerciser") as u32;
    format!("prove-{random:08x}")
});

/// Proves the hooks of one object.
pub struct HookProver {
    exerciser: Arc<Mutex<Exerciser>>,
    firings: Mutex<SharedArray<HookFirings>>,
}

impl HookProver {
    /// Takes what it needs of a loaded object.
    ///
    /// # Errors
    /// If a map is missing or cannot be mapped.
    pub fn take(ebpf: &mut Ebpf) -> Result<Self, ProbeError> {
        const NAME: &str = ".bss.exerciser";
        let firings = ebpf.map("FIRINGS").ok_or(ProbeError::NoMap("FIRINGS"))?;
        let firings = SharedArray::map(firings, HookId::ALL.len() as u32)?;
        let exerciser = ebpf.take_map(NAME).ok_or(ProbeError::NoMap(NAME))?;
        let exerciser = Arc::new(Mutex::new(exerciser.try_into()?));
        lock(&LOADED).push(Arc::downgrade(&exerciser));
        Ok(Self {
            exerciser,
            firings: Mutex::new(firings),
        })
    }

    /// What is known of each hook that a plan attaches. Takes some ten milliseconds.
    pub fn prove(&self, plan: &[HookPlan]) -> HookStates {
        let outcomes = thread::scope(|scope| {
            let thread = Builder::new().name(NAME.clone());
            let thread = thread.spawn_scoped(scope, || self.outcomes(plan))?;
            thread.join().map_err(|_| ProbeError::Exercise)?
        });
        let attached = plan.iter().filter(|plan| plan.program().is_some());
        let state = |plan: &HookPlan| match &outcomes {
            Ok(outcomes) => proof::judge(plan.hook.proof, outcomes.get(&plan.hook.id)),
            Err(error) => HookState::NotProven(ProofGap::Failed(error.to_string())),
        };
        let states = attached.map(|plan| (plan.hook.id, state(plan)));
        proof::completed(plan, states.collect())
    }

    /// The same; what is silent was so several times in turn.
    pub fn prove_patiently(&self, plan: &[HookPlan]) -> HookStates {
        let is_silent =
            |states: &HookStates| states.values().any(|state| *state == HookState::Silent);
        let mut states = self.prove(plan);
        for _ in 1..PROOFS {
            if !is_silent(&states) {
                break;
            }
            thread::sleep(PATIENCE);
            states = self.prove(plan);
        }
        states
    }

    /// The same, after what is silent was attached anew: if the switches are on, that may help.
    /// `switches` reads them: somebody may turn one at any moment.
    pub fn prove_or_attach_anew<E: DerefMut<Target = Ebpf>>(
        &self,
        plan: &[HookPlan],
        switches: impl Fn() -> KernelSwitches,
        ebpf: impl FnOnce() -> E,
    ) -> HookStates {
        let mut silent = Vec::new();
        for _ in 0..PROOFS {
            let states = self.prove(plan);
            let is_silent =
                |plan: &&HookPlan| states.get(&plan.hook.id) == Some(&HookState::Silent);
            silent = plan.iter().filter(is_silent).collect();
            if silent.is_empty() || !switches().allow_attaching_anew() {
                return states;
            }
            thread::sleep(PATIENCE);
        }
        let attached = attach_anew(&mut ebpf(), &silent);
        if let Err(error) = attached {
            tracing::warn!(%error, "cannot attach a silent hook anew");
        }
        self.prove(plan)
    }

    /// Has the hooks of a plan fire for threads that preempt each other on one CPU: what a preempted
    /// program misses then, the kernel tells (`super::missed`).
    ///
    /// # Errors
    /// If it cannot be told to the programs, or a thread cannot be started.
    pub fn crowd(&self, plan: &[HookPlan]) -> Result<(), ProbeError> {
        let _time = ExerciseTime::begin()?;
        let (exercises, end) = (proof::exercises(plan), Instant::now() + CROWD_TIME);
        // What cannot be done here was told by the proof; of two at once one may be refused, too.
        let work = || {
            let again = || Instant::now() < end;
            let each = exercises.iter().cycle().take_while(|_| again());
            each.for_each(|exercise| _ = exercise.run());
        };
        uffd::on_this_cpu(|| {
            thread::scope(|scope| {
                (0..CROWD).try_for_each(|_| {
                    let thread = Builder::new().name(NAME.clone());
                    thread.spawn_scoped(scope, work).map(drop)
                })
            })
        })??;
        Ok(())
    }

    /// What came of all exercises, hook by hook.
    fn outcomes(&self, plan: &[HookPlan]) -> Result<BTreeMap<HookId, ExerciseOutcome>, ProbeError> {
        let mut outcomes = BTreeMap::new();
        let _time = ExerciseTime::begin()?;
        if let Err(error) = uffd::prevent_preemption() {
            tracing::debug!(%error, "the self-test may be preempted in a program");
        }
        for exercise in proof::exercises(plan) {
            let hooks = plan.iter().map(|plan| plan.hook);
            let hooks = hooks.filter(|hook| proof::exercise_of(hook) == Some(exercise));
            let hooks: Vec<_> = hooks.map(|hook| (hook.id, hook.proof)).collect();
            self.exercise(exercise, &hooks, &mut outcomes);
            thread::sleep(PAUSE);
        }
        Ok(outcomes)
    }

    fn exercise(
        &self,
        exercise: KernelExercise,
        hooks: &[(HookId, HookProof)],
        outcomes: &mut BTreeMap<HookId, ExerciseOutcome>,
    ) {
        let before = hooks.iter().map(|(id, _)| self.firings(*id));
        let before: Vec<_> = before.collect();
        let refusal = exercise.run().err().map(|error| error.to_string());
        let elsewhere = hooks
            .iter()
            .zip(&before)
            .filter(|((_, proof), _)| matches!(proof, HookProof::Perhaps(_)));
        for ((id, _), before) in elsewhere {
            let fired = || self.firings(*id) != *before;
            let _ = (0..LOOKS).any(|_| {
                fired() || {
                    thread::sleep(PATIENCE / LOOKS);
                    false
                }
            });
        }
        for ((id, _), [exercised, others]) in hooks.iter().zip(before) {
            let now = self.firings(*id);
            let outcome = ExerciseOutcome {
                exercised: now[0] - exercised,
                others: now[1] - others,
                refusal: refusal.clone(),
            };
            outcomes.insert(*id, outcome);
        }
    }

    /// How often a hook fired because of exercises, and because of others.
    fn firings(&self, hook: HookId) -> [u64; 2] {
        let firings = lock(&self.firings).read(hook as usize);
        [firings.exercised, firings.others]
    }
}

/// Attaches hooks anew.
fn attach_anew(ebpf: &mut Ebpf, hooks: &[&HookPlan]) -> Result<(), ProbeError> {
    let btf = target_btf::of_hooks(hooks.iter().map(|plan| plan.hook))?;
    for plan in hooks {
        if let HookVerdict::Attach {
            program, function, ..
        } = plan.verdict
        {
            ladder::attach_anew(ebpf, &btf, program, function)?;
        }
    }
    Ok(())
}

impl Drop for HookProver {
    fn drop(&mut self) {
        lock(&LOADED).retain(|one| one.as_ptr() != Arc::as_ptr(&self.exerciser));
    }
}

/// While this lives, programs note that they fire, and pass over what our thread does.
struct ExerciseTime(MutexGuard<'static, Vec<Weak<Mutex<Exerciser>>>>);

impl ExerciseTime {
    fn begin() -> Result<Self, ProbeError> {
        let time = Self(lock(&LOADED));
        time.set(words(&NAME))?;
        Ok(time)
    }

    fn set(&self, name: [u64; 2]) -> Result<(), ProbeError> {
        for exerciser in self.0.iter().filter_map(Weak::upgrade) {
            lock(&exerciser).set(0, name, 0)?;
        }
        Ok(())
    }
}

impl Drop for ExerciseTime {
    fn drop(&mut self) {
        if let Err(error) = self.set([0; 2]) {
            tracing::warn!(%error, "the programs go on noting that they fire");
        }
    }
}

/// A name as the kernel keeps it (`TASK_COMM_LEN`).
fn words(name: &str) -> [u64; 2] {
    let mut bytes = [0; 16];
    let length = name.len().min(15);
    bytes[..length].copy_from_slice(&name.as_bytes()[..length]);
    bytemuck::cast(bytes)
}

/// A poisoned lock is taken: what it guards is written as a whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
