//! Times batches of events, and prints what one event takes.

use std::io::Write as _;
use std::ops::Range;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

/// Pages per batch: few enough that most batches end before the next timer tick, which would count
/// as theirs.
pub const PAGES: u64 = 64;

/// Batches per kind of event: so many that the median is not a batch with a timer tick.
const BATCHES: usize = 33;

/// Runs batches, which return how many events took how long, and prints the time of one event.
pub fn event(name: &str, mut batch: impl FnMut() -> Result<(u64, Duration)>) -> Result<()> {
    let mut each = Vec::with_capacity(BATCHES);
    for _ in 0..BATCHES {
        let (events, took) = batch().with_context(|| format!("measuring {name}"))?;
        each.push(took.as_nanos() as f64 / events.max(1) as f64);
    }
    let value = median(&mut each);
    writeln!(std::io::stdout(), "measured {name} {value:.1}").context("cannot print")
}

/// How many `pages` there are, and how long `work` on all of them takes.
pub fn of_pages(pages: Range<u64>, mut work: impl FnMut(u64)) -> (u64, Duration) {
    let events = pages.end - pages.start;
    let began = Instant::now();
    for page in pages {
        work(page);
    }
    (events, began.elapsed())
}

/// `events`, and how long the one call takes that makes them.
pub fn at_once<T, E>(
    events: u64,
    call: impl FnOnce() -> std::result::Result<T, E>,
) -> Result<(u64, Duration)>
where
    anyhow::Error: From<E>,
{
    let began = Instant::now();
    call()?;
    Ok((events, began.elapsed()))
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_slow_batch_does_not_move_the_median() {
        assert_eq!(median(&mut [3.0, 900.0, 2.0, 1.0, 3.0]), 3.0);
        assert_eq!(median(&mut []), 0.0);
    }

    #[test]
    fn every_page_is_one_event() {
        let mut seen = Vec::new();
        let (events, _) = of_pages(1..PAGES, |page| seen.push(page));
        assert_eq!((events, seen.len() as u64), (PAGES - 1, PAGES - 1));
    }
}
