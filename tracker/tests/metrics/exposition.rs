//! What must be in a scrape, must not be in it, and must stay valid whatever a process is called.

use std::collections::HashSet;
use std::time::Duration;

use proptest::prelude::*;
use tracker::metrics::{
    AgentFacts, AgentUsage, CONTENT_TYPE, CollectorRun, ScrapeRows, encode, families, label,
};
use tracker::model::{
    CollectionInput, CounterSnapshot, FoundVma, ProcessFacts, SeriesBooks, SeriesDetail,
    SeriesLimits, SeriesView, VmaDiscovery, VmaLabel,
};
use tracker::probes::CountAvailability;
use uffd::Backing;

use crate::full::{self, VmaFill};
use crate::text::{self, TextSample};

fn rows(view: SeriesView, facts: AgentFacts) -> ScrapeRows {
    ScrapeRows {
        usage: AgentUsage::default(),
        ..full::rows(view, facts)
    }
}

fn scrape(view: SeriesView, facts: AgentFacts) -> Vec<TextSample> {
    text::read(&encode(&rows(view, facts)).unwrap())
}

/// Everything there can be.
fn everything() -> String {
    let view = full::view(SeriesLimits::default(), 2, 2, VmaFill::Everything);
    let rows = ScrapeRows {
        tracking: Some(full::tracking()),
        ..full::rows(view, full::facts())
    };
    encode(&rows).unwrap()
}

fn names(samples: &[TextSample]) -> HashSet<&str> {
    samples.iter().map(|s| s.name.as_str()).collect()
}

#[test]
fn labels_are_those_described() {
    let samples = text::read(&everything());
    for family in families() {
        let named = samples.iter().filter(|s| s.name == family.name);
        for sample in named {
            let labels: HashSet<&str> = sample.labels.keys().map(String::as_str).collect();
            assert_eq!(
                labels,
                family.labels.iter().copied().collect(),
                "{}",
                family.name
            );
        }
    }
}

#[test]
fn every_family_is_there_when_everything_is_known() {
    let body = everything();
    for family in families() {
        assert!(
            body.contains(&format!("# TYPE {} ", family.name)),
            "{}",
            family.name
        );
    }
}

#[test]
fn what_is_not_counted_is_not_exported() {
    let mut facts = full::facts();
    facts.availability = CountAvailability::default();
    let samples = scrape(
        full::view(SeriesLimits::default(), 2, 2, VmaFill::Usual),
        facts,
    );
    let names = names(&samples);
    for absent in [
        "uffdwp_faults_total",
        "uffdwp_node_faults_total",
        "uffdwp_node_markers_total",
        "uffdwp_page_tables_freed_total",
        "uffdwp_process_fault_wait_seconds_total",
        "uffdwp_arm_seconds_count",
        "uffdwp_pages",
    ] {
        assert!(!names.contains(absent), "{absent}");
    }
    assert!(names.contains("uffdwp_vma_bytes"));
    assert!(names.contains("uffdwp_vma_info"));
}

#[test]
fn every_combination_of_the_node_is_there_from_the_start_at_zero() {
    let samples = scrape(
        SeriesBooks::new(SeriesLimits::default()).view(),
        full::facts(),
    );
    let count = |name: &str| samples.iter().filter(|s| s.name == name).count();
    assert_eq!(count("uffdwp_node_faults_total"), 6);
    assert_eq!(count("uffdwp_node_markers_total"), 3);
    assert_eq!(count("uffdwp_node_page_tables_allocated_total"), 24);
    let node = samples
        .iter()
        .filter(|s| s.name.starts_with("uffdwp_node_"));
    assert!(node.into_iter().all(|s| s.value == 0.0));
}

