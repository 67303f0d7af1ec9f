//! Whether the agent does what it was asked to do.

use super::http::AgentReadiness;
use super::loops::AgentLoop;
use crate::probes::ProbeLevel;
use std::time::Duration;

/// What readiness depends on.
#[derive(Clone, Debug)]
pub struct ReadinessFacts {
    /// The level reached.
    pub level: ProbeLevel,
    /// Why it is not higher.
    pub level_reason: String,
    /// Least level at which it is ready.
    pub required: ProbeLevel,
    /// Whether a discovery is done and counted.
    pub complete: bool,
    /// A thread that ended while the agent runs.
    pub dead_thread: Option<String>,
    /// Why the last discovery failed, or saw nothing.
    pub discovery_failure: Option<String>,
    /// Why no pages can be counted.
    pub scan_failure: Option<String>,
    /// The loop that is overdue the longest, and for how long.
    pub latest_loop: (AgentLoop, Duration),
}

/// A loop that is overdue for longer stands still.
const OVERDUE: Duration = Duration::from_secs(60);

/// Decides, and says why.
pub fn readiness(facts: &ReadinessFacts) -> AgentReadiness {
    let (level, required) = (facts.level.as_str(), facts.required.as_str());
    let (ready, reason) = if let Some(thread) = &facts.dead_thread {
        (
            false,
            format!(
                "not ready: thread {thread} ended unexpectedly; \
                 restart the agent and report its log"
            ),
        )
    } else if facts.level < facts.required {
        let why = &facts.level_reason;
        (
            false,
            format!(
                "not ready: level {level}, but --require-level is {required}: {why}; \
                 `tracker check` tells each hook"
            ),
        )
    } else if facts.latest_loop.1 > OVERDUE {
        let (which, late) = facts.latest_loop;
        (
            false,
            format!(
                "not ready: the loop {} has stood still for {} s, so its numbers are old; \
                 /status tells what it waits for",
                which.as_str(),
                late.as_secs()
            ),
        )
    } else if let Some(failure) = facts
        .discovery_failure
        .as_ref()
        .or(facts.scan_failure.as_ref())
    {
        (false, format!("not ready: {failure}"))
    } else if !facts.complete {
        (
            false,
            "not ready: the first discovery and collection are under way".into(),
        )
    } else {
        (
            true,
            format!("ready: level {level}, {required} or more is required"),
        )
    };
    AgentReadiness { ready, reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> ReadinessFacts {
        ReadinessFacts {
            level: ProbeLevel::Partial,
            level_reason: "hook zap is absent".into(),
            required: ProbeLevel::Observe,
            complete: true,
            dead_thread: None,
            discovery_failure: None,
            scan_failure: None,
            latest_loop: (AgentLoop::Scan, Duration::from_secs(60)),
        }
    }

    fn refused(facts: &ReadinessFacts, word: &str) {
        let AgentReadiness { ready, reason } = readiness(facts);
        assert!(!ready && reason.contains(word), "{reason}");
    }

    #[test]
    fn ready_needs_everything() {
        assert!(readiness(&good()).ready);
        assert!(
            readiness(&ReadinessFacts {
                required: ProbeLevel::Partial,
                ..good()
            })
            .ready
        );
        refused(
            &ReadinessFacts {
                required: ProbeLevel::Full,
                ..good()
            },
            "hook zap is absent",
        );
        refused(
            &ReadinessFacts {
                complete: false,
                ..good()
            },
            "under way",
        );
        refused(
            &ReadinessFacts {
                dead_thread: Some("scan".into()),
                ..good()
            },
            "thread scan",
        );
        refused(
            &ReadinessFacts {
                discovery_failure: Some("no /proc".into()),
                ..good()
            },
            "no /proc",
        );
        refused(
            &ReadinessFacts {
                scan_failure: Some("no pages can be counted".into()),
                ..good()
            },
            "no pages can be counted",
        );
        refused(
            &ReadinessFacts {
                latest_loop: (AgentLoop::Scan, Duration::from_secs(61)),
                ..good()
            },
            "loop scan has stood still for 61 s",
        );
    }
}
