//! The report as a page: one file that asks for nothing else, and in which nothing runs.

use askama::Template;

use super::headline::headline;
use super::location::{is_helper, name};
use super::matrix::Matrix;
use super::picture::{self, PATTERNS};
use super::spots::Spot;
use super::stack::{kernel, place, told};
use super::{Report, flags, remarks, story};
use crate::explain::{Cause, Frame, Verdict, VmaFindings, advice};
use crate::model::words::backing;
use crate::track::report::words::{number, printable, share, size};
use crate::uffd::pages_in;

/// Code locations told.
const SPOTS: usize = 40;
/// VMAs told.
const VMAS: usize = 40;
/// Mappings with missed pages told.
const MISSED: usize = 40;
/// Characters of a kernel stack: no limit of a line here.
const KERNEL: usize = 2000;

/// The whole page.
///
/// # Errors
/// None that the template allows.
pub fn page(report: &Report<'_>) -> askama::Result<String> {
    Page::new(report).render()
}

/// All texts of the page. They are printable; the template escapes them.
#[derive(Template)]
#[template(path = "explain.html")]
struct Page {
    comm: String,
    pid: u32,
    command: String,
    how: String,
    versions: String,
    answer: Vec<String>,
    /// The colours and patterns of verdicts, for the bar and the picture.
    patterns: &'static str,
    bar: Vec<Part>,
    missed: Vec<Missed>,
    missed_pages: String,
    verified: String,
    any_verified: bool,
    candidates: Vec<(&'static str, &'static str)>,
    advice: Vec<Advice>,
    verdicts: Vec<&'static str>,
    rows: Vec<Row>,
    sums: Vec<String>,
    shares: Vec<String>,
    picture: Option<String>,
    spots_title: &'static str,
    spots: Vec<SpotView>,
    more_spots: String,
    vmas: Vec<VmaView>,
    more_vmas: String,
    unknown: Vec<Unknown>,
    story: Option<String>,
    costs: [String; 3],
    sight: Vec<String>,
}

/// A part of the bar of verdicts.
struct Part {
    verdict: &'static str,
    fill: &'static str,
    x: String,
    width: String,
    share: String,
    pages: String,
    means: &'static str,
}

struct Missed {
    first: String,
    pages: String,
    zeroed: String,
    candidates: String,
    name: String,
}

struct Advice {
    cause: Cause,
    pages: String,
    text: &'static str,
}

struct Row {
    cause: Cause,
    counts: Vec<String>,
    pages: String,
    share: String,
    means: &'static str,
}

struct SpotView {
    unchanged: String,
    cause: Cause,
    function: String,
    place: String,
    counts: String,
    threads: String,
    others: String,
    kernel: String,
    frames: Vec<FrameView>,
}

struct FrameView {
    function: String,
    place: String,
    inlined: bool,
    helper: bool,
}

struct VmaView {
    start: String,
    size: String,
    backing: &'static str,
    reported: String,
    unchanged: String,
    share: String,
    missed: String,
    name: String,
    flags: String,
    telling: Vec<(&'static str, &'static str)>,
}

struct Unknown {
    what: &'static str,
    reason: &'static str,
    pages: String,
    means: &'static str,
}

impl Page {
    fn new(report: &Report<'_>) -> Self {
        let (findings, pages) = (report.findings, &report.pages);
        let (comm, command) = remarks::who(report);
        let (spots_title, spots) = report.worst();
        let more = |all: usize, shown: usize, what: &str| {
            let rest = all.saturating_sub(shown);
            if rest == 0 {
                String::new()
            } else {
                format!("and {rest} more {what}")
            }
        };
        let of_verdicts = |tell: &dyn Fn(Verdict) -> String| -> Vec<String> {
            Verdict::ALL.iter().map(|v| tell(*v)).collect()
        };
        Self {
            comm,
            pid: findings.header.pid,
            command,
            how: format!("{}; {}", remarks::how(report), remarks::seen(report)),
            versions: remarks::versions(report),
            answer: headline(report),
            patterns: PATTERNS,
            bar: bar(pages),
            missed: missed(report),
            missed_pages: number(report.missed_pages),
            verified: number(findings.verified),
            any_verified: findings.verified > 0,
            candidates: candidates(report),
            advice: report.advice().into_iter().map(advised).collect(),
            verdicts: Verdict::ALL.iter().map(|v| v.as_str()).collect(),
            rows: pages
                .causes()
                .into_iter()
                .map(|cause| row(pages, cause))
                .collect(),
            sums: of_verdicts(&|v| number(pages.verdict(v)))
                .into_iter()
                .chain([number(pages.all())])
                .collect(),
            shares: of_verdicts(&|v| share(pages.verdict(v), pages.all())),
            picture: picture::in_page(report),
            spots_title,
            more_spots: more(spots.len(), SPOTS, "places"),
            spots: spots.into_iter().take(SPOTS).map(spot_view).collect(),
            more_vmas: more(report.vmas.len(), VMAS, "mappings"),
            vmas: report.vmas.iter().take(VMAS).map(vma_view).collect(),
            unknown: unknown(report),
            story: story::story(findings),
            costs: remarks::costs(report),
            sight: remarks::not_seen(report),
        }
    }
}

