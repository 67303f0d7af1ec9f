//! When rounds are made, how many, and of which mappings: the same flags for every command that
//! makes some.

use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, value_parser};
use pages::track::{TrackEnd, TrackHeader};

use super::pace::{PaceWake, RoundPace};
use super::values;
use crate::explain::ExplainEnd;

/// The rounds of a process.
#[derive(Args, Debug)]
pub(crate) struct RoundsArgs {
    /// Time from one round to the next
    #[arg(
        long,
        short,
        env = "TRACKER_INTERVAL",
        default_value = "1s",
        value_name = "TIME"
    )]
    #[arg(value_parser = values::duration)]
    pub interval: Duration,
    /// End after this time
    #[arg(long, short, env = "TRACKER_DURATION", value_name = "TIME")]
    #[arg(value_parser = values::duration)]
    duration: Option<Duration>,
    /// End after this many rounds
    #[arg(long, short = 'n', env = "TRACKER_ROUNDS", value_name = "N")]
    #[arg(value_parser = value_parser!(u64).range(1..))]
    rounds: Option<u64>,
    /// Pass over mappings larger than this, with strategies that take memory for every page, there
    /// or not: 2 MiB for each GiB in the page tables of the process (markers, sync, prefault), or
    /// in tracker (hash). The tables are charged to tracker's control group: a mapping that would
    /// take more than half of what that has left is passed over, too
    #[arg(
        long,
        env = "TRACKER_MAX_MAPPING",
        default_value = "128GiB",
        value_name = "SIZE"
    )]
    #[arg(value_parser = values::size)]
    pub max_mapping: u64,
    /// Tell the arguments of the process, too, not only its program: they may hold secrets
    #[arg(long, env = "TRACKER_ARGUMENTS")]
    arguments: bool,
}

impl RoundsArgs {
    /// Their pace. From here on signals are noted, so that they end tracker in order.
    pub(crate) fn pace(&self) -> anyhow::Result<RoundPace> {
        RoundPace::new(self.interval, self.duration).context("cannot wait for signals")
    }

    /// Leaves the arguments of the process out, unless they were asked for.
    pub(crate) fn tell_arguments(&self, header: &mut TrackHeader) {
        if !self.arguments {
            header.command.truncate(1);
        }
    }

    /// Why explaining ended, beside what was asked for.
    pub(crate) const fn ended(&self, why: TrackEnd) -> ExplainEnd {
        ExplainEnd {
            why,
            rounds: self.rounds,
            duration: self.duration,
        }
    }

    /// Why tracking ends after so many rounds, of which this ended the last wait; `None`: it goes
    /// on.
    pub(crate) fn end(&self, wake: PaceWake, rounds: u64) -> Option<TrackEnd> {
        match wake {
            PaceWake::Signal => Some(TrackEnd::Interrupted),
            PaceWake::Over => Some(TrackEnd::Done),
            PaceWake::Tick | PaceWake::Early | PaceWake::Exit => {
                (self.rounds == Some(rounds)).then_some(TrackEnd::Done)
            }
        }
    }
}
