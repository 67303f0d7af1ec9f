//! The page at `/`: level and what is missing, who is tracked, the busiest VMAs. One file that
//! loads nothing and in which nothing runs.

use std::cmp::Reverse;

use askama::Template;

use super::status::StatusParts;
use crate::explain::ReportVerdict;
use crate::metrics::{ExplainedTotals, TrackedRow, TrackingRows, label};
use crate::model::{ProcessRow, VmaLabel, VmaRow};
use crate::print::words::{number, printable, share, size};
use crate::probes::{HookReport, HookVerdict, ProbeLevel};
use uffd::PAGE_SIZE;

/// VMAs on the page.
const VMAS: usize = 20;
/// What is not there.
const DASH: &str = "-";

#[derive(Template)]
#[template(path = "landing.html")]
struct LandingPage<'a> {
    kernel: &'a str,
    version: &'a str,
    uptime: String,
    telemetry_path: &'a str,
    ready: bool,
    ready_reason: &'a str,
    level: &'a str,
    level_reason: &'a str,
    attached: usize,
    hooks: usize,
    advice: Vec<String>,
    tracked: Vec<LandingProcess>,
    refused: Vec<String>,
    vmas: Vec<LandingVma>,
    more: usize,
    absent: Vec<AbsentHook>,
}

/// A tracked process in words.
struct LandingProcess {
    pid: u32,
    comm: String,
    strategy: String,
    rounds: String,
    written: String,
    reported: String,
    unchanged: String,
    missed: String,
    not_looked_at: String,
}

/// A VMA in words.
struct LandingVma {
    pid: u32,
    comm: String,
    vma: String,
    backing: &'static str,
    size: String,
    faults: String,
    armed: String,
    written: String,
}

/// A hook that this kernel has a use for, and that is absent, silent or switched off.
struct AbsentHook {
    name: &'static str,
    without: &'static str,
    reason: String,
}

/// The page.
///
/// # Errors
/// None that the template allows.
pub(super) fn page(
    parts: &StatusParts<'_>,
    tracking: Option<&TrackingRows>,
    refused: Vec<String>,
) -> askama::Result<String> {
    let report = parts.report;
    let needed = |hook: &&HookReport| !matches!(hook.plan.verdict, HookVerdict::NotNeeded(_));
    let hooks = || report.hooks.iter().filter(needed).map(|hook| &hook.plan);
    let absent = report.hooks.iter().filter(|hook| hook.plan.is_missing());
    let mut vmas: Vec<_> = (parts.view.processes.iter())
        .flat_map(|process| process.vmas.iter().map(move |vma| (process, vma)))
        .filter(|(_, vma)| !vma.exited)
        .collect();
    vmas.sort_by_key(|(_, vma)| Reverse(business(vma)));
    let more = vmas.len().saturating_sub(VMAS) + parts.view.folded as usize;
    let counts = report.level != ProbeLevel::Observe;
    let line = |(process, vma)| LandingVma::new(process, vma, counts, parts.config.vma_label);
    LandingPage {
        kernel: &parts.build.kernel,
        version: &parts.build.version,
        uptime: format!("{} s", parts.uptime.as_secs()),
        telemetry_path: &parts.config.telemetry_path,
        ready: parts.ready.ready,
        ready_reason: &parts.ready.reason,
        level: report.level.as_str(),
        level_reason: &report.reason,
        attached: hooks().filter(|hook| hook.mechanism().is_some()).count(),
        hooks: hooks().count(),
        advice: report.advice.iter().map(ToString::to_string).collect(),
        tracked: tracking.map_or_else(Vec::new, |rows| {
            let live = rows.processes.iter().filter(|row| row.is_live());
            live.map(LandingProcess::from).collect()
        }),
        refused,
        vmas: vmas.into_iter().take(VMAS).map(line).collect(),
        more,
        absent: absent.map(AbsentHook::from).collect(),
    }
    .render()
}

/// By what VMAs are ordered: faults, then what is written.
fn business(vma: &VmaRow) -> (u64, u64) {
    let written = vma.gauges.pages.map_or(0, |pages| pages.written);
    (vma.counts.total_faults(), written)
}

impl LandingVma {
    fn new(process: &ProcessRow, vma: &VmaRow, counts: bool, named: VmaLabel) -> Self {
        let pages = vma.gauges.pages;
        let told = |pages: Option<u64>| pages.map_or_else(|| DASH.to_owned(), number);
        Self {
            pid: process.pid,
            comm: name(&process.comm),
            vma: match named {
                VmaLabel::Number => vma.number.to_string(),
                VmaLabel::Address => format!("{:#x}", vma.start),
            },
            backing: vma.backing.as_str(),
            size: size(vma.gauges.bytes as f64 / PAGE_SIZE as f64),
            faults: told(counts.then(|| vma.counts.total_faults())),
            armed: told(pages.map(|pages| pages.armed)),
            written: told(pages.map(|pages| pages.written)),
        }
    }
}

fn name(comm: &[u8]) -> String {
    printable(&label::text(comm))
}

impl From<&TrackedRow> for LandingProcess {
    fn from(row: &TrackedRow) -> Self {
        let explained = row.explained.as_ref();
        let told =
            |read: fn(&ExplainedTotals) -> String| explained.map_or_else(|| DASH.to_owned(), read);
        Self {
            pid: row.process.pid,
            comm: name(&row.comm),
            strategy: row.strategy.clone(),
            rounds: number(row.rounds),
            written: number(row.written_pages),
            reported: told(|it| number(it.reported.values().sum())),
            unchanged: told(unchanged),
            missed: told(|it| number(it.missed)),
            not_looked_at: number(row.not_looked_at.total()),
        }
    }
}

/// The share of the compared reports whose page holds what it held before.
fn unchanged(explained: &ExplainedTotals) -> String {
    let pages = |wanted: &[ReportVerdict]| {
        let all = explained.reported.iter();
        let all = all.filter(|(why, _)| wanted.contains(&why.verdict));
        all.map(|(_, pages)| pages).sum::<u64>()
    };
    let unchanged = pages(&[ReportVerdict::Unchanged]);
    let compared = unchanged + pages(&[ReportVerdict::Changed, ReportVerdict::Zeroed]);
    if compared == 0 {
        DASH.to_owned()
    } else {
        share(unchanged, compared)
    }
}

impl From<&HookReport> for AbsentHook {
    fn from(hook: &HookReport) -> Self {
        Self {
            name: hook.plan.hook.name(),
            without: hook.plan.hook.without,
            reason: hook.plan.reason(),
        }
    }
}
