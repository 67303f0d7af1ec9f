//! What is tracked, as rows for `/metrics` and as JSON for `/status`.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::ProcessTracking;
use super::find::SelectedProcess;
use super::ledger::TrackingWork;
use super::refusal::RefusalReason;
use crate::metrics::{
    TrackedReading, TrackedRow, TrackedValue, TrackingRows, label, tracked_fields,
};

/// How many of those that refuse or are left out are named; the rest is only counted.
const NAMED: usize = 64;

impl ProcessTracking {
    /// What `/metrics` shows of tracking.
    pub fn rows(&self) -> TrackingRows {
        let mut ledger = self.ledger();
        ledger.forget(self.now(), self.config.linger);
        let totals = ledger.totals();
        let tracked = ledger.rows().filter(|row| row.is_live()).count();
        let reasons = RefusalReason::ALL.map(RefusalReason::as_str).into_iter();
        let work = TrackingWork::ALL.map(TrackingWork::as_str).into_iter();
        TrackingRows {
            budget: self.config.budget,
            processes: ledger.rows().cloned().collect(),
            states: vec![
                ("tracked", tracked),
                ("refused", ledger.refusals().len()),
                ("over_max", ledger.over().len()),
            ],
            failures: reasons.zip(totals.failures).collect(),
            written: totals.written,
            cpu: work.zip(totals.cpu).collect(),
        }
    }

    /// Who is selected and not tracked, in words: as many as `/status` names.
    pub fn refused(&self) -> Vec<String> {
        let ledger = self.ledger();
        let refusals = ledger.refusals().iter().map(|(key, refusal)| {
            let comm = label::text(&refusal.comm);
            format!("{} ({comm}): {}", key.pid, refusal.message)
        });
        let over = ledger.over().iter().map(|process| {
            let comm = label::text(&process.comm);
            format!("{} ({comm}): --track-max is reached", process.key.pid)
        });
        refusals.chain(over).take(NAMED).collect()
    }

    /// What `/status` shows of tracking.
    pub fn status(&self) -> Value {
        let ledger = self.ledger();
        let now = self.now();
        let cpu: Duration = ledger.totals().cpu.iter().sum();
        let (strategy, reason, error) = match &self.means {
            Ok(means) => (Some(means.strategy), Some(&means.reason), None),
            Err(why) => (None, None, Some(why.to_string())),
        };
        let refused = ledger.refusals().iter().map(|(key, refusal)| {
            json!({
                "pid": key.pid,
                "comm": label::text(&refusal.comm),
                "reason": refusal.reason.as_str(),
                "message": refusal.message,
                "tries": refusal.tries,
                "next_try_seconds": refusal.until.saturating_sub(now).as_secs_f64(),
            })
        });
        json!({
            "selectors": texts(&self.config.selectors),
            "strategy": strategy,
            "strategy_reason": reason,
            "error": error,
            "interval_seconds": self.config.interval.as_secs_f64(),
            "budget_share": self.config.budget,
            "used_share": cpu.as_secs_f64() / now.as_secs_f64().max(1e-9),
            "cpu_seconds": cpu.as_secs_f64(),
            "max": self.config.most,
            "explain_selectors": texts(&self.config.explain),
            "causes_not_seen": self.not_seen(),
            "processes": ledger.rows().map(process).collect::<Vec<_>>(),
            "refused": refused.take(NAMED).collect::<Vec<_>>(),
            "refused_count": ledger.refusals().len(),
            "over_max": ledger.over().iter().take(NAMED).map(named).collect::<Vec<_>>(),
            "over_max_count": ledger.over().len(),
            "over_max_users": users(ledger.over()),
        })
    }
}

fn texts(selectors: &[super::ProcessSelector]) -> Vec<String> {
    selectors.iter().map(ToString::to_string).collect()
}

/// Everything that a tracked process shows, by its key.
fn process(row: &TrackedRow) -> Value {
    let (mut shown, mut explained, mut observed) = (Map::new(), Map::new(), Map::new());
    for field in tracked_fields() {
        let section = match field.read {
            TrackedReading::Process(_) => &mut shown,
            TrackedReading::Explained(_) => &mut explained,
            TrackedReading::Observed(_) => &mut observed,
        };
        if let Some(value) = field.of(row) {
            section.insert(field.key.to_owned(), json(&value));
        }
    }
    let has_observed = row.explained.as_ref().and_then(|it| it.observed.as_ref());
    let observed = has_observed.map(|_| observed);
    let explained = row.explained.as_ref().map(|_| explained);
    shown.insert("observed".to_owned(), observed.into());
    shown.insert("explained".to_owned(), explained.into());
    shown.into()
}