fn bar(pages: &Matrix) -> Vec<Part> {
    let all = pages.all();
    let mut x = 0.0;
    let mut parts = Vec::new();
    for verdict in Verdict::ALL {
        let count = pages.verdict(*verdict);
        if count == 0 {
            continue;
        }
        let width = count as f64 / all as f64 * 100.0;
        parts.push(Part {
            verdict: verdict.as_str(),
            fill: picture::fill(*verdict),
            x: format!("{x:.3}"),
            width: format!("{width:.3}"),
            share: share(count, all),
            pages: number(count),
            means: advice::verdict(*verdict),
        });
        x += width;
    }
    parts
}

fn missed(report: &Report<'_>) -> Vec<Missed> {
    let view = |group: &super::missed::MissedGroup<'_>| {
        let candidates: Vec<_> = group.candidates.iter().map(|c| c.as_str()).collect();
        Missed {
            first: format!("{:#x}", group.first),
            pages: number(group.pages),
            zeroed: number(group.zeroed),
            candidates: candidates.join(", "),
            name: mapping_name(&group.mapping.name),
        }
    };
    report.missed.iter().take(MISSED).map(view).collect()
}

fn candidates(report: &Report<'_>) -> Vec<(&'static str, &'static str)> {
    let mut all: Vec<_> = report
        .missed
        .iter()
        .flat_map(|group| group.candidates)
        .collect();
    all.sort_unstable();
    all.dedup();
    all.into_iter()
        .map(|c| (c.as_str(), advice::candidate(*c)))
        .collect()
}

fn advised((cause, pages, text): (Cause, u64, &'static str)) -> Advice {
    Advice {
        cause,
        pages: number(pages),
        text,
    }
}

fn row(pages: &Matrix, cause: Cause) -> Row {
    let counts = Verdict::ALL.iter().map(|v| count(pages.at(cause, *v)));
    Row {
        cause,
        counts: counts.collect(),
        pages: number(pages.cause(cause)),
        share: share(pages.cause(cause), pages.all()),
        means: advice::cause(cause),
    }
}

fn count(pages: u64) -> String {
    if pages == 0 {
        "–".to_owned()
    } else {
        number(pages)
    }
}

fn spot_view(spot: &Spot<'_>) -> SpotView {
    let changed = spot.pages.verdict(Verdict::Changed);
    let other = spot
        .pages
        .all()
        .saturating_sub(changed)
        .saturating_sub(spot.unchanged());
    let mut counts = format!(
        "{} unchanged, {} changed",
        number(spot.unchanged()),
        number(changed)
    );
    if other > 0 {
        counts += &format!(", {} other", number(other));
    }
    let location = &spot.location;
    let via = location.via.as_ref().map(|via| format!("via {via}"));
    let syscall = location
        .syscall
        .as_ref()
        .map(|name| format!("in {name}(2)"));
    let place_of = [location.line.clone(), via, syscall];
    let stack = spot.place;
    SpotView {
        unchanged: number(spot.unchanged()),
        cause: spot.cause,
        function: location.function.clone(),
        place: place_of
            .into_iter()
            .flatten()
            .collect::<Vec<_>>()
            .join(", "),
        counts,
        threads: spot.threads.join(", "),
        others: match spot.others {
            0 => String::new(),
            1 => "1 other stack leads here".to_owned(),
            others => format!("{others} other stacks lead here"),
        },
        kernel: stack
            .and_then(|stack| kernel(stack, KERNEL))
            .unwrap_or_default(),
        frames: stack.map_or_else(Vec::new, |stack| {
            told(&stack.user).into_iter().map(frame_view).collect()
        }),
    }
}

fn frame_view(frame: &Frame) -> FrameView {
    FrameView {
        function: name(frame),
        place: place(frame),
        inlined: frame.inlined,
        helper: is_helper(frame),
    }
}

fn vma_view((vma, pages): &(&VmaFindings, Matrix)) -> VmaView {
    let mapping = &vma.mapping;
    let unchanged = pages.verdict(Verdict::Unchanged);
    VmaView {
        start: format!("{:#x}", mapping.start),
        size: size(pages_in(&(mapping.start..mapping.end)) as f64),
        backing: backing(mapping.backing),
        reported: number(pages.all()),
        unchanged: count(unchanged),
        share: share(unchanged, pages.compared()),
        missed: count(vma.missed),
        name: mapping_name(&mapping.name),
        flags: printable(vma.flags.trim()),
        telling: flags::telling(&vma.flags),
    }
}

fn mapping_name(name: &str) -> String {
    if name.is_empty() {
        "[anon]".to_owned()
    } else {
        printable(name)
    }
}

fn unknown(report: &Report<'_>) -> Vec<Unknown> {
    let findings = report.findings;
    let verdicts = findings
        .verdict_unknown
        .iter()
        .map(|reason| ("verdict", reason));
    let causes = findings
        .cause_unknown
        .iter()
        .map(|reason| ("cause", reason));
    let told = verdicts.chain(causes).filter(|(_, (_, pages))| **pages > 0);
    let view = |(what, (reason, pages)): (&'static str, (&crate::explain::Reason, &u64))| Unknown {
        what,
        reason: reason.as_str(),
        pages: number(*pages),
        means: advice::reason(*reason),
    };
    told.map(view).collect()
}
