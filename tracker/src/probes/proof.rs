//! Whether attached hooks fire: what is known of it, and what follows (pure).

use std::collections::BTreeMap;

use thiserror::Error;
use uffd::KernelExercise;

use super::hooks::{Hook, HookId, HookMechanism, HookProof};
use super::verdict::{HookPlan, HookVerdict, SilenceCause};
use crate::kernel::switches::KernelSwitches;

/// What is known of an attached hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HookState {
    /// It fired when the agent made it fire.
    Firing,
    /// It fired, but not each time: what it counts is too low.
    Partly {
        /// How often it fired.
        seen: u64,
        /// How often it was made to.
        done: u64,
    },
    /// It did not: it is attached and counts nothing.
    Silent,
    /// Nobody knows.
    NotProven(ProofGap),
}

impl HookState {
    /// Its name in reports.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Firing => "firing",
            Self::Partly { .. } => "partly",
            Self::Silent => "silent",
            Self::NotProven(_) => "not-proven",
        }
    }

    /// Whether it is known to fire, if anything is known.
    #[must_use]
    pub const fn fires(&self) -> Option<bool> {
        match self {
            Self::Firing | Self::Partly { .. } => Some(true),
            Self::Silent => Some(false),
            Self::NotProven(_) => None,
        }
    }

    /// How often it did not fire though it was made to, and fires otherwise.
    #[must_use]
    pub const fn missed(&self) -> u64 {
        match self {
            Self::Partly { seen, done } => *done - *seen,
            Self::Firing | Self::Silent | Self::NotProven(_) => 0,
        }
    }
}

/// Why nobody knows whether a hook fires.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ProofGap {
    /// Nothing that the agent does makes it fire.
    #[error("{0}")]
    Never(&'static str),
    /// What makes it fire cannot be done here.
    #[error("{} is not possible: {why}", .exercise.as_str())]
    Impossible {
        /// What.
        exercise: KernelExercise,
        /// The kernel's reason.
        why: String,
    },
    /// What may make it fire did not.
    #[error("{} did not come to it this time", .0.as_str())]
    NotReached(KernelExercise),
    /// The self-test itself failed.
    #[error("the self-test failed: {0}")]
    Failed(String),
}

/// What came of one exercise, for one hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExerciseOutcome {
    /// How often the hook fired because of it.
    pub exercised: u64,
    /// How often it fired meanwhile because of others.
    pub others: u64,
    /// Why it could not be done.
    pub refusal: Option<String>,
}

/// What the outcome says about the hook.
#[must_use]
pub fn judge(proof: HookProof, outcome: Option<&ExerciseOutcome>) -> HookState {
    let (HookProof::Always(exercise) | HookProof::Perhaps(exercise), Some(outcome)) =
        (proof, outcome)
    else {
        return HookState::NotProven(match proof {
            HookProof::Never(why) => ProofGap::Never(why),
            HookProof::Always(exercise) | HookProof::Perhaps(exercise) => {
                ProofGap::NotReached(exercise)
            }
        });
    };
    let certain = matches!(proof, HookProof::Always(_));
    let (seen, done) = (outcome.exercised, exercise.times());
    if certain && seen >= done || !certain && seen + outcome.others > 0 {
        HookState::Firing
    } else if certain && seen > 0 && outcome.refusal.is_none() {
        HookState::Partly { seen, done }
    } else if let Some(why) = outcome.refusal.clone() {
        HookState::NotProven(ProofGap::Impossible { exercise, why })
    } else if certain {
        HookState::Silent
    } else {
        HookState::NotProven(ProofGap::NotReached(exercise))
    }
}

/// What is known of each hook that is attached.
pub type HookStates = BTreeMap<HookId, HookState>;

/// The states, completed: where no hook of a mechanism fires and some are silent, all are.
#[must_use]
pub fn completed(plan: &[HookPlan], mut states: HookStates) -> HookStates {
    for mechanism in HookMechanism::IN_FUNCTIONS {
        let of = |hook: &&HookPlan| hook.mechanism() == Some(mechanism);
        let any = |fires: bool| {
            let mut hooks = plan.iter().filter(of);
            hooks.any(|plan| states.get(&plan.hook.id).and_then(HookState::fires) == Some(fires))
        };
        if any(false) && !any(true) {
            for plan in plan.iter().filter(of) {
                states.insert(plan.hook.id, HookState::Silent);
            }
        }
    }
    states
}

