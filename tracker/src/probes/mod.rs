//! The ladder: from facts about this kernel to a plan (pure), from a plan to attached programs.
//!
//! [`hooks`] lists the places in the kernel we want to see, [`object`] reads from the programs what
//! each needs to know of the kernel, [`plan`] decides how to see each place, `ladder` tries,
//! `attach` does it for what is counted, and `counters` reads the counts. [`events`] does the
//! same for what is told one by one. `report` tells what came of it.

mod advice;
mod attach;
pub mod calibrate;
mod continued_proof;
pub(crate) mod counters;
mod error;
pub mod events;
pub mod fault_time;
#[expect(unsafe_code, reason = "a system call that no crate makes")]
mod grace;
pub mod hooks;
mod iterator;
mod ladder;
mod marks;
mod missed;
pub mod object;
#[expect(unsafe_code, reason = "a system call that no crate makes")]
mod object_info;
pub mod plan;
pub(crate) mod program_log;
pub mod proof;
pub(crate) mod prover;
mod report;
#[expect(unsafe_code, reason = "memory that the kernel writes to at any time")]
mod shared;
mod signals;
mod target_btf;
pub(crate) mod task_vma;
mod values;
pub mod verdict;

pub use attach::{AttachedProbes, ProbeOptions, attach};
pub use error::ProbeError;
pub use hooks::{EVENT_HOOKS, FAULT_TIME_HOOKS, HOOKS, Hook, HookId, HookMechanism};
pub use missed::HookMisses;
pub use object::{OBJECT, ProbeObject};
pub use plan::{HookWishes, ProbeLevel};
pub use proof::HookState;
pub use prover::CROWD;
pub use report::{HookReport, MissingCapability, ProbeReport};
pub use signals::{CountAvailability, CountExactness, CountSignal};
pub use values::MapSizes;
pub use verdict::{HookPlan, HookVerdict};
