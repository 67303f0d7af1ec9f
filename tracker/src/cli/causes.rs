//! The causes in `tracker check`: how much of what takes the protection off pages `tracker explain`
//! can see.

use serde::Serialize;

use crate::probes::HookReport;
use crate::probes::ProbeLevel;
use crate::probes::events::{EventOptions, EventProbes};

/// What came of attaching the hooks that explain.
#[derive(Debug, Serialize)]
pub(crate) struct CauseHooks {
    /// How much can be seen.
    pub level: ProbeLevel,
    /// Why not more can be seen.
    pub reason: String,
    /// What became of each hook.
    pub hooks: Vec<HookReport>,
}

impl CauseHooks {
    /// Attaches them, and detaches them again.
    pub(crate) fn find() -> Self {
        let events = EventProbes::attach(&EventOptions::default());
        Self {
            level: events.level(),
            reason: events.reason().to_owned(),
            hooks: HookReport::of(events.plan(), events.states()),
        }
    }
}
