//! Numbers in cells, and sentences below tables.

use std::fmt::Display;

use pages::strategy::{StrategyMeans, StrategyName, verdict};
use uffd::PAGE_SIZE;

use super::tables::WorkloadTables;
use crate::compare::numbers::MeasuredSpread;
use crate::compare::order::Comparison;
use crate::print::words::{count, number, size};

/// A cell without a number: no step of the workload measures it.
pub(in crate::compare) const NOTHING: &str = "-";

/// What the columns mean, a sentence each.
pub(super) const LEGEND: &[&str] = &[
    "Sizes and faults: of the untracked process in the first row, and below it what a strategy \
     adds. Page tables are VmPTE, the sum of all levels: in the end, and those that arming alone \
     took (`tracker agent` counts each level). Memory is anonymous memory, shmem and hugetlb of \
     the process; tracker is that of tracker.",
    "Pages: those that changed in the first row; below it those reported, false positives (did not \
     change) and false negatives (changed, not reported), summed up over all rounds, of the run \
     that has most. The workload knows what changed; hash finds it out by content.",
    "Times: of the untracked process in the first row; below it ratios to the untracked run of the \
     same turn, as median (least-most). First touch: a page that is not mapped. Write: the first \
     to an armed page. Clean, dirty: a round in which nothing happened, and the one after the work \
     that takes longest. hash and prefault touch pages themselves, which the work then finds \
     there. \"-\": the workload does nothing of the kind.",
];

/// A size in bytes.
pub(super) fn bytes(bytes: u64) -> String {
    size(bytes as f64 / PAGE_SIZE as f64)
}

/// More or fewer bytes: `+2 MiB`, `+0`, `-4 KiB`.
pub(super) fn more_bytes(more: i64) -> String {
    match more {
        0 => "+0".to_owned(),
        1.. => format!("+{}", bytes(more.unsigned_abs())),
        _ => format!("-{}", bytes(more.unsigned_abs())),
    }
}

/// More or fewer of something.
pub(in crate::compare) fn more(more: i64) -> String {
    let number = crate::print::words::number(more.unsigned_abs());
    if more < 0 {
        format!("-{number}")
    } else {
        format!("+{number}")
    }
}

/// A time of so many nanoseconds, in three digits.
pub(in crate::compare) fn time(nanoseconds: f64) -> String {
    const UNITS: [(&str, f64); 3] = [("s", 1e9), ("ms", 1e6), ("us", 1e3)];
    let found = UNITS.iter().find(|(_, unit)| nanoseconds >= *unit);
    let (name, unit) = found.copied().unwrap_or(("ns", 1.0));
    format!("{} {name}", digits(nanoseconds / unit))
}

/// A median time.
pub(in crate::compare) fn median_time(spread: Option<MeasuredSpread>) -> String {
    spread.map_or_else(|| NOTHING.to_owned(), |spread| time(spread.median))
}

/// A ratio with its spread: `1.52 (1.4-1.6)`.
pub(in crate::compare) fn ratio(spread: Option<MeasuredSpread>) -> String {
    let text = |spread: MeasuredSpread| {
        let [median, least, most] = [spread.median, spread.least, spread.most].map(digits);
        format!("{median} ({least}-{most})")
    };
    spread.map_or_else(|| NOTHING.to_owned(), text)
}

/// Three digits, or all before the point.
fn digits(number: f64) -> String {
    match number {
        ..0.0995 => format!("{number:.3}"),
        ..9.995 => format!("{number:.2}"),
        ..99.95 => format!("{number:.1}"),
        _ => format!("{number:.0}"),
    }
}

/// What a comparison was made of.
pub(super) fn headline(comparison: &Comparison) -> String {
    let runs = comparison
        .workloads
        .iter()
        .flat_map(|compared| &compared.sizes);
    let runs = runs.map(|size| size.untracked.len());
    let (least, most) = (runs.clone().min().unwrap_or(0), runs.max().unwrap_or(0));
    let often = if least == most {
        count(most, "run")
    } else {
        format!("{least} to {}", count(most, "run"))
    };
    format!(
        "Kernel {}; {}, {often} of each, in turns with untracked ones; each run is a process of \
         its own.",
        comparison.kernel,
        count(comparison.workloads.len(), "workload"),
    )
}

/// What each strategy is, and what stands against it.
pub(super) fn strategies(comparison: &Comparison) -> Vec<(String, String)> {
    let kernel = &comparison.facts.behaviour;
    let means = StrategyMeans::from_outside(&comparison.facts);
    let about = |name: &StrategyName| {
        let verdict = verdict(*name, &comparison.facts, means);
        let refused = if verdict.works { "" } else { "not here: " };
        let limits = name
            .limits(kernel)
            .into_iter()
            .map(|limit| limit.to_string());
        let stands = name.stands_for().map(|what| format!("stands for {what}"));
        let all: Vec<_> = [
            name.merit().to_owned(),
            format!("{refused}{}", verdict.reason),
        ]
        .into_iter()
        .chain(limits)
        .chain(stands)
        .collect();
        (name.to_string(), all.join("; "))
    };
    comparison.strategies.iter().map(about).collect()
}

/// That pages were reported because nobody knows.
pub(in crate::compare) fn in_doubt(name: impl Display, pages: u64) -> String {
    let pages = number(pages);
    format!("{name}: events were lost in a run, so {pages} pages were reported without knowing")
}

/// What is to be said of some rows, and why some strategies have none, a sentence each. Those that
/// work for no memory here are named; the reason stands once, with what each strategy is.
pub(super) fn remarks(comparison: &Comparison, shown: &WorkloadTables) -> Vec<String> {
    let means = StrategyMeans::from_outside(&comparison.facts);
    let works = |name: StrategyName| verdict(name, &comparison.facts, means).works;
    let (told, never): (Vec<_>, Vec<_>) = shown
        .not_measured
        .iter()
        .partition(|(name, _)| works(*name));
    let one = |(name, why): &(StrategyName, String)| format!("{name} not measured: {why}");
    let doubts = shown.in_doubt.iter();
    let mut lines: Vec<_> = doubts.map(|(name, pages)| in_doubt(name, *pages)).collect();
    lines.extend(told.into_iter().map(one));
    if !never.is_empty() {
        let names: Vec<_> = never.iter().map(|(name, _)| name.to_string()).collect();
        lines.push(format!(
            "{} not measured: not here, as told below",
            names.join(", ")
        ));
    }
    lines.extend(
        shown
            .nothing
            .iter()
            .map(|why| format!("not measured: {why}")),
    );
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits() {
        let times = [950.0, 1_417.0, 6_800_000.0, 123_000_000.0, 2e9].map(time);
        assert_eq!(times, ["950 ns", "1.42 us", "6.80 ms", "123 ms", "2.00 s"]);
        assert_eq!(
            [0, 2 << 20, -4096].map(more_bytes),
            ["+0", "+2 MiB", "-4 KiB"]
        );
        let spread = MeasuredSpread {
            least: 1.4,
            median: 1.519,
            most: 12.25,
        };
        assert_eq!(ratio(Some(spread)), "1.52 (1.40-12.2)");
        assert_eq!(ratio(None), NOTHING);
    }
}
