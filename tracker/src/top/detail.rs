//! Everything that is known of one row, as lines.

use ratatui::text::{Line, Span};
use uffd::PAGE_SIZE;

use super::columns::DASH;
use super::rates::{RowId, process_id};
use super::screen::bold;
use super::usage::{CountedEvents, CountsByTwo, NodeUsage, ProcessUsage};
use crate::print::words::{number, printable, size};

/// Everything that is counted of a row.
pub(super) fn detail(now: &NodeUsage, id: &RowId) -> Vec<Line<'static>> {
    let (RowId::Process(process_is) | RowId::Vma(process_is, _)) = id;
    let process = now
        .processes
        .iter()
        .find(|process| process_id(process) == *process_is);
    let Some(process) = process else {
        return vec![Line::from("it has ended, and is no longer shown: Esc")];
    };
    let mut lines = vec![fact(
        "process",
        format!("{} {}", process.pid, printable(&process.comm)),
    )];
    let cgroup = process
        .cgroup
        .as_deref()
        .map_or_else(|| DASH.to_owned(), printable);
    lines.push(fact("cgroup", cgroup));
    let counted = match id {
        RowId::Process(_) => &process.counted,
        RowId::Vma(_, name) => {
            let Some(vma) = process.vmas.iter().find(|vma| vma.vma == *name) else {
                lines.push(Line::from("this VMA is gone: Esc"));
                return lines;
            };
            let mode = vma.mode.as_deref().unwrap_or("mode not known");
            lines.push(fact("VMA", format!("{name}, {}, {mode}", vma.backing)));
            let name = vma
                .name
                .as_deref()
                .map_or_else(|| DASH.to_owned(), printable);
            lines.push(fact("name", name));
            lines.push(fact("size", size(vma.now.bytes as f64 / PAGE_SIZE as f64)));
            let pages = |pages: Option<u64>| pages.map_or_else(|| "no scan yet".into(), number);
            lines.push(fact("armed", pages(vma.now.armed_pages)));
            lines.push(fact("written", pages(vma.now.written_pages)));
            &vma.counted
        }
    };
    lines.push(Line::default());
    lines.extend(counts(counted));
    if counted.faults.is_none() {
        let why = printable(&now.level_reason);
        lines.push(Line::from(format!("faults are not counted here: {why}")));
    }
    lines.extend(tracked(process));
    lines
}

fn fact(what: &str, told: String) -> Line<'static> {
    Line::from(vec![bold(format!("{what:<10}")), Span::raw(told)])
}

fn counts(counted: &CountedEvents) -> Vec<Line<'static>> {
    let faults = counted
        .faults
        .iter()
        .flat_map(|counts| by_two("faults", counts));
    let markers = counted.markers.iter().flatten();
    let markers = markers.map(|(event, count)| count_line("markers", event, *count));
    let tables = counted.page_tables_allocated.iter();
    let tables = tables.flat_map(|counts| by_two("tables", counts));
    faults.chain(markers).chain(tables).collect()
}

fn by_two(what: &str, counts: &CountsByTwo) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    for (one, counts) in counts {
        let counts = counts.iter();
        lines.extend(counts.map(|(two, count)| count_line(what, &format!("{one}, {two}"), *count)));
    }
    lines
}

fn count_line(what: &str, labels: &str, count: u64) -> Line<'static> {
    Line::from(format!("{what:<10}{labels:<32}{:>14}", number(count)))
}

/// What the agent's own tracking of the process came to.
fn tracked(process: &ProcessUsage) -> Vec<Line<'static>> {
    let Some(tracked) = &process.tracked else {
        return vec![
            Line::default(),
            Line::from("not tracked by the agent (--track, --explain)"),
        ];
    };
    let late = if tracked.over_budget {
        ", slowed down by --track-budget"
    } else {
        ""
    };
    let mut lines = vec![
        Line::default(),
        fact(
            "tracked",
            format!(
                "with {}, {} rounds, one in {:.1} s{late}",
                tracked.strategy,
                number(tracked.rounds),
                tracked.interval_seconds
            ),
        ),
        fact(
            "pages",
            format!(
                "{} tracked, {} written, {} not looked at",
                number(tracked.tracked_pages),
                number(tracked.written_pages),
                number(tracked.not_looked_at_pages)
            ),
        ),
    ];
    for (what, counts) in [
        ("reported", &tracked.reported),
        ("observed", &tracked.observed),
    ] {
        lines.extend(counts.iter().flat_map(|counts| by_two(what, counts)));
    }
    if let Some(missed) = tracked.missed_pages {
        lines.push(fact(
            "missed",
            format!("{} pages changed and were not reported", number(missed)),
        ));
    }
    lines
}
