//! The causes in `tracker check`: what `tracker explain` can see of what takes the protection off pages.

use serde::Serialize;

use crate::probes::HookReport;
use crate::probes::events::{EventOptions, EventProbes};
use crate::probes::{EVENT_HOOKS, ProbeLevel};

/// What was attached, and detached again.
#[derive(Debug, Serialize)]
pub struct Causes {
    /// How much can be seen.
    pub level: ProbeLevel,
    /// Why it is not more.
    pub reason: String,
    /// Hook by hook.
    pub hooks: Vec<HookReport>,
}

impl Causes {
    /// Tries.
    pub fn find() -> Self {
        let events = EventProbes::attach(&EventOptions::default());
        let hooks = events.plan().iter();
        Self {
            level: events.level(),
            reason: events.reason().to_owned(),
            hooks: hooks
                .map(|plan| HookReport::of(plan, EVENT_HOOKS))
                .collect(),
        }
    }
}
