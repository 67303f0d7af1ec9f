//! The report as a page: one file that loads nothing and in which nothing runs.

mod views;

use askama::Template;

use super::headline::headline;
use super::picture::{self, PATTERNS};
use super::{ExplainReport, ExplainReports, audit, remarks, story};
use crate::explain::ReportVerdict;
use crate::print::words::{number, share};
use views::{
    AdviceView, CauseView, MissedView, ShareView, StackListView, UnknownView, VmaView, WriterView,
};

/// Code locations on the page.
const SPOTS: usize = 40;
/// VMAs on the page.
const VMAS: usize = 40;

/// The whole page.
///
/// # Errors
/// None that the template allows.
pub(crate) fn page(reports: &ExplainReports<'_>) -> askama::Result<String> {
    let parts = reports.iter().map(|report| {
        let title = reports.title(report);
        ExplainPart::new(report, title).render()
    });
    let parts = parts.collect::<askama::Result<Vec<_>>>()?;
    let Some(first) = reports.iter().next() else {
        return Ok(String::new());
    };
    let (comm, command) = remarks::who(first);
    let page = ExplainPage {
        comm,
        pid: first.findings.header.pid,
        command,
        versions: remarks::versions(first),
        parts,
    };
    page.render()
}

/// The page around the reports, which are HTML already.
#[derive(Template)]
#[template(path = "explain.html")]
struct ExplainPage {
    comm: String,
    pid: u32,
    command: String,
    versions: String,
    parts: Vec<String>,
}

/// All texts of a report. They are printable; the template escapes them.
#[derive(Template)]
#[template(path = "explain_part.html")]
struct ExplainPart {
    title: &'static str,
    how: String,
    answer: Vec<String>,
    /// The colours and patterns of verdicts, for the bar and the picture.
    patterns: &'static str,
    bar: Vec<ShareView>,
    missed: Vec<MissedView>,
    missed_pages: String,
    verified: String,
    no_false_negative: String,
    candidates: Vec<(&'static str, &'static str)>,
    advice: Vec<AdviceView>,
    verdicts: Vec<&'static str>,
    rows: Vec<CauseView>,
    sums: Vec<String>,
    shares: Vec<String>,
    picture: Option<String>,
    writers: Vec<WriterView>,
    stacks: Vec<StackListView>,
    vmas: Vec<VmaView>,
    more_vmas: String,
    unknown: Vec<UnknownView>,
    story: Option<String>,
    audit: Option<(String, Vec<String>)>,
    against: Vec<String>,
    costs: Vec<String>,
    sight: Vec<String>,
}

impl ExplainPart {
    fn new(report: &ExplainReport<'_>, title: &'static str) -> Self {
        let (findings, pages) = (report.findings, &report.pages);
        let writers = report.writers();
        let more = |all: usize, shown: usize, what: &str| {
            let rest = all.saturating_sub(shown);
            if rest == 0 {
                String::new()
            } else {
                format!("and {rest} more {what}")
            }
        };
        let of_verdicts = |tell: &dyn Fn(ReportVerdict) -> String| -> Vec<String> {
            ReportVerdict::ALL.iter().map(|v| tell(*v)).collect()
        };
        Self {
            title,
            how: format!("{}; {}", remarks::how(report), remarks::seen(report)),
            answer: headline(report),
            patterns: PATTERNS,
            bar: views::bar(pages),
            missed: views::missed(report),
            missed_pages: number(report.missed_pages),
            verified: number(findings.verified),
            no_false_negative: remarks::verified(report).unwrap_or_default(),
            candidates: views::candidates(report),
            advice: report.advice().into_iter().map(views::advised).collect(),
            verdicts: ReportVerdict::ALL.iter().map(|v| v.as_str()).collect(),
            rows: pages
                .causes()
                .into_iter()
                .map(|cause| views::row(pages, cause))
                .collect(),
            sums: of_verdicts(&|v| number(pages.verdict(v)))
                .into_iter()
                .chain([number(pages.all())])
                .collect(),
            shares: of_verdicts(&|v| share(pages.verdict(v), pages.all())),
            picture: picture::in_page(report),
            writers: views::writers(&writers, SPOTS),
            stacks: views::stack_lists(report, SPOTS),
            more_vmas: more(report.vmas.len(), VMAS, "mappings"),
            vmas: report.vmas.iter().take(VMAS).map(views::vma_view).collect(),
            unknown: views::unknown(report),
            story: story::story(findings),
            audit: audit::audit(report),
            against: remarks::against(report),
            costs: remarks::costs(report),
            sight: remarks::not_seen(report),
        }
    }
}
