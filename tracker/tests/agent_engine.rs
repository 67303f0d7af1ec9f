//! The agent over counters and a discovery that a test makes up.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use serde_json::Value;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use testbed::{check_metrics, eventually, sum};
use tracker::agent::discovery::{
    DiscoveryError, DiscoveryOutcome, DiscoveryRoute, FallbackRoute, LookWatch, SmapsRoute, key,
};
use tracker::agent::http::AgentView;
use tracker::agent::http::ListenPlaces;
use tracker::agent::{AgentConfig, AgentPace, AgentProbes, MakeRoute, ProofResult, RunningAgent};
use tracker::model::{
    CounterSnapshot, CounterSource, FoundVma, MmSample, ProcessCounters, ProcessFacts, ProcessKey,
    SeriesLimits, VmaCounters, VmaLabel, VmaSample,
};
use tracker::probes::verdict::SilenceCause;
use tracker::probes::{
    CountAvailability, CountExactness, CountSignal, HOOKS, HookId, HookPlan, HookReport, HookState,
    HookVerdict, ProbeLevel, ProbeReport,
};
use tracker_ebpf::{FaultEntry, RecordState, WpMode};
use uffd::{Backing, KernelBehaviour};

const PID: u32 = 4_000_001;
const START: u64 = 0x7f00_0000_0000;
const LONG: Duration = Duration::from_secs(3600);

/// Counters as the probes would show them, and what was given back.
#[derive(Clone, Default)]
struct ScriptedCounters(Arc<Mutex<ScriptedRecords>>);

#[derive(Default)]
struct ScriptedRecords {
    counted: CounterSnapshot,
    released_vmas: Vec<u32>,
    released_mms: Vec<u32>,
}

impl CounterSource for ScriptedCounters {
    fn snapshot(&mut self) -> CounterSnapshot {
        self.0.lock().unwrap().counted.clone()
    }

    fn release(&mut self, vmas: &[u32], mms: &[u32]) {
        let mut state = self.0.lock().unwrap();
        state.counted.vmas.retain(|vma| !vmas.contains(&vma.id));
        state.counted.mms.retain(|mm| !mms.contains(&mm.id));
        state.released_vmas.extend(vmas);
        state.released_mms.extend(mms);
    }
}

/// Finds what the test sends; waits for it.
struct ScriptedRoute(Receiver<Result<DiscoveryOutcome, DiscoveryError>>);

impl DiscoveryRoute for ScriptedRoute {
    fn route(&self) -> &'static str {
        "scripted"
    }

    fn discover(
        &mut self,
        at: Duration,
        _: &LookWatch,
    ) -> Result<DiscoveryOutcome, DiscoveryError> {
        let Ok(next) = self.0.recv() else {
            return Err(iterator_error("the script has ended"));
        };
        next.map(|mut found| {
            assert!(found.processes != usize::MAX, "the script asks for a panic");
            found.discovery.at = at;
            found
        })
    }
}

fn iterator_error(why: &str) -> DiscoveryError {
    DiscoveryError::Iterator(io::Error::other(why).into())
}

struct ScriptedAgent {
    source: ScriptedCounters,
    script: Option<Sender<Result<DiscoveryOutcome, DiscoveryError>>>,
    /// Whether `do_wp_page` does not fire.
    silent: Arc<AtomicBool>,
    /// Whether the self-test fails itself.
    broken: Arc<AtomicBool>,
    view: Arc<dyn AgentView>,
    _running: RunningAgent,
}

fn start(required: ProbeLevel) -> ScriptedAgent {
    start_with(required, |scripted| Box::new(scripted))
}

const ASYNC_PTE: CountSignal = CountSignal::Fault(WpMode::Async, FaultEntry::Pte);

