//! docs/metrics.md, printed from the descriptions of the families.

use std::fmt::Write as _;

use super::catalog::families;
use super::family::{FamilyChapter, FamilyKind, FamilyRows, FamilySpec};
use super::tracked::TrackedReading;
use crate::model::{SeriesDetail, SeriesLimits};

/// How many series an agent exports, as counted in a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeriesTotals {
    /// Series with every slot in use by a VMA that allocates tables of the PTE level only.
    pub usual: usize,
    /// Series with every combination of labels in use.
    pub most: usize,
    /// Series without any process.
    pub empty: usize,
}

/// Prints the whole page.
#[must_use]
pub fn page(size: SeriesTotals) -> String {
    let mut page = String::from(HEAD);
    bounds(&mut page, size);
    page.push_str(LABELS);
    for chapter in FamilyChapter::ALL {
        let _ = writeln!(page, "\n## {}\n", title(chapter));
        let families = || families().filter(|family| family.rows.chapter() == chapter);
        index(&mut page, families());
        families().for_each(|family| describe(&mut page, family));
    }
    page
}

const HEAD: &str = "\
# Metrics

<!-- Printed from tracker/src/metrics/catalog by `cargo run -p tracker --example gen-metrics-doc`;
     a test fails when this file is stale. -->

Text format 0.0.4. A family whose hooks are not attached is not exported at all, and neither is a
single series whose hook is absent; what is only estimated on the running kernel says so, with the
reason, in its HELP. `tracker check` tells both beforehand.
";

fn bounds(page: &mut String, size: SeriesTotals) {
    let limits = SeriesLimits::default();
    let _ = write!(
        page,
        "
## Bounds

`--max-processes` (default {processes}) processes and `--max-vmas` (default {vmas}) VMAs of each \
have series of
their own; `--detail node|process|vma` (default {detail}) says how deep they go. With the defaults
and every slot in use an agent that tracks nothing has {usual} series, {empty} of them without any
process; with every combination of labels in use at most {most}.

- What has no series of its own is counted in `vma=\"other\"` of its process (where `backing` is
  `other`, too), or in `pid=\"other\"` (where `comm`, `vma` and `backing` are). With `--detail
  process`, a process has only `vma=\"other\"`; with `--detail node` there are only the families of
  the node and of the agent.
- At each collection, what was gained is added once, to the series its owner has then, and never
  moves. A VMA that is new and finds a free slot has all it counted in its series. A free slot goes
  to the busiest VMA that waits (events, those of each earlier collection weighing half); its series
  starts at 0. A series is never demoted.
- A series disappears `--linger` (default {linger} s) after the exit of its VMA; its value is added
  nowhere. Until then its counters stay and its gauges are gone. (pid, vma) is unique in every
  scrape: a new owner of the same start or pid ends a lingering series at once.
- `--track` tracks at most `--track-max` (default 8) processes, which have {tracked} series each,
  whatever the other bounds are, one more for each further reason in `uffdwp_untracked_pages`, and
  with `--explain` one for each pair of verdict and cause; and none with `--detail node`. They
  disappear in the same way.
- own + other + retired = node. `retired` is in `/status`.
- The number of a VMA says nothing of where it is (docs/security.md). The agent counts VMAs as it
  first sees them, and gives no number twice; after a restart of the agent numbers begin anew. A
  query that is to go on over restarts, or to find a VMA in /proc/PID/maps, joins
  `uffdwp_vma_info` for its name, or takes `--vma-label address`.
- A split leaves the series with the part that keeps the start. On a merge the lower start keeps
  its series, the other one exits.
",
        processes = limits.max_processes,
        vmas = limits.max_vmas,
        detail = SeriesDetail::Vma.as_str(),
        linger = limits.linger.as_secs(),
        usual = size.usual,
        empty = size.empty,
        most = size.most,
        tracked = families().filter(|family| is_tracked(family)).count(),
    );
}

/// Whether each tracked process has a series of this family.
const fn is_tracked(family: &FamilySpec) -> bool {
    let FamilyRows::Tracked(field) = family.rows else {
        return false;
    };
    matches!(field.read, TrackedReading::Process(_))
}

const LABELS: &str = "
## Labels

| label | values |
|---|---|
| `pid` | process id in the initial pid namespace; `other` |
| `comm` | name of the process, fixed when its series are admitted; `other` |
| `vma` | number of the VMA, or with `--vma-label address` its start in hex; `other` |
| `backing` | `anon`, `shmem`, `hugetlb`, `file`; `other` |
| `mode` | `async` (the kernel resolves), `sync` (a handler does); a VMA has only its own mode |
| `entry` | `pte`, `marker`, `huge` |
| `event` | `installed`, `consumed`, `dropped` |
| `level` | `pte`, `pmd`, `pud` |
| `strategy` | how a process is tracked, as in docs/strategies.md |
| `state` | `armed`, `written`; of a process to track: `tracked`, `refused`, `over_max` |
| `work` | `round` (reading and arming), `attach`, `select` (looking for processes) |
| `cause` | of a page table: `fault`, `arm`, `scan`, `copy`, `fork`, `move`, `populate`, `other`; of a reported page: as in docs/explain.md |
| `verdict` | as in docs/explain.md |
| `reason` | why something was not seen or not done; each family says which there are |

Names, paths and cgroups can hold any byte: what is not UTF-8, and control characters, are written
`\\xNN`. Values longer than 200 bytes keep their end, after a `…`.
";

const fn title(chapter: FamilyChapter) -> &'static str {
    match chapter {
        FamilyChapter::Vma => "Per VMA",
        FamilyChapter::Process => "Per process",
        FamilyChapter::Node => "Per node",
        FamilyChapter::Tracking => "Processes that are tracked (`--track`)",
        FamilyChapter::Agent => "The agent itself",
    }
}

fn index(page: &mut String, families: impl Iterator<Item = &'static FamilySpec>) {
    page.push_str("| family | type | unit | labels |\n|---|---|---|---|\n");
    for family in families {
        let _ = writeln!(
            page,
            "| [`{name}`](#{name}) | {kind} | {unit} | {labels} |",
            name = family.name,
            kind = family.kind.as_str(),
            unit = family.unit,
            labels = labels(family),
        );
    }
}

fn labels(family: &FamilySpec) -> String {
    let quoted: Vec<String> = family.labels.iter().map(|l| format!("`{l}`")).collect();
    quoted.join(" ")
}

fn describe(page: &mut String, family: &FamilySpec) {
    let _ = write!(page, "\n### {}\n\n", family.name);
    wrapped(page, "", family.help);
    page.push('\n');
    wrapped(page, "- Source: ", &format!("{}.", family.source));
    wrapped(page, "- Exactness: ", &format!("{}.", family.exactness));
    if family.kind == FamilyKind::Histogram {
        page.push_str("- Buckets: 1e-6 * 4^n seconds, n = 0 to 12.\n");
    }
    let _ = writeln!(page, "- Example: `{}`", family.example);
}

/// Writes a paragraph or an item of a list, at most 100 columns wide.
fn wrapped(page: &mut String, mark: &str, text: &str) {
    const WIDTH: usize = 100;
    let indent = if mark.is_empty() { "" } else { "  " };
    let mut line = mark.to_owned();
    for word in text.split(' ') {
        if line.len() + word.len() > WIDTH {
            let _ = writeln!(page, "{}", line.trim_end());
            line = indent.to_owned();
        }
        line += word;
        line.push(' ');
    }
    let _ = writeln!(page, "{}", line.trim_end());
}
