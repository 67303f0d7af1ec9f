//! The causes in `tracker check`: what `tracker explain` can see of what takes the protection off pages.

use serde::Serialize;

use crate::agent::HookReport;
use crate::probes::events::{Events, Options};
use crate::probes::{EVENT_HOOKS, Level};

/// What was attached, and detached again.
#[derive(Debug, Serialize)]
pub struct Causes {
    /// How much can be seen.
    pub level: Level,
    /// Why it is not more.
    pub reason: String,
    /// Hook by hook.
    pub hooks: Vec<HookReport>,
}

impl Causes {
    /// Tries.
    pub fn find() -> Self {
        let events = Events::attach(&Options::default());
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