/// Level partial, or observe while `do_wp_page`, the only hook, is silent.
fn reported(silent: bool) -> ProbeReport {
    let hook = HOOKS.iter().find(|hook| hook.id == HookId::do_wp_page);
    let hook = hook.unwrap();
    let (program, function) = (&hook.programs[0], hook.functions[0]);
    let (level, state, verdict) = if silent {
        let verdict = HookVerdict::Silent {
            program,
            function,
            cause: SilenceCause::FtraceOff,
        };
        (ProbeLevel::Observe, HookState::Silent, verdict)
    } else {
        let verdict = HookVerdict::Attach {
            program,
            function,
            instead_of: Vec::new(),
        };
        (ProbeLevel::Partial, HookState::Firing, verdict)
    };
    let plan = HookPlan { hook, verdict };
    ProbeReport {
        level,
        reason: "without zap: a test".into(),
        hooks: vec![HookReport {
            plan,
            missed: None,
            state: Some(state),
        }],
        missing_capabilities: Vec::new(),
        advice: Vec::new(),
    }
}

/// An agent that discovers in a way made of the scripted one.
fn start_with(
    required: ProbeLevel,
    route: impl FnOnce(ScriptedRoute) -> Box<dyn DiscoveryRoute>,
) -> ScriptedAgent {
    let source = ScriptedCounters::default();
    let (script, scripted) = channel();
    let config = AgentConfig {
        web: None,
        listen: ListenPlaces::Bind(Vec::new()),
        telemetry_path: "/metrics".into(),
        vma_label: VmaLabel::default(),
        redact: false,
        allowed_hosts: Vec::new(),
        require_level: required,
        limits: SeriesLimits::default(),
        // Only scrapes collect; nothing is scanned.
        pace: AgentPace {
            collect: LONG,
            discover: Duration::from_millis(1),
            discover_budget: 0.02,
            self_test: Duration::from_millis(1),
            scan: LONG,
            budget: 0.0,
        },
        track: None,
    };
    let silent = Arc::new(AtomicBool::new(false));
    let proved = silent.clone();
    let broken = Arc::new(AtomicBool::new(false));
    let failed = broken.clone();
    let probes = AgentProbes {
        source: Box::new(source.clone()),
        discover: Some(once(route(ScriptedRoute(scripted)))),
        report: reported(false),
        availability: CountAvailability::all_exact(),
        diagnostics: None,
        prove: Box::new(move || {
            let silent = proved.load(Ordering::Acquire);
            let mut availability = CountAvailability::all_exact();
            if silent {
                availability.set(ASYNC_PTE, CountExactness::Absent);
            }
            Some(ProofResult {
                report: reported(silent),
                availability,
                failure: failed
                    .load(Ordering::Acquire)
                    .then(|| "no thread".to_owned()),
            })
        }),
        missed: Box::new(Vec::new),
    };
    let running = RunningAgent::start(config, KernelBehaviour::default(), probes, None).unwrap();
    ScriptedAgent {
        source,
        script: Some(script),
        silent,
        broken,
        view: running.view(),
        _running: running,
    }
}

/// The route of the first thread; none follows.
fn once(route: Box<dyn DiscoveryRoute>) -> MakeRoute {
    let mut route = Some(route);
    Box::new(move || route.take().unwrap())
}

impl Drop for ScriptedAgent {
    fn drop(&mut self) {
        // Ends the wait of the discovery, so that its thread can be joined.
        self.script.take();
    }
}

impl ScriptedAgent {
    fn metrics(&self) -> String {
        self.view.metrics().unwrap()
    }

    fn send(&self, found: Result<DiscoveryOutcome, DiscoveryError>) {
        self.script.as_ref().unwrap().send(found).unwrap();
    }

    fn set(&self, state: RecordState, faults: u64) {
        let mut counters = VmaCounters::default();
        counters.faults[WpMode::Async as usize][0] = faults;
        let mut snapshot = CounterSnapshot::default();
        snapshot.mms.push(mm(state));
        snapshot.vmas.push(VmaSample {
            id: 1,
            mm_id: 1,
            start: START,
            end: START + 4096,
            born_ns: 1,
            backing: Backing::Anon,
            mode: WpMode::Async,
            state,
            counters,
        });
        self.source.0.lock().unwrap().counted = snapshot;
    }

    fn faults(&self, label: &str) -> Option<f64> {
        sum(
            &self.metrics(),
            "uffdwp_faults_total",
            &[label, "mode=\"async\"", "entry=\"pte\""],
        )
    }
}

