//! The causes in `tracker check`: what `tracker explain` can see of what takes the protection off pages.

use serde::Serialize;

use crate::probes::HookReport;
use crate::probes::ProbeLevel;
use crate::probes::events::{EventOptions, EventProbes};

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
        Self {
            level: events.level(),
            reason: events.reason().to_owned(),
            hooks: events.plan().iter().cloned().map(Into::into).collect(),
        }
    }
}
