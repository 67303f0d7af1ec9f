//! docs/metrics.md, printed from the descriptions of the families.

use std::fmt::Write as _;

use super::catalog::{FAMILIES, track};
use super::family::{Family, Kind};
use crate::model::{Detail, Limits};

/// What a full agent exports, as counted in a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Series with every slot in use by a VMA that allocates tables of the PTE level only.
    pub usual: usize,
    /// Series with every combination of labels in use.
    pub most: usize,
    /// Series without any process.
    pub empty: usize,
}

/// The whole page.
#[must_use]
pub fn page(size: Size) -> String {
    let mut page = String::from(HEAD);
    bounds(&mut page, size);
    page.push_str(LABELS);
    for (title, families) in chapters() {
        let _ = writeln!(page, "\n## {title}\n");
        index(&mut page, &families);
        for family in families {
            chapter(&mut page, family);
        }
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

fn bounds(page: &mut String, size: Size) {
    let limits = Limits::default();
    let _ = write!(
        page,
        "
## Bounds

`--max-processes` (default {processes}) processes and `--max-vmas` (default {vmas}) VMAs of each have series of
their own, `--detail node|process|vma` (default {detail}) says how deep it goes. With the defaults and
every slot in use that is {usual} series, of which {empty} are there without any process; at most, with
every combination of labels in use, {most}.

- What has no series of its own is counted in `vma=\"other\"` of its process (`backing=\"other\"`), or in
  `pid=\"other\"` (`comm`, `vma` and `backing` are `other`, too). With `--detail process` a process has
  only `vma=\"other\"`; with `--detail node` there are only the node's families and the agent's.
- At each collection, what was gained is added once, to the series its owner has then, and never
  moves. A VMA that is new and finds a free slot has all it counted in its series. A free slot goes
  to the busiest VMA that waits (events, those of each earlier collection weighing half); its series
  starts at 0. A series is never demoted.
- A series disappears `--linger` (default {linger} s) after the exit of its VMA; its value is added
  nowhere. Until then its counters stay and its gauges are gone. (pid, vma) is unique in every
  scrape: a new owner of the same start or pid ends a lingering series at once.
- `--track` tracks at most `--track-max` (default 8) processes, which have 8 series each, whatever the other
  bounds are, and not with `--detail node`; they disappear in the same way.
- own + other + retired = node. `retired` is in `/status`.
- A split leaves the series with the part that keeps the start. On a merge the lower start keeps
  its series, the other one exits.
",
        processes = limits.max_processes,
        vmas = limits.max_vmas,
        detail = Detail::Vma.as_str(),
        linger = limits.linger.as_secs(),
        usual = size.usual,
        empty = size.empty,
        most = size.most,
    );
}

const LABELS: &str = "
## Labels

| label | values |
|---|---|
| `pid` | process id in the initial pid namespace; `other` |
| `comm` | name of the process, fixed when its series are admitted; `other` |
| `vma` | start of the VMA in hex; `other` |
| `backing` | `anon`, `shmem`, `hugetlb`, `file`; `other` |
| `mode` | `async` (the kernel resolves), `sync` (a handler does); a VMA has the series of its own mode |
| `entry` | `pte`, `marker`, `huge` |
| `event` | `installed`, `consumed`, `dropped` |
| `level` | `pte`, `pmd`, `pud` |
| `strategy` | how a process is tracked, as in docs/strategies.md |
| `state` | `armed`, `written`; of a process that `--track` means: `tracked`, `refused`, `over_max` |
| `work` | `round` (reading and arming), `attach`, `select` (looking for processes) |
| `cause` | `fault`, `arm`, `scan`, `copy`, `fork`, `move`, `populate`, `other` |

Names, paths and cgroups can hold any byte: what is not UTF-8, and control characters, are written
`\\xNN`. Values longer than 200 bytes keep their end, after a `…`.
";

fn chapters() -> [(&'static str, Vec<&'static Family>); 5] {
    let having = |test: fn(&Family) -> bool| {
        let others = FAMILIES.iter().filter(|f| !track::is_track(f));
        others.filter(|f| test(f)).collect()
    };
    let tracked = FAMILIES.iter().filter(|f| track::is_track(f)).collect();
    [
        ("Per VMA", having(|f| f.labels.contains(&"vma"))),
        (
            "Per process",
            having(|f| f.labels.contains(&"pid") && !f.labels.contains(&"vma")),
        ),
        ("Per node", having(is_node)),
        ("Processes that are tracked (`--track`)", tracked),
        (
            "The agent itself",
            having(|f| !f.labels.contains(&"pid") && !is_node(f)),
        ),
    ]
}

fn is_node(family: &Family) -> bool {
    family.name.starts_with("uffdwp_node_") || family.kind == Kind::Histogram
}

fn index(page: &mut String, families: &[&Family]) {
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

fn labels(family: &Family) -> String {
    let quoted: Vec<String> = family.labels.iter().map(|l| format!("`{l}`")).collect();
    quoted.join(" ")
}

fn chapter(page: &mut String, family: &Family) {
    let _ = write!(
        page,
        "
### {name}

{help}

- Source: {source}.
- Exactness: {exactness}.
",
        name = family.name,
        help = family.help,
        source = family.source,
        exactness = family.exactness,
    );
    if family.kind == Kind::Histogram {
        page.push_str("- Buckets: 1e-6 * 4^n seconds, n = 0 to 12.\n");
    }
    let _ = writeln!(page, "- Example: `{}`", family.example);
}
