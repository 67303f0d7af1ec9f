//! The ladder: from facts about this kernel to a plan (pure), from a plan to attached programs.
//!
//! [`hooks`] lists the places in the kernel we want to see, [`plan`] decides how to see each of
//! them, [`attach`] does it, [`counters`] reads what they count. [`events`] does the same for what is told one by one.

pub mod advice;
pub mod attach;
pub mod calibrate;
pub mod constants;
pub mod counters;
pub mod diagnostics;
pub mod events;
pub mod hooks;
pub mod iterator;
pub mod missed;
pub mod patch;
pub mod plan;
pub mod report;
pub mod shared;
pub mod signals;
pub mod task_vma;

pub use attach::{AttachedProbes, OBJECT, ProbeOptions, attach};
pub use hooks::{EVENT_HOOKS, HOOKS, Hook, HookMechanism};
pub use plan::{HookPlan, HookVerdict, ProbeLevel};
pub use report::{CountReport, HookReport, MissingCapability, ProbeReport, counts};
