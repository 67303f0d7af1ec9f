//! What can be counted here and in which families it shows: part of `tracker check` and `/status`.

use serde::Serialize;

use super::catalog::families;
use crate::probes::{CountAvailability, CountExactness, CountSignal};

/// One thing that is counted.
#[derive(Clone, Debug, Serialize)]
pub struct CountReport {
    /// The metric families that show it.
    pub families: Vec<&'static str>,
    /// Which part of them.
    pub part: String,
    /// `exact`, `estimated` or `absent`.
    pub exactness: &'static str,
    /// Why it is estimated.
    pub reason: Option<String>,
}

/// How well each signal is counted, in the order of the families.
#[must_use]
pub fn counts(availability: &CountAvailability) -> Vec<CountReport> {
    let report = |signal: CountSignal| {
        let (exactness, reason) = match availability.get(signal) {
            CountExactness::Exact => ("exact", None),
            CountExactness::Estimated(reason) => ("estimated", Some(reason.clone())),
            CountExactness::Absent => ("absent", None),
        };
        CountReport {
            families: showing(signal),
            part: signal.to_string(),
            exactness,
            reason,
        }
    };
    CountSignal::all().map(report).collect()
}

/// The families that show a signal, the plainest name first.
fn showing(signal: CountSignal) -> Vec<&'static str> {
    let showing = families().filter(|family| family.signals.contains(&signal));
    let mut names: Vec<_> = showing.map(|family| family.name).collect();
    names.sort_by_key(|name| name.len());
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracker_ebpf::{MeasuredTime, TableLevel};

    #[test]
    fn every_signal_shows_in_a_family() {
        assert!(CountSignal::all().all(|signal| !showing(signal).is_empty()));
    }

    #[test]
    fn the_family_of_the_most_detail_or_the_plainest_name_comes_first() {
        let tables = showing(CountSignal::TableAllocated(TableLevel::Pte));
        let node = "uffdwp_node_page_tables_allocated_total";
        let process = "uffdwp_process_page_tables_allocated_total";
        assert_eq!(
            tables,
            ["uffdwp_page_tables_allocated_total", node, process]
        );
        let process = "uffdwp_process_fault_wait_seconds_total";
        let wait = showing(CountSignal::Time(MeasuredTime::FaultWait));
        assert_eq!(wait, ["uffdwp_fault_wait_seconds", process]);
    }
}