/// The states after a self-test, of which some may not have been tested because it failed itself:
/// what was known of those stays.
#[must_use]
pub fn kept(known: &HookStates, tested: HookStates) -> HookStates {
    let keep = |(hook, state)| match (&state, known.get(&hook)) {
        (HookState::NotProven(ProofGap::Failed(_)), Some(known)) => (hook, known.clone()),
        _ => (hook, state),
    };
    tested.into_iter().map(keep).collect()
}

/// Why a self-test failed itself, if it did.
#[must_use]
pub fn failure(tested: &HookStates) -> Option<String> {
    tested.values().find_map(|state| match state {
        HookState::NotProven(ProofGap::Failed(why)) => Some(why.clone()),
        _ => None,
    })
}

/// The plan as it counts: a hook that is silent sees nothing.
#[must_use]
pub fn settled(plan: &[HookPlan], states: &HookStates, switches: KernelSwitches) -> Vec<HookPlan> {
    let settle = |plan: &HookPlan| match plan.verdict {
        HookVerdict::Attach {
            program, function, ..
        } if states.get(&plan.hook.id) == Some(&HookState::Silent) => HookPlan {
            hook: plan.hook,
            verdict: HookVerdict::Silent {
                program,
                function,
                cause: cause(program.mechanism, switches),
            },
        },
        _ => plan.clone(),
    };
    plan.iter().map(settle).collect()
}

/// Why a hook of this mechanism is silent, as far as the switches tell.
fn cause(mechanism: HookMechanism, switches: KernelSwitches) -> SilenceCause {
    switched_off(mechanism, switches).unwrap_or(SilenceCause::Unknown)
}

/// The switch that keeps hooks of this mechanism from firing. Kprobes at the entry of a function
/// are made by ftrace, too.
#[must_use]
pub fn switched_off(mechanism: HookMechanism, switches: KernelSwitches) -> Option<SilenceCause> {
    let by_kprobe = matches!(mechanism, HookMechanism::Kprobe | HookMechanism::Kretprobe);
    if !HookMechanism::IN_FUNCTIONS.contains(&mechanism) {
        None
    } else if by_kprobe && switches.kprobes == Some(false) {
        Some(SilenceCause::KprobesOff)
    } else if switches.ftrace == Some(false) {
        Some(SilenceCause::FtraceOff)
    } else {
        None
    }
}

