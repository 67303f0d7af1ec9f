//! The families of tracked processes.

use tracker::metrics::{ScrapeRows, encode};
use tracker::model::{SeriesDetail, SeriesLimits};

use crate::full::{self, VmaFill};

fn lines(detail: SeriesDetail) -> Vec<String> {
    let limits = SeriesLimits {
        detail,
        ..SeriesLimits::default()
    };
    let view = full::view(limits, 0, 0, VmaFill::Usual);
    let rows = ScrapeRows {
        tracking: Some(full::tracking()),
        ..full::rows(view, full::facts())
    };
    let body = encode(&rows).unwrap();
    let ours = body.lines().filter(|line| {
        let family = !line.starts_with('#') && !line.contains("vma=");
        family
            && [
                "track",
                "shared",
                "written",
                "unknown_pages",
                "vanished",
                "in_doubt",
                "rounds",
            ]
            .iter()
            .any(|name| line.contains(name))
    });
    ours.map(str::to_owned).collect()
}

/// What ended keeps its counters, as elsewhere, and has no gauges.
#[test]
fn a_process_that_ended_has_counters_and_no_gauges() {
    let expected = "\
uffdwp_written_pages_total{pid=\"1\",comm=\"redis-server\"} 1001
uffdwp_written_pages_total{pid=\"2\",comm=\"redis-server\"} 1002
uffdwp_unknown_pages_total{pid=\"1\",comm=\"redis-server\"} 20
uffdwp_unknown_pages_total{pid=\"2\",comm=\"redis-server\"} 20
uffdwp_vanished_pages_total{pid=\"1\",comm=\"redis-server\"} 0
uffdwp_vanished_pages_total{pid=\"2\",comm=\"redis-server\"} 0
uffdwp_in_doubt_pages_total{pid=\"1\",comm=\"redis-server\"} 0
uffdwp_in_doubt_pages_total{pid=\"2\",comm=\"redis-server\"} 0
uffdwp_rounds_total{pid=\"1\",comm=\"redis-server\"} 7
uffdwp_rounds_total{pid=\"2\",comm=\"redis-server\"} 7
uffdwp_tracked_pages{pid=\"1\",comm=\"redis-server\"} 4096
uffdwp_shared_pages{pid=\"1\",comm=\"redis-server\"} 256
uffdwp_untracked_pages{pid=\"1\",comm=\"redis-server\",reason=\"too_large\"} 512
uffdwp_untracked_pages{pid=\"1\",comm=\"redis-server\",reason=\"kernel\"} 6
uffdwp_track_mappings{pid=\"1\",comm=\"redis-server\"} 300
uffdwp_track_mappings_max{pid=\"1\",comm=\"redis-server\"} 65530
uffdwp_track_interval_seconds{pid=\"1\",comm=\"redis-server\"} 2.5
uffdwp_track_cpu_seconds_total{pid=\"1\",comm=\"redis-server\"} 0.125
uffdwp_track_cpu_seconds_total{pid=\"2\",comm=\"redis-server\"} 0.125
uffdwp_track_info{pid=\"1\",comm=\"redis-server\",strategy=\"markers\"} 1
uffdwp_node_written_pages_total 5000
uffdwp_node_track_cpu_seconds_total{work=\"round\"} 3
uffdwp_track_budget_ratio 0.01
uffdwp_track_processes{state=\"tracked\"} 1
uffdwp_track_processes{state=\"refused\"} 0
uffdwp_track_processes{state=\"over_max\"} 3
uffdwp_track_failures_total{reason=\"traced\"} 2";
    assert_eq!(lines(SeriesDetail::Vma).join("\n"), expected);
}

#[test]
fn with_the_detail_of_the_node_no_process_has_series() {
    let lines = lines(SeriesDetail::Node);
    assert!(
        lines.iter().all(|line| !line.contains("pid=")),
        "{lines:#?}"
    );
    assert!(lines.contains(&"uffdwp_node_written_pages_total 5000".to_owned()));
}
