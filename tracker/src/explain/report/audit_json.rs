//! What the process's own tracker does wrong, as JSON. docs/explain.md describes the keys.

use serde::Serialize;

use super::ExplainReport;
use super::faults::faults;
use super::json::of;
use super::location::CodeLocation;
use crate::explain::{AuditFinding, AuditKind, AuditSight, CallerThread, HandlerWaits, PlaceId};
use crate::print::json::JsonAddress;

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
enum AuditLine<'a> {
    Finding {
        kind: &'static str,
        fault: &'static str,
        times: u64,
        pages: u64,
        what: &'static str,
        open: u64,
        tables: u64,
        took_seconds: f64,
        longest_seconds: f64,
        place: Option<u32>,
        r#where: Option<String>,
        earlier_place: Option<u32>,
        earlier_where: Option<String>,
        caller: Option<JsonCaller<'a>>,
        ranges: Vec<(JsonAddress, JsonAddress)>,
        advice: &'static str,
    },
    Waits {
        caller: JsonCaller<'a>,
        times: u64,
        seconds: f64,
        longest_seconds: f64,
        page: JsonAddress,
    },
    Disarms {
        caller: JsonCaller<'a>,
        cpu: u32,
        times: u64,
    },
    ClearsSoftDirty {
        caller: JsonCaller<'a>,
        times: u64,
    },
    Audit {
        calls: u64,
        dropped: u64,
        all_calls_seen: bool,
        not_seen: &'a [String],
        looked_for: Vec<&'static str>,
        found: usize,
    },
}

#[derive(Serialize)]
struct JsonCaller<'a> {
    process: u32,
    thread: u32,
    name: &'a str,
}

impl<'a> From<&'a CallerThread> for JsonCaller<'a> {
    fn from(caller: &'a CallerThread) -> Self {
        Self {
            process: caller.tgid,
            thread: caller.tid,
            name: &caller.comm,
        }
    }
}

/// A line for each finding, each thread that waited and each that disarmed, and one at their end;
/// nothing if the process has no tracker of its own.
pub(super) fn lines(report: &ExplainReport<'_>) -> serde_json::Result<String> {
    let Some(audit) = &report.findings.audit else {
        return Ok(String::new());
    };
    let owned = |content| of(report.findings.owner, content);
    let mut text = String::new();
    let found = faults(report.findings);
    for found in &found {
        text += &owned(finding(report, found))?;
    }
    for waits in &audit.waits {
        text += &owned(of_waits(waits))?;
    }
    for ((caller, cpu), times) in &audit.answers {
        text += &owned(AuditLine::Disarms {
            caller: caller.into(),
            cpu: *cpu,
            times: *times,
        })?;
    }
    for (caller, times) in &audit.cleared {
        text += &owned(AuditLine::ClearsSoftDirty {
            caller: caller.into(),
            times: *times,
        })?;
    }
    let not_seen: &[String] = match &audit.sight {
        AuditSight::Complete => &[],
        AuditSight::Gaps(gaps) => gaps,
    };
    let end = AuditLine::Audit {
        calls: audit.calls,
        dropped: audit.dropped,
        all_calls_seen: not_seen.is_empty(),
        not_seen,
        looked_for: audit.looked_for().map(AuditKind::as_str).collect(),
        found: found.len(),
    };
    Ok(text + &owned(end)?)
}

fn finding<'a>(report: &ExplainReport<'_>, found: &'a AuditFinding) -> AuditLine<'a> {
    let place = |id: Option<PlaceId>| {
        let stack = report.findings.stacks.get(&id?)?;
        Some(CodeLocation::new(stack).to_string())
    };
    let ranges = found.ranges.iter();
    AuditLine::Finding {
        kind: found.kind.as_str(),
        fault: found.kind.fault(),
        times: found.times,
        pages: found.pages,
        what: found.kind.pages(),
        open: found.open,
        tables: found.tables,
        took_seconds: found.took.as_secs_f64(),
        longest_seconds: found.longest.as_secs_f64(),
        place: found.place.map(|id| id.0),
        r#where: place(found.place),
        earlier_place: found.earlier.map(|id| id.0),
        earlier_where: place(found.earlier),
        caller: found.caller.as_ref().map(JsonCaller::from),
        ranges: ranges
            .map(|range| (JsonAddress(range.start), JsonAddress(range.end)))
            .collect(),
        advice: found.kind.advice(),
    }
}

fn of_waits(waits: &HandlerWaits) -> AuditLine<'_> {
    AuditLine::Waits {
        caller: (&waits.caller).into(),
        times: waits.times,
        seconds: waits.whole.as_secs_f64(),
        longest_seconds: waits.longest.as_secs_f64(),
        page: JsonAddress(waits.page),
    }
}
