//! What was tracked, for `/metrics` and `/status`.

use std::time::Duration;

use serde_json::{Value, json};

use super::Tracking;
use super::explanation::Explanation;
use super::find::Match;
use super::ledger::{Row, Work};
use super::refusal::REASONS;
use crate::metrics::{ExplainRow, TrackFacts, TrackRow, label};

/// At most so many that refuse, or are left out, are named; the rest is counted.
const NAMED: usize = 64;

impl Tracking {
    /// For `/metrics`.
    pub fn facts(&self) -> TrackFacts {
        let mut ledger = self.ledger();
        ledger.forget(self.now(), self.config.linger);
        let node = ledger.node();
        let tracked = ledger.rows().filter(|row| row.ended.is_none()).count();
        TrackFacts {
            budget: self.config.budget,
            processes: ledger.rows().map(metrics_row).collect(),
            states: vec![
                ("tracked", tracked),
                ("refused", ledger.refusals().len()),
                ("over_max", ledger.over().len()),
            ],
            failures: REASONS.into_iter().zip(node.failures).collect(),
            written: node.written,
            cpu: Work::ALL
                .map(|work| (work.as_str(), node.cpu[work as usize]))
                .to_vec(),
        }
    }

    /// For `/status`.
    pub fn status(&self) -> Value {
        let ledger = self.ledger();
        let now = self.now();
        let cpu: Duration = ledger.node().cpu.iter().sum();
        let (strategy, reason, error) = match &self.means {
            Ok(how) => (Some(how.strategy), Some(&how.reason), None),
            Err(why) => (None, None, Some(why)),
        };
        let refused = ledger.refusals().iter().map(|(key, refusal)| {
            json!({
                "pid": key.pid,
                "comm": label::text(&refusal.comm),
                "reason": refusal.reason,
                "message": refusal.message,
                "tries": refusal.tries,
                "next_try_seconds": refusal.until.saturating_sub(now).as_secs_f64(),
            })
        });
        let rows = ledger.rows().map(|row| self.status_row(row));
        json!({
            "selectors": self.config.selectors.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "strategy": strategy,
            "strategy_reason": reason,
            "error": error,
            "interval_seconds": self.config.interval.as_secs_f64(),
            "budget_share": self.config.budget,
            "used_share": cpu.as_secs_f64() / now.as_secs_f64().max(1e-9),
            "cpu_seconds": cpu.as_secs_f64(),
            "max": self.config.most,
            "explain_selectors": self.config.explain.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "causes_not_seen": self.seen().map(|seen| &seen.not),
            "processes": rows.collect::<Vec<_>>(),
            "refused": refused.take(NAMED).collect::<Vec<_>>(),
            "refused_count": ledger.refusals().len(),
            "over_max": ledger.over().iter().take(NAMED).map(named).collect::<Vec<_>>(),
            "over_max_count": ledger.over().len(),
        })
    }

    fn status_row(&self, row: &Row) -> Value {
        json!({
            "pid": row.key.pid,
            "comm": label::text(&row.comm),
            "selector": row.selector.to_string(),
            "tracked": row.ended.is_none(),
            "strategy": row.header.strategy,
            "interval_seconds": row.interval.as_secs_f64(),
            "over_budget": row.interval > self.config.interval,
            "last_round_cpu_seconds": row.last_cost.as_secs_f64(),
            "cpu_seconds": row.cpu.as_secs_f64(),
            "rounds": row.rounds,
            "tracked_pages": row.pages.tracked,
            "written_pages": row.pages.written,
            "unknown_pages": row.pages.unknown,
            "vanished_pages": row.pages.vanished,
            "stopped_seconds": row.header.stopped.map(|stopped| stopped.as_secs_f64()),
            "notes": row.header.notes,
            "explained": row.explained.as_ref().map(|explained| json!({
                "reported": explained.reported.iter().map(|(why, pages)| json!({
                    "verdict": why.verdict.as_str(),
                    "cause": why.cause.as_str(),
                    "pages": pages,
                })).collect::<Vec<_>>(),
                "missed_pages": explained.missed,
                "verified_pages": explained.verified,
                "lost_events": explained.lost,
                "one_page_of": explained.one_of,
            })),
        })
    }
}

fn named(process: &Match) -> Value {
    json!({
        "pid": process.key.pid,
        "comm": label::text(&process.comm),
        "selector": process.selector.to_string(),
    })
}

fn metrics_row(row: &Row) -> TrackRow {
    TrackRow {
        pid: row.key.pid,
        comm: row.comm.clone(),
        strategy: row.header.strategy.clone(),
        live: row.ended.is_none(),
        rounds: row.rounds,
        written: row.pages.written,
        unknown: row.pages.unknown,
        vanished: row.pages.vanished,
        tracked: row.pages.tracked,
        interval: row.interval,
        cpu: row.cpu,
        explained: row.explained.as_ref().map(explain_row),
    }
}

fn explain_row(explained: &Explanation) -> ExplainRow {
    let reported = explained.reported.iter();
    ExplainRow {
        reported: reported
            .map(|(why, pages)| (why.verdict.as_str(), why.cause.as_str(), *pages))
            .collect(),
        missed: explained.missed,
        verified: explained.verified,
        lost: explained.lost,
        one_of: explained.one_of,
    }
}