fn json(value: &TrackedValue<'_>) -> Value {
    match value {
        TrackedValue::Count(number) | TrackedValue::OneOf(number) => json!(number),
        TrackedValue::MaybeCount(number) => json!(number),
        TrackedValue::Seconds(time) => json!(time.as_secs_f64()),
        TrackedValue::MaybeSeconds(time) => json!(time.map(|time| time.as_secs_f64())),
        TrackedValue::Flag(yes) => json!(yes),
        TrackedValue::Word(word) => json!(word),
        TrackedValue::Notes(notes) => json!(notes),
        TrackedValue::Untracked(untracked) => json!(untracked),
        TrackedValue::Pages(tally) => {
            let rows = tally.iter().map(|(why, pages)| {
                json!({
                    "verdict": why.verdict.as_str(),
                    "cause": why.cause.as_str(),
                    "pages": pages,
                })
            });
            rows.collect()
        }
    }
}

/// How many of them are whose; `null` is who is not known.
fn users(processes: &[SelectedProcess]) -> Vec<Value> {
    let mut counts = BTreeMap::<Option<u32>, usize>::new();
    for process in processes {
        *counts.entry(process.uid).or_default() += 1;
    }
    let users = counts.into_iter();
    users
        .map(|(uid, processes)| json!({"uid": uid, "processes": processes}))
        .collect()
}

fn named(process: &SelectedProcess) -> Value {
    json!({
        "pid": process.key.pid,
        "comm": label::text(&process.comm),
        "uid": process.uid,
        "selector": process.selector.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use pages::track::{MappingCount, UntrackedReason};

    use super::*;
    use crate::explain::{ReportAnswer, ReportCause, ReportVerdict};
    use crate::metrics::{ExplainedTotals, ObservedTotals};
    use crate::model::ProcessKey;

    fn row(explained: Option<ExplainedTotals>) -> TrackedRow {
        TrackedRow {
            process: ProcessKey {
                pid: 7,
                start_boottime_ns: 1,
            },
            comm: b"redis".to_vec(),
            selector: "comm:redis".to_owned(),
            strategy: "markers".to_owned(),
            stopped: None,
            notes: vec!["a note".to_owned()],
            ended: None,
            rounds: 2,
            tracked_pages: 3,
            shared_pages: 1,
            not_looked_at: [(UntrackedReason::Secret, 8)].into_iter().collect(),
            mapping_count: Some(MappingCount { now: 9, most: 10 }),
            written_pages: 4,
            unknown_pages: 5,
            vanished_pages: 6,
            in_doubt_pages: 7,
            interval: Duration::from_millis(1500),
            over_budget: true,
            last_cost: Duration::from_millis(250),
            cpu: Duration::from_millis(500),
            explained,
        }
    }

    #[test]
    fn a_tracked_process_shows_everything() {
        let expected = json!({
            "pid": 7, "comm": "redis", "selector": "comm:redis", "tracked": true,
            "strategy": "markers", "interval_seconds": 1.5, "over_budget": true,
            "last_round_cpu_seconds": 0.25, "cpu_seconds": 0.5, "rounds": 2, "tracked_pages": 3,
            "shared_pages": 1, "mappings": 9, "mappings_max": 10,
            "written_pages": 4, "unknown_pages": 5, "vanished_pages": 6,
            "in_doubt_pages": 7, "stopped_seconds": null,
            "not_looked_at": {"secret": 8}, "notes": ["a note"], "explained": null,
            "observed": null,
        });
        assert_eq!(process(&row(None)), expected);
    }

    #[test]
    fn an_explained_process_shows_what_that_came_to() {
        let answer = ReportAnswer {
            verdict: ReportVerdict::Unchanged,
            cause: ReportCause::Zap,
        };
        let explained = process(&row(Some(ExplainedTotals {
            reported: [(answer, 9)].into(),
            missed: 1,
            verified: 2,
            lost: 3,
            one_of: 4,
            observed: Some(ObservedTotals {
                reported: [(answer, 8)].into(),
                missed: 7,
                verified: 6,
            }),
        })));
        let observed = json!({
            "reported": [{"verdict": "unchanged", "cause": "zap", "pages": 8}],
            "missed_pages": 7, "verified_pages": 6,
        });
        assert_eq!(explained["observed"], observed);
        let expected = json!({
            "reported": [{"verdict": "unchanged", "cause": "zap", "pages": 9}],
            "missed_pages": 1, "verified_pages": 2, "lost_events": 3, "one_page_of": 4,
        });
        assert_eq!(explained["explained"], expected);
    }
}