/// The exercises that prove the hooks of a plan, each once.
#[must_use]
pub fn exercises(plan: &[HookPlan]) -> Vec<KernelExercise> {
    let attached = plan.iter().filter(|plan| plan.program().is_some());
    let mut all: Vec<_> = attached.filter_map(|plan| exercise_of(plan.hook)).collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// What makes a hook fire.
#[must_use]
pub const fn exercise_of(hook: &Hook) -> Option<KernelExercise> {
    match hook.proof {
        HookProof::Always(exercise) | HookProof::Perhaps(exercise) => Some(exercise),
        HookProof::Never(_) => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::probes::{HOOKS, ProbeLevel, plan};

    const ARM: HookProof = HookProof::Always(KernelExercise::Arm);
    const FORK: HookProof = HookProof::Perhaps(KernelExercise::Fork);

    fn outcome(exercised: u64, others: u64, refusal: Option<&str>) -> ExerciseOutcome {
        let refusal = refusal.map(str::to_owned);
        ExerciseOutcome {
            exercised,
            others,
            refusal,
        }
    }

    fn told(proof: HookProof, outcome: &ExerciseOutcome) -> &'static str {
        judge(proof, Some(outcome)).as_str()
    }

    #[test]
    fn a_self_test_that_fails_makes_nothing_known_anew() {
        let failed = || HookState::NotProven(ProofGap::Failed("no thread".to_owned()));
        let (silent, new) = (HookId::do_wp_page, HookId::handle_userfault);
        let known = HookStates::from([(silent, HookState::Silent)]);
        let tested = HookStates::from([(silent, failed()), (new, failed())]);
        assert_eq!(failure(&tested).as_deref(), Some("no thread"));
        let kept = kept(&known, tested);
        assert_eq!(kept[&silent], HookState::Silent);
        assert_eq!(kept[&new], failed());
        assert_eq!(failure(&known), None);
        let tested = HookStates::from([(silent, HookState::Firing)]);
        assert_eq!(super::kept(&known, tested)[&silent], HookState::Firing);
    }

    #[test]
    fn a_hook_must_fire_as_often_as_it_is_made_to() {
        assert_eq!(told(ARM, &outcome(4, 0, None)), "firing");
        // Others were preempted in its program: it is not silent, and what it counts is too low.
        assert_eq!(told(ARM, &outcome(3, 0, None)), "partly");
        assert_eq!(judge(ARM, Some(&outcome(3, 0, None))).missed(), 1);
        assert_eq!(told(ARM, &outcome(0, 0, None)), "silent");
        assert_eq!(told(ARM, &outcome(0, 9, None)), "silent");
        assert_eq!(told(ARM, &outcome(0, 0, Some("EPERM"))), "not-proven");
        assert_eq!(told(FORK, &outcome(0, 1, None)), "firing");
        assert_eq!(told(FORK, &outcome(0, 0, None)), "not-proven");
        let never = judge(HookProof::Never("why"), None);
        assert_eq!(never, HookState::NotProven(ProofGap::Never("why")));
    }

    /// Every hook is attached by its first program.
    fn attached() -> Vec<HookPlan> {
        let attach = |hook: &'static Hook| HookVerdict::Attach {
            program: &hook.programs[0],
            function: hook.functions[0],
            instead_of: Vec::new(),
        };
        let plan = |hook| HookPlan {
            hook,
            verdict: attach(hook),
        };
        HOOKS.iter().map(plan).collect()
    }

    fn states(state: impl Fn(&HookPlan) -> HookState) -> HookStates {
        let plan = attached();
        plan.iter()
            .map(|plan| (plan.hook.id, state(plan)))
            .collect()
    }

    #[test]
    fn one_silent_hook_makes_the_level_partial_and_all_make_it_observe() {
        let (attached, off) = (attached(), KernelSwitches::default());
        let one = states(|plan| match plan.hook.id {
            HookId::do_wp_page => HookState::Silent,
            _ => HookState::Firing,
        });
        let settled_plan = settled(&attached, &one, off);
        let (level, reason) = plan::level(&settled_plan);
        assert_eq!(level, ProbeLevel::Partial);
        assert!(
            reason.contains("do_wp_page: attached, but it does not fire"),
            "{reason}"
        );
        assert_eq!(
            settled(&attached, &states(|_| HookState::Firing), off),
            attached
        );

        // What cannot be proved is as blind as everything else of its mechanism.
        let unproven = states(|plan| match plan.hook.proof {
            HookProof::Always(_) => HookState::Silent,
            _ => HookState::NotProven(ProofGap::Never("why")),
        });
        let all = settled(&attached, &completed(&attached, unproven), off);
        assert_eq!(plan::level(&all).0, ProbeLevel::Observe);
    }

    #[test]
    fn the_cause_is_what_is_switched_off() {
        let switches = |ftrace, kprobes| KernelSwitches {
            ftrace: Some(ftrace),
            kprobes: Some(kprobes),
        };
        let of = |mechanism, switches| cause(mechanism, switches);
        use HookMechanism::{Fentry, Kprobe};
        assert_eq!(of(Fentry, switches(false, true)), SilenceCause::FtraceOff);
        assert_eq!(of(Fentry, switches(true, false)), SilenceCause::Unknown);
        assert_eq!(of(Kprobe, switches(true, false)), SilenceCause::KprobesOff);
        assert_eq!(of(Kprobe, switches(false, true)), SilenceCause::FtraceOff);
        assert_eq!(of(Kprobe, switches(true, true)), SilenceCause::Unknown);
    }
}
