//! Each panel of the dashboards in `deploy/grafana/` has an answer where the agent exports what it
//! asks for.

use serde_json::Value;
use testbed::script::{ANON, ScriptProcess};
use testbed::{AgentProcess, eventually, has};

use super::PrometheusServer;

const DASHBOARDS: [&str; 2] = [
    include_str!("../../../../deploy/grafana/node.json"),
    include_str!("../../../../deploy/grafana/process.json"),
];

/// What Grafana calls panels that show nothing themselves.
const HEADLINE: &str = "row";

/// A query of a panel, its variables filled in.
struct PanelQuery {
    panel: String,
    query: String,
}

fn queries(pid: u32, instance: &str) -> Vec<PanelQuery> {
    let boards = DASHBOARDS.map(|text| serde_json::from_str::<Value>(text).unwrap());
    let mut queries = Vec::new();
    for board in &boards {
        for panel in board["panels"].as_array().unwrap() {
            if panel["type"] == HEADLINE {
                continue;
            }
            let title = panel["title"].as_str().unwrap();
            for target in panel["targets"].as_array().unwrap() {
                let query = target["expr"].as_str().unwrap();
                queries.push(PanelQuery {
                    panel: format!("{}: {title}", board["title"]),
                    query: query
                        .replace("$job", "tracker")
                        .replace("$instance", instance)
                        .replace("$pid", &pid.to_string())
                        .replace("$__rate_interval", "1m"),
                });
            }
        }
    }
    queries
}

/// The series that a query selects: name, and labels by equality.
fn selectors(query: &str) -> Vec<(&str, Vec<&str>)> {
    let mut found = Vec::new();
    for (at, _) in query.match_indices('{') {
        let name = query[..at]
            .rsplit(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
            .next();
        let labels = query[at + 1..].split('}').next().unwrap();
        let labels = labels.split(", ").filter(|label| {
            let own = !label.starts_with("job") && !label.starts_with("instance");
            own && !label.contains("=~") && label.contains('=')
        });
        found.push((name.unwrap(), labels.collect()));
    }
    found
}

/// Whether all that a query selects is there.
fn is_exported(query: &str, exposition: &str) -> bool {
    selectors(query).iter().all(|(name, labels)| {
        let of_prometheus = !name.starts_with("uffdwp_") && !name.starts_with("process_");
        let has = |line: &str| {
            let rest = line.strip_prefix(name);
            rest.is_some_and(|rest| rest.starts_with(['{', ' ']))
                && labels.iter().all(|label| line.contains(label))
        };
        of_prometheus || exposition.lines().any(has)
    })
}

#[test]
fn each_panel_of_the_dashboards_has_an_answer() {
    if !has("prometheus") {
        return;
    }
    let mut script = ScriptProcess::start();
    script.map(ANON, 64);
    let pid = script.pid();
    let selector = format!("pid:{pid}");
    let quick = ["--discover-interval", "200ms", "--scan-interval", "200ms"];
    let explain = ["--explain", &selector, "--track-interval", "500ms"];
    let agent = AgentProcess::start(&[&quick[..], &explain].concat());
    agent.wait_ready();
    let prometheus = PrometheusServer::start(&agent.address);
    let queries = queries(pid, &agent.address);
    assert!(queries.len() > 50, "{}", queries.len());
    let (answered, other) = eventually("each panel has an answer", || {
        // The same value again and again: reported, and unchanged.
        script.say("store 0 1 1 0-63");
        let exposition = agent.metrics();
        if !exposition.contains("verdict=\"unchanged\"") {
            return None;
        }
        let all = queries.iter();
        let (answered, other): (Vec<_>, Vec<_>) =
            all.partition(|it| prometheus.has_answer(&it.query));
        let exported = |it: &&&PanelQuery| is_exported(&it.query, &exposition);
        if let Some(late) = other.iter().find(exported) {
            eprintln!("no answer yet: {}", late.panel);
            return None;
        }
        Some((answered.len(), other))
    });
    let other: Vec<_> = other.iter().map(|it| &it.panel).collect();
    eprintln!("{answered} queries answered; not exported here: {other:?}");
    assert!(answered > 25, "{answered}");
}

#[test]
fn a_selector_is_taken_apart() {
    let query = r#"sum(rate(a_total{job=~"x", pid="1"}[5m])) / on (pid) b{instance="c"}"#;
    let expected = [("a_total", vec!["pid=\"1\""]), ("b", vec![])];
    assert_eq!(selectors(query), expected);
}
