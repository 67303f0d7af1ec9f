//! Whether page faults are to be observed: to attach the programs takes long, and every process
//! passes them.

use pages::strategy::{self, StrategyFacts, StrategyName};
use pages::track;

use super::values::AskedStrategy;
use crate::probes::fault_time::FaultTimeProbes;

/// What decides between strategies for a process, or one that will be started: with an observer of
/// page faults where one was asked for, and unasked where `auto` prefers it.
///
/// # Errors
/// If this kernel has no userfaultfd at all.
pub(super) fn facts(asked: AskedStrategy, pid: Option<u32>) -> anyhow::Result<StrategyFacts> {
    let wanted = match asked.0 {
        Some(name) => StrategyName::is_observed(name),
        None => pid.is_some_and(is_sparse),
    };
    let observer = wanted.then(FaultTimeProbes::shared);
    Ok(strategy::gather_observed(false, observer)?)
}

/// Why memory cannot be looked at is told when it is to be tracked.
fn is_sparse(pid: u32) -> bool {
    track::memory_shape(pid).is_ok_and(|shape| shape.is_sparse())
}