#[test]
fn details_bound_the_labels() {
    for (detail, pids, vmas) in [
        (SeriesDetail::Node, false, false),
        (SeriesDetail::Process, true, false),
        (SeriesDetail::Vma, true, true),
    ] {
        let limits = SeriesLimits {
            detail,
            ..SeriesLimits::default()
        };
        let samples = scrape(full::view(limits, 2, 2, VmaFill::Usual), full::facts());
        assert_eq!(samples.iter().any(|s| s.labels.contains_key("pid")), pids);
        let own = |s: &TextSample| s.labels.get("vma").is_some_and(|vma| vma != "other");
        assert_eq!(samples.iter().any(own), vmas);
        let outside = |s: &TextSample| s.labels.get("pid").is_some_and(|pid| pid == "other");
        assert_eq!(samples.iter().any(outside), pids);
    }
}

/// (pid, vma) is unique whatever names a VMA, and only who asks for addresses gets any.
#[test]
fn addresses_are_shown_only_where_asked_for() {
    for vma_label in [VmaLabel::Number, VmaLabel::Address] {
        let view = full::view(SeriesLimits::default(), 2, 2, VmaFill::Everything);
        let starts: Vec<_> = (view.processes.iter().flat_map(|process| &process.vmas))
            .flat_map(|vma| [vma.start, vma.end])
            .map(|address| format!("{address:#x}"))
            .collect();
        let rows = ScrapeRows {
            vma_label,
            ..full::rows(view, full::facts())
        };
        let text = encode(&rows).unwrap();
        let shown = starts.iter().filter(|start| text.contains(*start)).count();
        let expected = match vma_label {
            VmaLabel::Number => 0,
            VmaLabel::Address => starts.len(),
        };
        assert_eq!(shown, expected, "{vma_label:?}");
        let samples = text::read(&text);
        let info = samples.iter().filter(|s| s.name == "uffdwp_vma_info");
        let names: HashSet<_> = info.map(|s| (&s.labels["pid"], &s.labels["vma"])).collect();
        assert_eq!(names.len(), 4);
    }
}

#[test]
fn sums_over_the_rows_are_the_node() {
    let limits = SeriesLimits {
        max_processes: 3,
        max_vmas: 2,
        ..SeriesLimits::default()
    };
    let samples = scrape(full::view(limits, 5, 4, VmaFill::Everything), full::facts());
    let sum = |name: &str| -> f64 {
        let named = samples.iter().filter(|s| s.name == name);
        named.map(|s| s.value).sum()
    };
    for family in [
        "faults_total",
        "markers_total",
        "page_tables_allocated_total",
    ] {
        let rows = sum(&format!("uffdwp_{family}"));
        assert!(rows > 0.0);
        assert_eq!(rows, sum(&format!("uffdwp_node_{family}")), "{family}");
    }
    assert_eq!(sum("uffdwp_probe_events_total"), {
        let node = samples
            .iter()
            .filter(|s| s.name.starts_with("uffdwp_node_"));
        node.map(|s| s.value).sum::<f64>()
    });
}

#[test]
fn buckets_are_powers_of_four_microseconds() {
    let samples = scrape(
        full::view(SeriesLimits::default(), 1, 1, VmaFill::Usual),
        full::facts(),
    );
    let buckets: Vec<_> = (samples.iter())
        .filter(|s| s.name == "uffdwp_fault_wait_seconds_bucket")
        .map(|s| (s.labels["le"].as_str(), s.value))
        .collect();
    assert_eq!(buckets.len(), 14);
    assert_eq!(buckets[0], ("0.000001", 0.0));
    assert_eq!(buckets[3], ("0.000064", 40.0));
    assert_eq!(buckets[12], ("16.777216", 42.0));
    assert_eq!(buckets[13], ("+Inf", 43.0));
}

#[test]
fn a_series_that_is_there_twice_is_refused() {
    let mut facts = full::facts();
    let twice = facts.collectors[0];
    facts.collectors.push(CollectorRun {
        success: false,
        ..twice
    });
    let view = full::view(SeriesLimits::default(), 1, 1, VmaFill::Usual);
    let error = encode(&rows(view, facts)).unwrap_err().to_string();
    assert!(error.contains("is there twice"), "{error}");
}

