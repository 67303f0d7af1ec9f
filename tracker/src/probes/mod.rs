//! The ladder: from facts about this kernel to a plan (pure), from a plan to attached programs.
//!
//! [`hooks`] lists the places in the kernel we want to see, [`object`] reads from the programs what
//! each needs to know of the kernel, [`plan`] decides how to see each place, [`ladder`] tries,
//! [`attach`] does it for what is counted, and [`counters`] reads the counts. [`events`] does the same
//! for what is told one by one. [`report`] tells what came of it.

pub mod advice;
pub mod attach;
pub mod calibrate;
pub mod counters;
pub mod error;
pub mod events;
pub mod hooks;
pub mod iterator;
pub mod ladder;
pub mod marks;
pub mod missed;
pub mod object;
pub mod plan;
pub mod program_log;
pub mod report;
pub mod shared;
pub mod signals;
pub mod task_vma;
pub mod values;
pub mod verdict;

pub use attach::{AttachedProbes, ProbeOptions, attach};
pub use error::ProbeError;
pub use hooks::{EVENT_HOOKS, HOOKS, Hook, HookId, HookMechanism};
pub use missed::HookMisses;
pub use object::{OBJECT, ProbeObject};
pub use plan::{HookWishes, ProbeLevel};
pub use report::{CountReport, HookReport, MissingCapability, ProbeReport, counts};
pub use values::MapSizes;
pub use verdict::{HookPlan, HookVerdict};
