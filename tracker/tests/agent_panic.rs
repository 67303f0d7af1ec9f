//! A panic of any thread ends the agent with its reason. In a file of its own: it watches panics of
//! the whole process.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::time::Duration;
use tracker::agent::discovery::{DiscoveryError, DiscoveryOutcome, DiscoveryRoute, LookWatch};
use tracker::agent::http::ListenPlaces;
use tracker::agent::{AgentConfig, AgentError, AgentPace, AgentProbes};
use tracker::model::{SeriesLimits, VmaLabel};
use tracker::probes::{HookWishes, MapSizes, ProbeLevel, ProbeOptions};

struct PanickingRoute;

impl DiscoveryRoute for PanickingRoute {
    fn route(&self) -> &'static str {
        "panicking"
    }

    fn discover(&mut self, _: Duration, _: &LookWatch) -> Result<DiscoveryOutcome, DiscoveryError> {
        panic!("the route is lost");
    }
}

fn probes() -> AgentProbes {
    let options = ProbeOptions {
        wishes: HookWishes::default(),
        sizes: MapSizes::new(64, 64, 1),
        object: Vec::new().into(),
    };
    AgentProbes {
        discover: Some(Box::new(|| Box::new(PanickingRoute))),
        ..tracker::probes::attach(&options).into()
    }
}

#[test]
fn a_panic_of_a_thread_ends_the_agent_with_its_reason() {
    let config = AgentConfig {
        web: None,
        listen: ListenPlaces::Bind(vec![vec!["127.0.0.1:0".to_owned()]]),
        telemetry_path: "/metrics".to_owned(),
        vma_label: VmaLabel::default(),
        redact: false,
        allowed_hosts: Vec::new(),
        require_level: ProbeLevel::Observe,
        limits: SeriesLimits::default(),
        pace: AgentPace {
            collect: Duration::from_secs(5),
            discover: Duration::from_secs(5),
            discover_budget: 0.02,
            self_test: Duration::from_secs(60),
            scan: Duration::from_secs(10),
            budget: 0.01,
        },
        track: None,
    };
    let ended = tracker::agent::run(config, || Ok(probes()));
    let Err(AgentError::Panicked(why)) = ended else {
        panic!("{ended:?}");
    };
    assert!(why.contains("thread discover panicked at"), "{why}");
    assert!(why.contains("the route is lost"), "{why}");
}