#[test]
fn there_is_an_answer_before_the_first_collection() {
    let view = SeriesBooks::new(SeriesLimits::default()).view();
    let samples = text::read(&encode(&full::rows(view, full::facts())).unwrap());
    assert!(CONTENT_TYPE.starts_with("text/plain; version=0.0.4"));
    assert!(names(&samples).contains("process_resident_memory_bytes"));
}

/// A view with one VMA of a process that is called so.
fn called(comm: &[u8], name: &[u8], cgroup: &[u8]) -> SeriesView {
    let process = full::key(1);
    let mut discovery = VmaDiscovery {
        at: Duration::from_secs(1),
        ..VmaDiscovery::default()
    };
    discovery.vmas.push(FoundVma {
        process,
        comm: comm.to_vec(),
        start: 0x1000,
        end: 0x2000,
        backing: Backing::File,
        features: None,
        name: Some(name.to_vec()),
    });
    let facts = ProcessFacts {
        cgroup: Some(cgroup.to_vec()),
        page_table_bytes: None,
    };
    discovery.facts.insert(process, facts);
    let mut books = SeriesBooks::new(SeriesLimits::default());
    books.collect(&CollectionInput {
        snapshot: &CounterSnapshot::default(),
        discovery: Some(&discovery),
        scans: &[],
        now: Duration::from_secs(2),
    });
    books.view()
}

fn assert_called(comm: &[u8], name: &[u8], cgroup: &[u8]) {
    let samples = scrape(called(comm, name, cgroup), full::facts());
    let find = |family: &str| samples.iter().find(|s| s.name == family).unwrap();
    assert_eq!(find("uffdwp_vma_info").labels["name"], label::text(name));
    let process = find("uffdwp_process_info");
    assert_eq!(process.labels["comm"], label::text(comm));
    assert_eq!(process.labels["cgroup"], label::text(cgroup));
}

#[test]
fn names_with_quotes_newlines_backslashes_and_no_utf8_stay_valid() {
    assert_called(
        b"a\"b\\c\nd",
        b"/tmp/\xff\xfe\r\n{x=\"y\"} 1",
        b"/\\\"\x01\x7f",
    );
    assert_called(b"", b"", b"");
    assert_called(b"other", &[b'/'; 5000], &[0x80; 5000]);
}

/// Cut off at the front, a long path would still have to tell both.
#[test]
fn a_process_of_a_pod_is_told_with_its_container() {
    let id = "8f6a2f5b1d0c3e4f5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3";
    let uid = "cd74aaac_84f1_4c71_a6e5_0b1b8f1c7a5e";
    let pods = "kubelet-kubepods-besteffort";
    let cgroup = format!(
        "/kubelet.slice/kubelet-kubepods.slice/{pods}.slice/{pods}-pod{uid}.slice/cri-containerd-{id}.scope"
    );
    assert!(cgroup.len() > 200);
    for (cgroup, pod_uid, container_id) in [
        (cgroup.as_str(), uid.replace('_', "-").as_str(), id),
        ("/system.slice/redis.service", "", ""),
    ] {
        let samples = scrape(called(b"redis", b"", cgroup.as_bytes()), full::facts());
        let process = samples
            .iter()
            .find(|s| s.name == "uffdwp_process_info")
            .unwrap();
        assert_eq!(process.labels["pod_uid"], pod_uid);
        assert_eq!(process.labels["container_id"], container_id);
    }
}

proptest! {
    #[test]
    fn any_bytes_stay_valid(
        comm in prop::collection::vec(any::<u8>(), 0..16),
        name in prop::collection::vec(any::<u8>(), 0..400),
        cgroup in "\\PC{0,90}",
    ) {
        assert_called(&comm, &name, cgroup.as_bytes());
    }
}
