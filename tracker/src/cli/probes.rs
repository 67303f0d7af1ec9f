//! From the flags to probes, and what became of each hook.

use super::agent::HookArgs;
use crate::agent::AgentError;
use crate::agent::hooks::{Level, NoCounters, Probes, Report};
use crate::metrics::{Availability, Exactness, Signal};

/// Tells what would be attached, and attaches nothing.
pub fn report(_hooks: &HookArgs) -> Result<Report, AgentError> {
    Ok(Report {
        level: Level::Observe,
        reason: "no function hook is attached; PAGEMAP_SCAN and smaps still tell pages, VMAs and page tables".into(),
        hooks: Vec::new(),
        missing_capabilities: Vec::new(),
        advice: Vec::new(),
    })
}

/// Attaches what can be attached.
pub fn attach(hooks: &HookArgs) -> Result<Probes, AgentError> {
    let mut availability = Availability::default();
    availability.set(Signal::Pages, Exactness::Exact);
    Ok(Probes {
        source: Box::new(NoCounters),
        discover: None,
        report: report(hooks)?,
        availability,
        missed: Box::new(Vec::new),
        attached: Box::new(()),
    })
}
