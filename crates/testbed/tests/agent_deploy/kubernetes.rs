//! The files in `deploy/kubernetes/`: they fit each other, the agent and its unit.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use testbed::{AgentProcess, has};

use super::{deploy, setting};

fn read(file: &Path) -> Value {
    let text = fs::read_to_string(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    serde_saphyr::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", file.display()))
}

fn base(file: &str) -> Value {
    read(&deploy("kubernetes/base").join(file))
}

fn texts(list: &Value) -> BTreeSet<&str> {
    let list = list.as_array().unwrap().iter();
    list.map(|one| one.as_str().unwrap()).collect()
}

/// The one container of the DaemonSet.
fn container() -> Value {
    let mut set = base("daemonset.yaml");
    let containers = set["spec"]["template"]["spec"]["containers"].take();
    assert_eq!(containers.as_array().unwrap().len(), 1);
    containers[0].clone()
}

#[test]
fn each_file_is_named_and_each_named_file_is_there() {
    let directory = deploy("kubernetes/base");
    let kustomization = base("kustomization.yaml");
    let mut named = texts(&kustomization["resources"]);
    named.insert("kustomization.yaml");
    let there: BTreeSet<_> = fs::read_dir(&directory)
        .unwrap()
        .map(|e| e.unwrap())
        .collect::<Vec<_>>()
        .iter()
        .map(|e| e.file_name().into_string().unwrap())
        .collect();
    assert_eq!(named, there.iter().map(String::as_str).collect());
    assert_eq!(kustomization["images"][0]["name"], container()["image"]);

    let overlay = deploy("kubernetes/overlays/tracking");
    let kustomization = read(&overlay.join("kustomization.yaml"));
    for resource in texts(&kustomization["resources"]) {
        assert!(
            overlay.join(resource).join("kustomization.yaml").is_file(),
            "{resource}"
        );
    }
    let patch = kustomization["patches"][0]["path"].as_str().unwrap();
    let patch = read(&overlay.join(patch));
    let set = base("daemonset.yaml");
    for key in ["/apiVersion", "/kind", "/metadata/name"] {
        assert_eq!(patch.pointer(key), set.pointer(key), "{key}");
    }
    let patched = &patch["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(patched["name"], container()["name"]);
}

#[test]
fn the_container_has_the_capabilities_of_the_unit() {
    let context = &container()["securityContext"];
    let unit = setting("AmbientCapabilities").split(' ');
    let unit: BTreeSet<_> = unit.map(|one| one.trim_start_matches("CAP_")).collect();
    assert_eq!(texts(&context["capabilities"]["add"]), unit);
    assert_eq!(context["capabilities"]["drop"], json!(["ALL"]));
    assert_eq!(
        base("daemonset.yaml")["spec"]["template"]["spec"]["hostPID"],
        true
    );
}

#[test]
fn who_selects_the_pods_selects_these() {
    let set = base("daemonset.yaml");
    let labels = &set["spec"]["template"]["metadata"]["labels"];
    let (policy, monitor) = (base("networkpolicy.yaml"), base("podmonitor.yaml"));
    for selected in [
        &set["spec"]["selector"],
        &policy["spec"]["podSelector"],
        &monitor["spec"]["selector"],
    ] {
        assert_eq!(&selected["matchLabels"], labels);
    }
    let port = &container()["ports"][0]["name"];
    assert_eq!(&policy["spec"]["ingress"][0]["ports"][0]["port"], port);
    assert_eq!(&monitor["spec"]["podMetricsEndpoints"][0]["port"], port);
}

/// With the variables of the container, an agent answers all that probes and Prometheus ask.
#[test]
fn the_agent_answers_what_the_container_is_asked() {
    let container = container();
    let ports = container["ports"][0]["containerPort"].as_u64().unwrap();
    let mut command = Command::new(testbed::program("tracker"));
    command.args(["agent", "--discover-interval", "100ms"]);
    for variable in container["env"].as_array().unwrap() {
        let text = |key: &str| variable[key].as_str().unwrap();
        let value = match text("name") {
            "TRACKER_WEB_LISTEN_ADDRESS" => {
                assert_eq!(text("value"), format!(":{ports}"));
                "127.0.0.1:0"
            }
            _ => text("value"),
        };
        command.env(text("name"), value);
    }
    let agent = AgentProcess::spawn(command);
    agent.wait_ready();
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        let path = container[probe]["httpGet"]["path"].as_str().unwrap();
        assert_eq!(agent.get(path).0, 200, "{probe}");
    }
    let endpoint = &base("podmonitor.yaml")["spec"]["podMetricsEndpoints"][0];
    assert_eq!(agent.get(endpoint["path"].as_str().unwrap()).0, 200);
}

/// What `kubectl kustomize` makes of a directory, by kind.
fn built(directory: &str) -> BTreeMap<String, Value> {
    let mut command = Command::new("kubectl");
    let output = command
        .arg("kustomize")
        .arg(deploy(directory))
        .output()
        .unwrap();
    let trouble = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{directory}: {trouble}");
    let text = String::from_utf8(output.stdout).unwrap();
    let objects = text.split("\n---\n").map(|object| {
        let object: Value = serde_saphyr::from_str(object).unwrap();
        (object["kind"].as_str().unwrap().to_owned(), object)
    });
    objects.collect()
}

#[test]
fn kustomize_builds_the_base_and_the_overlay_changes_what_it_says() {
    if !has("kubectl") {
        return eprintln!("skipped: kubectl is not installed");
    }
    let base = built("kubernetes/base");
    let mut tracking = built("kubernetes/overlays/tracking");
    let kinds: Vec<_> = base.keys().map(String::as_str).collect();
    let all = [
        "DaemonSet",
        "Namespace",
        "NetworkPolicy",
        "PodMonitor",
        "ServiceAccount",
    ];
    assert_eq!(kinds, all);
    let container = |object: &Value| {
        let containers = &object["spec"]["template"]["spec"]["containers"];
        containers[0].clone()
    };
    let image = container(&base["DaemonSet"])["image"].to_string();
    assert!(image.contains('/') && image.contains(':'), "{image}");
    let more = container(&tracking["DaemonSet"]);
    let tracks = |one: &Value| one["name"] == "TRACKER_TRACK";
    assert!(more["env"].as_array().unwrap().iter().any(tracks), "{more}");
    // Nothing else: with what it says put back it is the base.
    let mut undone = tracking.remove("DaemonSet").unwrap();
    let of_base = container(&base["DaemonSet"]);
    let changed = &mut undone["spec"]["template"]["spec"]["containers"][0];
    for key in ["env", "resources"] {
        changed[key] = of_base[key].clone();
    }
    assert_eq!(undone, base["DaemonSet"]);
    for (kind, object) in tracking {
        assert_eq!(object, base[&kind]);
    }
}