/// The process as BPF sees it: its start to the nanosecond.
fn mm(state: RecordState) -> MmSample {
    MmSample {
        id: 1,
        process: ProcessKey {
            pid: PID,
            start_boottime_ns: 50_004_567_891,
        },
        born_ns: 1,
        comm: *b"victim\0\0\0\0\0\0\0\0\0\0",
        state,
        tables: Default::default(),
        counters: ProcessCounters::default(),
    }
}

/// The process as `/proc` shows it: its start in ticks.
fn found() -> DiscoveryOutcome {
    let process = key(PID, 5_000);
    let mut found = DiscoveryOutcome {
        processes: 1,
        ..DiscoveryOutcome::default()
    };
    found.discovery.vmas.push(FoundVma {
        process,
        comm: b"victim".to_vec(),
        start: START,
        end: START + 4096,
        backing: Backing::Anon,
        features: Some(0x8000),
        name: None,
    });
    found
        .discovery
        .facts
        .insert(process, ProcessFacts::default());
    found
}

#[test]
fn a_scrape_shows_what_was_counted_until_then() {
    let agent = start(ProbeLevel::Observe);
    agent.send(Ok(found()));
    for faults in [7, 8, 1_000_000] {
        agent.set(RecordState::Live, faults);
        assert_eq!(agent.faults(&format!("pid=\"{PID}\"")), Some(faults as f64));
    }
    check_metrics(&agent.metrics());
}

#[test]
fn bpf_and_proc_mean_the_same_process() {
    let agent = start(ProbeLevel::Observe);
    agent.set(RecordState::Live, 5);
    agent.send(Ok(found()));
    let metrics = eventually("discovery has counted", || {
        let metrics = agent.metrics();
        sum(&metrics, "uffdwp_vma_info", &["features=\"0x8000\""])?;
        Some(metrics)
    });
    let own = |family: &str| {
        let is_own = |line: &&str| line.starts_with(family) && line.contains(&PID.to_string());
        metrics.lines().filter(is_own).count()
    };
    assert_eq!(own("uffdwp_vma_info{"), 1, "{metrics}");
    assert_eq!(own("uffdwp_process_info{"), 1, "{metrics}");
}

#[test]
fn an_ended_record_is_given_back_once_and_stays_in_the_nodes_total() {
    let agent = start(ProbeLevel::Observe);
    agent.set(RecordState::Live, 5);
    agent.metrics();
    agent.set(RecordState::Ended, 9);
    let total = || {
        sum(
            &agent.metrics(),
            "uffdwp_node_faults_total",
            &["mode=\"async\"", "entry=\"pte\""],
        )
    };
    for _ in 0..3 {
        assert_eq!(total(), Some(9.0));
    }
    let state = agent.source.0.lock().unwrap();
    assert_eq!(
        (
            state.released_vmas.as_slice(),
            state.released_mms.as_slice()
        ),
        ([1].as_slice(), [1].as_slice())
    );
}

#[test]
fn readiness_waits_for_the_first_discovery_and_tells_its_failure() {
    let agent = start(ProbeLevel::Observe);
    let reason = || agent.view.readiness().reason;
    assert!(reason().contains("under way"), "{}", reason());
    agent.send(Err(DiscoveryError::ListProcesses(io::Error::other("gone"))));
    eventually("the failure is told", || {
        reason().contains("cannot list /proc").then_some(())
    });
    let success = sum(
        &agent.metrics(),
        "uffdwp_scrape_collector_success",
        &["discovery"],
    );
    assert_eq!(success, Some(0.0));
    agent.send(Ok(found()));
    eventually("it is ready", || agent.view.readiness().ready.then_some(()));
}

#[test]
fn a_route_that_fails_is_replaced_by_smaps_and_told() {
    let agent = start_with(ProbeLevel::Observe, |scripted| {
        let smaps = SmapsRoute::default();
        Box::new(FallbackRoute::new(Box::new(scripted), Box::new(smaps)))
    });
    let route = |expected: &str| {
        eventually("the route is told", || {
            let state = agent.view.status()["discovery"].take();
            (state["route"] == expected).then_some(state)
        })
    };
    agent.send(Err(iterator_error("it is gone")));
    let state = route("smaps");
    assert_eq!(
        state["fallen_back"],
        iterator_error("it is gone").to_string()
    );
    // Found through smaps: at least ourselves.
    assert!(state["processes"].as_u64().unwrap() > 0, "{state}");
    eventually("it is ready", || agent.view.readiness().ready.then_some(()));

    agent.send(Ok(found()));
    assert_eq!(route("scripted")["fallen_back"], Value::Null);
}

