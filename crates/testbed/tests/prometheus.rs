//! A real Prometheus with the scrape config in `deploy/` scrapes the agent while the example
//! workload runs, and PromQL answers with the numbers that the workload knows.
//!
//! At level observe these are pages; with probes also faults. The test runs on a host and, with
//! `prometheus` copied into it, in a guest.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

#[path = "prometheus/alerts.rs"]
mod alerts;
#[path = "prometheus/dashboards.rs"]
mod dashboards;

use serde_json::Value;
use std::net::TcpListener;
use std::process::{Command, Stdio};
use testbed::workload::{ExpectedSeries, HeldRow};
use testbed::{AgentProcess, KilledChild, check_metrics, eventually, get, has};

const CONFIG: &str = include_str!("../../../deploy/prometheus.yml");
/// The files that the config names.
const RULES: [(&str, &str); 2] = [
    (
        "recording.yml",
        include_str!("../../../deploy/rules/recording.yml"),
    ),
    (
        "alerts.yml",
        include_str!("../../../deploy/rules/alerts.yml"),
    ),
];
const PATTERNS: &str = include_str!("../../../docs/patterns.md");
const README: &str = include_str!("../../../README.md");

struct PrometheusServer {
    address: String,
    _process: KilledChild,
    _directory: tempfile::TempDir,
}

impl PrometheusServer {
    /// Starts a server with the config in `deploy/`, but pointed at `target` and in a hurry.
    fn start(target: &str) -> Self {
        Self::start_with(target, str::to_owned)
    }

    /// The same, with what `change` makes of its rules.
    fn start_with(target: &str, change: impl Fn(&str) -> String) -> Self {
        let directory = tempfile::tempdir().unwrap();
        // An interval is also the time that a scrape may take; an emulated machine needs more.
        let interval = if std::env::var_os("TRACKER_VM").is_some() {
            "8s"
        } else {
            "1s"
        };
        let config = CONFIG
            .replace("127.0.0.1:19943", target)
            .replace("15s", interval);
        assert!(
            config.contains(target) && config.contains(interval),
            "{config}"
        );
        std::fs::write(directory.path().join("prometheus.yml"), config).unwrap();
        let rules = directory.path().join("rules");
        std::fs::create_dir(&rules).unwrap();
        for (file, text) in RULES {
            let text = if file == "alerts.yml" {
                change(text)
            } else {
                text.to_owned()
            };
            std::fs::write(rules.join(file), text).unwrap();
        }
        let address = format!("127.0.0.1:{}", free_port());
        let mut command = Command::new("prometheus");
        command
            .arg("--config.file=prometheus.yml")
            .arg("--storage.tsdb.path=data")
            .arg(format!("--web.listen-address={address}"))
            .current_dir(directory.path())
            .stderr(Stdio::null());
        let process = KilledChild(command.spawn().unwrap());
        let prometheus = Self {
            address,
            _process: process,
            _directory: directory,
        };
        eventually("prometheus is ready", || {
            std::net::TcpStream::connect(&prometheus.address).ok()?;
            (get(&prometheus.address, "/-/ready").0 == 200).then_some(())
        });
        prometheus
    }

    /// The series that a query yields; fails unless the server takes it.
    fn ask(&self, query: &str) -> Vec<Value> {
        let path = format!("/api/v1/query?query={}", percent_encoded(query));
        let (code, body) = get(&self.address, &path);
        assert_eq!(code, 200, "{query}: {body}");
        let mut answer: Value = serde_json::from_str(&body).unwrap();
        match answer["data"]["result"].take() {
            Value::Array(series) => series,
            other => panic!("{query}: {other}"),
        }
    }

    /// Whether a query yields anything.
    fn has_answer(&self, query: &str) -> bool {
        !self.ask(query).is_empty()
    }

    /// The value of the one series that a query yields; `None` if it yields none.
    fn query(&self, query: &str) -> Option<f64> {
        let result = self.ask(query);
        assert!(result.len() <= 1, "{query}: {result:?}");
        result.first()?["value"][1].as_str()?.parse().ok()
    }

    /// What the server says of its rules: name, health, and the error of the last evaluation.
    fn rules(&self) -> Vec<(String, String, String)> {
        let (code, body) = get(&self.address, "/api/v1/rules");
        assert_eq!(code, 200, "{body}");
        let answer: Value = serde_json::from_str(&body).unwrap();
        let groups = answer["data"]["groups"].as_array().unwrap();
        let rules = groups
            .iter()
            .flat_map(|group| group["rules"].as_array().unwrap());
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        rules
            .map(|rule| (&rule["name"], &rule["health"], &rule["lastError"]))
            .map(|(name, health, error)| (text(name), text(health), text(error)))
            .collect()
    }

    /// Waits until a series has the expected value.
    fn wait_for(&self, expected: &ExpectedSeries) {
        let query = expected.selector();
        let mut last = None;
        eventually(&format!("{query} is {}", expected.value), || {
            let value = self.query(&query);
            if value != last {
                eprintln!("{query} = {value:?}");
                last = value;
            }
            (value == Some(expected.value)).then_some(())
        });
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

fn percent_encoded(text: &str) -> String {
    let encode = |b: u8| match b {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' => (b as char).to_string(),
        _ => format!("%{b:02X}"),
    };
    text.bytes().map(encode).collect()
}

/// The queries of a page.
fn promql(page: &str) -> impl Iterator<Item = &str> {
    let blocks = page.split("```promql\n").skip(1);
    blocks.map(|block| block.split("```").next().unwrap())
}

/// A row of each mode, and one that leaves pages armed.
const ROWS: [&str; 3] = [
    "anon-present-sync",
    "anon-present-async",
    "shmem-marker-read-sync",
];

#[test]
fn promql_answers_with_the_numbers_the_workload_knows() {
    if !has("prometheus") {
        return;
    }
    let agent = AgentProcess::start(&["--discover-interval", "200ms", "--scan-interval", "200ms"]);
    agent.wait_ready();
    let prometheus = PrometheusServer::start(&agent.address);
    // All of them hold their memory until the end.
    let ran: Vec<_> = ROWS.iter().filter_map(|row| HeldRow::run(row)).collect();
    let observe = agent.status()["level"]["level"] == "observe";
    let asked: &[_] = if observe {
        &["uffdwp_pages"]
    } else {
        &["uffdwp_faults_total", "uffdwp_pages"]
    };
    let counted = |e: &&ExpectedSeries| asked.contains(&e.family.as_str());
    let expected: Vec<_> = ran
        .iter()
        .flat_map(|row| &row.expected)
        .filter(counted)
        .collect();
    let sure = |e: &&&ExpectedSeries| e.family == asked[0] && e.value > 0.0;
    assert!(expected.iter().any(|e| sure(&e)), "{expected:?}");
    for series in expected {
        prometheus.wait_for(series);
    }
    assert_eq!(prometheus.query("up"), Some(1.0));
    check_metrics(&agent.metrics());
    assert_eq!(promql(README).count(), 5);
    for query in promql(PATTERNS).chain(promql(README)) {
        // It may yield nothing here.
        prometheus.ask(query);
    }
    let evaluated = || {
        let rules = prometheus.rules();
        (!rules.is_empty() && rules.iter().all(|rule| rule.1 != "unknown")).then_some(rules)
    };
    let rules = eventually("each rule is evaluated", evaluated);
    assert!(rules.iter().all(|rule| rule.1 == "ok"), "{rules:?}");
}
