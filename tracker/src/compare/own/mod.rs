//! A program of the user's own under each strategy in turn: one that is started for each run, or
//! one that runs already, which cannot be repeated and has each strategy for a while.
//!
//! What it writes nobody knows beforehand: there are costs, and no false positives or negatives.

mod order;
pub(crate) mod report;
mod run;

pub(crate) use order::{OwnComparison, OwnOrder, OwnTarget, compare_own};