#[test]
fn a_level_that_is_too_low_is_never_ready() {
    let agent = start(ProbeLevel::Full);
    agent.send(Ok(found()));
    eventually("discovery has counted", || {
        sum(&agent.metrics(), "uffdwp_vma_info", &["victim"]).or(agent.faults("victim"));
        (agent.view.status()["discovery"]["vmas"] == 1).then_some(())
    });
    let readiness = agent.view.readiness();
    assert!(
        !readiness.ready && readiness.reason.contains("without zap"),
        "{}",
        readiness.reason
    );
}

#[test]
fn a_thread_that_dies_shows() {
    let agent = start(ProbeLevel::Observe);
    agent.send(Ok(DiscoveryOutcome {
        processes: usize::MAX,
        ..DiscoveryOutcome::default()
    }));
    eventually("the dead thread is told", || {
        agent
            .view
            .readiness()
            .reason
            .contains("thread discover")
            .then_some(())
    });
}

#[test]
fn a_scrape_does_not_wait_for_discovery() {
    let agent = start(ProbeLevel::Observe);
    let begin = Instant::now();
    for _ in 0..10 {
        agent.metrics();
        agent.view.status();
    }
    assert!(
        begin.elapsed() < Duration::from_secs(5),
        "{:?}",
        begin.elapsed()
    );
}

#[test]
fn a_hook_that_falls_silent_takes_readiness_and_its_counts_with_it_until_it_fires_again() {
    let agent = start(ProbeLevel::Partial);
    agent.send(Ok(found()));
    agent.set(RecordState::Live, 5);
    let ready = |wanted| {
        eventually("readiness", || {
            (agent.view.readiness().ready == wanted).then_some(())
        });
    };
    ready(true);
    let firing = |metrics: &str| sum(metrics, "uffdwp_probe_firing", &["hook=\"do_wp_page\""]);
    let counted = |metrics: &str| {
        let labels = ["mode=\"async\"", "entry=\"pte\""];
        sum(metrics, "uffdwp_node_faults_total", &labels)
    };
    eventually("5 faults", || {
        (counted(&agent.metrics()) == Some(5.0)).then_some(())
    });
    for silent in [true, false, true, false] {
        agent.silent.store(silent, Ordering::Release);
        ready(!silent);
        let metrics = agent.metrics();
        check_metrics(&metrics);
        assert_eq!(firing(&metrics), Some(f64::from(u8::from(!silent))));
        assert_eq!(counted(&metrics), (!silent).then_some(5.0), "{metrics}");
        let status = agent.view.status();
        let state = if silent { "silent" } else { "firing" };
        assert_eq!(status["hooks"][0]["state"], state, "{status}");
    }
    // A self-test that fails itself makes nothing fire.
    agent.silent.store(true, Ordering::Release);
    ready(false);
    agent.broken.store(true, Ordering::Release);
    let tested = ["collector=\"self_test\""];
    let age = |metrics: &str| sum(metrics, "uffdwp_self_test_timestamp_seconds", &[]);
    std::thread::sleep(Duration::from_millis(50));
    let before = agent.metrics();
    agent.silent.store(false, Ordering::Release);
    std::thread::sleep(Duration::from_millis(50));
    let after = agent.metrics();
    assert_eq!(firing(&after), Some(0.0));
    let success = sum(&after, "uffdwp_scrape_collector_success", &tested);
    assert_eq!((success, age(&after)), (Some(0.0), age(&before)));
    ready(false);
    agent.broken.store(false, Ordering::Release);
    ready(true);
    agent.silent.store(true, Ordering::Release);
    ready(false);
    let status = agent.view.status();
    let reason = status["hooks"][0]["reason"].as_str().unwrap();
    assert!(
        reason.contains("sysctl kernel.ftrace_enabled=1"),
        "{reason}"
    );
}
