//! What `tracker explain` shows while it goes on, and what at the end.

use std::io::{self, IsTerminal as _, Write};

use pages::track::TrackHeader;

use crate::cli::output::{
    CommandOutputs, OutputEntry, PrintTarget, SinkState, WholeMaker, print_rounds,
};
use crate::explain::report::{self, ExplainReport};
use crate::explain::{ExplainFindings, MissedRange, RoundFindings};
use crate::logging::say;
use crate::print::format;

/// What `tracker explain` can show.
pub(super) struct ExplainOutputs;

impl CommandOutputs for ExplainOutputs {
    type OutputMaker = ExplainMaker;

    const OUTPUTS: &'static [OutputEntry<ExplainMaker>] = &[
        OutputEntry {
            format: &format::TEXT,
            help: "",
            make: ExplainMaker {
                rounds: None,
                end: |report| Ok(report::text::with_story(report).into_bytes()),
            },
        },
        OutputEntry {
            format: &format::JSON,
            help: "Print one JSON object a line: a header, the rounds as they are made with what \
                   each missed; at the end VMAs by verdict and cause, stacks, top writers, a \
                   summary",
            make: ExplainMaker {
                rounds: Some(RoundMakers {
                    header: |header, findings| {
                        let (seen, sampling) = (&findings.seen, findings.sampling);
                        Ok(report::json::header(header, seen, sampling)?)
                    },
                    round: |round, missed| Ok(report::json::round(round, missed)?),
                }),
                end: |report| Ok(report::json::rest(report)?.into_bytes()),
            },
        },
        OutputEntry {
            format: &format::HTML,
            help: "Write a report with pictures to this file, too; it must not exist",
            make: ExplainMaker {
                rounds: None,
                end: |report| Ok(report::html::page(report)?.into_bytes()),
            },
        },
    ];
}

/// How findings become one of the formats.
#[derive(Clone, Copy)]
pub(super) struct ExplainMaker {
    /// What is shown while it goes on, if anything is.
    pub rounds: Option<RoundMakers>,
    end: fn(&ExplainReport<'_>) -> anyhow::Result<Vec<u8>>,
}

type RoundMaker = fn(&RoundFindings, &[MissedRange]) -> anyhow::Result<String>;

/// How rounds are shown as they are made.
#[derive(Clone, Copy)]
pub(super) struct RoundMakers {
    /// What comes first.
    header: fn(&TrackHeader, &ExplainFindings) -> anyhow::Result<String>,
    /// A round, with what it missed.
    round: RoundMaker,
}

impl<'a> WholeMaker<ExplainReport<'a>> for ExplainMaker {
    fn make(self, report: &ExplainReport<'a>) -> anyhow::Result<Vec<u8>> {
        (self.end)(report)
    }
}

/// Shows rounds as they are made: to programs that asked for it, and to people who wait.
pub(super) struct ShownRounds {
    printed: Option<(RoundMakers, Box<dyn Write>)>,
    /// Ranges of missed pages that were shown.
    missed: usize,
    is_watched: bool,
}

impl ShownRounds {
    /// Shows the header.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(super) fn begin(
        makers: Option<RoundMakers>,
        target: PrintTarget,
        header: &TrackHeader,
        findings: &ExplainFindings,
    ) -> anyhow::Result<Self> {
        let out: Box<dyn Write> = match target {
            PrintTarget::Ours => Box::new(io::stdout()),
            PrintTarget::Beside => Box::new(io::stderr()),
        };
        let mut shown = Self {
            printed: makers.zip(Some(out)),
            missed: 0,
            is_watched: io::stderr().is_terminal(),
        };
        if shown.is_watched {
            say(format_args!(
                "Explaining process {} ({}), tracked with {}; Ctrl-C ends it and prints the \
                 report.",
                header.pid, header.comm, header.strategy
            ));
            say(format_args!("{}", report::live::head()));
        }
        if let Some((makers, out)) = &mut shown.printed {
            print_rounds(&mut **out, &(makers.header)(header, findings)?)?;
        }
        Ok(shown)
    }

    /// Shows the newest round.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(super) fn round(&mut self, findings: &ExplainFindings) -> anyhow::Result<SinkState> {
        let Some(round) = findings.rounds.last() else {
            return Ok(SinkState::Open);
        };
        if self.is_watched {
            say(format_args!("{}", report::live::line(round)));
        }
        let missed = findings.missed.get(self.missed..).unwrap_or_default();
        self.missed = findings.missed.len();
        match &mut self.printed {
            Some((makers, out)) => print_rounds(&mut **out, &(makers.round)(round, missed)?),
            None => Ok(SinkState::Open),
        }
    }
}
