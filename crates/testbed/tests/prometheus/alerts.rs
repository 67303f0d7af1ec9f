//! Alerts fire in a real Prometheus when their fault is caused, and end with it.

use std::fs;

use testbed::{AgentProcess, eventually, has};
use uffd::{RegisterMode, ScratchMapping, UffdFeatures, Userfaultfd};

use super::PrometheusServer;

/// Its page tables take 2 MiB: more than [`SOME_TABLES`].
const EMPTY: u64 = 1 << 30;

/// What a tracker may spend here, instead of the usual.
const MANY_TABLES: &str = "> 256 * 1024 * 1024";
const SOME_TABLES: &str = "> 1024 * 1024";

/// An alert that waits for minutes waits for seconds.
fn in_a_hurry(rules: &str) -> String {
    assert!(rules.contains(MANY_TABLES), "{rules}");
    let rules = rules.replace(MANY_TABLES, SOME_TABLES);
    let hasty = |line: &str| match line.trim_start().starts_with("for: ") {
        true => format!("{}s", line.trim_end_matches('m')),
        false => line.to_owned(),
    };
    rules.lines().map(hasty).collect::<Vec<_>>().join("\n")
}

impl PrometheusServer {
    /// Whether an alert fires now.
    fn fires(&self, alert: &str) -> bool {
        let labels = format!("{{alertname=\"{alert}\", alertstate=\"firing\"}}");
        self.has_answer(&format!("ALERTS{labels}"))
    }

    fn wait_until_fires(&self, alert: &str) {
        eventually(&format!("{alert} fires"), || {
            self.fires(alert).then_some(())
        });
        println!("{alert} fires");
    }

    fn wait_until_ends(&self, alert: &str) {
        eventually(&format!("{alert} ends"), || {
            (!self.fires(alert)).then_some(())
        });
        println!("{alert} has ended");
    }
}

/// Functions cannot be hooked while this lives.
struct FtraceOff;

impl FtraceOff {
    const SWITCH: &str = "/proc/sys/kernel/ftrace_enabled";

    fn begin() -> Self {
        fs::write(Self::SWITCH, "0").unwrap();
        Self
    }
}

impl Drop for FtraceOff {
    fn drop(&mut self) {
        // Who waits for the alerts to end is told.
        let _ = fs::write(Self::SWITCH, "1");
    }
}

#[test]
#[ignore = "switches hooks off, which only a guest can bear: cargo xtask test"]
fn alerts_fire_when_their_fault_is_caused() {
    if !has("prometheus") {
        return;
    }
    let mut agent =
        AgentProcess::start(&["--discover-interval", "200ms", "--require-level", "full"]);
    agent.wait_ready();
    let prometheus = PrometheusServer::start_with(&agent.address, in_a_hurry);
    eventually("it is scraped", || {
        (prometheus.query("up") == Some(1.0)).then_some(())
    });
    let caused = [
        "UffdwpPageTablesByTracker",
        "UffdwpHookSilent",
        "UffdwpAgentNotReady",
        "UffdwpAgentDown",
    ];
    for alert in caused {
        assert!(!prometheus.fires(alert), "{alert}");
    }
    // A tracker arms memory that nobody has touched, all at once when it is new.
    let scratch = ScratchMapping::anonymous(EMPTY).unwrap();
    let fd = Userfaultfd::open_user_mode_only().unwrap();
    fd.enable(UffdFeatures::WP_UNPOPULATED).unwrap();
    fd.register(&scratch.range(), RegisterMode::WP).unwrap();
    fd.arm(&scratch.range()).unwrap();
    prometheus.wait_until_fires("UffdwpPageTablesByTracker");
    let off = FtraceOff::begin();
    prometheus.wait_until_fires("UffdwpHookSilent");
    prometheus.wait_until_fires("UffdwpAgentNotReady");
    drop(off);
    prometheus.wait_until_ends("UffdwpHookSilent");
    prometheus.wait_until_ends("UffdwpAgentNotReady");
    agent.end(rustix::process::Signal::KILL);
    prometheus.wait_until_fires("UffdwpAgentDown");
}
