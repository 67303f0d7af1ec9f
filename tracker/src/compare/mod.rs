//! The same work under each strategy: what each costs, and what it gets wrong.
//!
//! ```text
//! workload (data) --> truth (pure): what has changed in each phase
//!        |               |
//!        v               v
//! worker (a process) <- run (a process): tracks it, measures --> measured (JSON)
//!                                                                   |
//! order (interleaves runs, repeats them) <--------------------------+
//!        |
//!        v
//! numbers (pure): ratios and their spread --> report: text, Markdown, JSON, picture
//! ```
//!
//! Each run is a process of its own that starts the process that it tracks, so memory, page tables
//! and faults are those of that run alone.

#![forbid(unsafe_code)]

mod launch;
mod measured;
mod numbers;
mod order;
pub(crate) mod own;
mod pattern;
pub(crate) mod report;
mod run;
#[cfg(test)]
mod sample;
mod truth;
mod worker;
mod workload;

pub(crate) use launch::launch;
pub(crate) use order::{CompareOrder, Comparison, compare};
pub(crate) use own::{OwnComparison, OwnOrder, OwnTarget, compare_own};
pub(crate) use run::{RunOrder, run};
pub(crate) use worker::work;
pub(crate) use workload::{CompareWorkload, WORKLOADS};
