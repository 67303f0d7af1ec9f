//! The columns of the heat map.

use std::time::Duration;

use super::{HeatRound, sum};

/// One or more rounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct HeatColumn {
    /// Since the first arming.
    pub from: Duration,
    /// Since the first arming.
    pub until: Duration,
    /// Pages a second.
    pub rate: f64,
}

/// A column for every `together` rounds. Each begins where the one before ended, whatever the
/// rounds claim.
pub(super) fn columns(rounds: &[HeatRound], together: usize) -> Vec<HeatColumn> {
    let mut from = rounds
        .first()
        .map_or(Duration::ZERO, |r| r.at.saturating_sub(r.lasted));
    let column = |group: &[HeatRound]| {
        let at = group.iter().map(|r| r.at).max().unwrap_or_default();
        let until = at.max(from);
        let open = group
            .iter()
            .map(|r| r.lasted)
            .fold(Duration::ZERO, Duration::saturating_add);
        let column = HeatColumn {
            from,
            until,
            rate: rate(sum(group.iter().map(|r| r.pages)), open),
        };
        from = until;
        column
    };
    rounds.chunks(together).map(column).collect()
}

/// Pages a second; 0 over no time.
pub(crate) fn rate(pages: u64, time: Duration) -> f64 {
    let seconds = time.as_secs_f64();
    if seconds > 0.0 {
        pages as f64 / seconds
    } else {
        0.0
    }
}
