//! What `tracker explain` shows while it goes on, and what at the end.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal as _, Write};

use pages::track::TrackHeader;

use crate::cli::output::{
    CommandOutputs, OutputEntry, PrintTarget, SinkState, WholeMaker, print_rounds,
};
use crate::explain::report::{self, ExplainReports};
use crate::explain::{ExplainFindings, MissedRange, ReportOwner, RoundFindings};
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
                end: |reports| Ok(report::text::with_stories(reports).into_bytes()),
            },
        },
        OutputEntry {
            format: &format::JSON,
            help: "Print one JSON object a line: a header, the rounds as they are made with what \
                   each missed; at the end VMAs by verdict and cause, stacks, top writers, a \
                   summary",
            make: ExplainMaker {
                rounds: Some(RoundMakers {
                    header: |header, findings| Ok(report::json::header(header, findings)?),
                    round: |owner, round, missed| Ok(report::json::round(owner, round, missed)?),
                }),
                end: |reports| Ok(report::json::rest_of_all(reports)?.into_bytes()),
            },
        },
        OutputEntry {
            format: &format::HTML,
            help: "Write a report with pictures to this file, too; it must not exist",
            make: ExplainMaker {
                rounds: None,
                end: |reports| Ok(report::html::page(reports)?.into_bytes()),
            },
        },
    ];
}

/// How findings become one of the formats.
#[derive(Clone, Copy)]
pub(super) struct ExplainMaker {
    /// What is shown while it goes on, if anything is.
    pub rounds: Option<RoundMakers>,
    end: fn(&ExplainReports<'_>) -> anyhow::Result<Vec<u8>>,
}

type RoundMaker = fn(ReportOwner, &RoundFindings, &[MissedRange]) -> anyhow::Result<String>;

/// How rounds are shown as they are made.
#[derive(Clone, Copy)]
pub(super) struct RoundMakers {
    /// What comes first.
    header: fn(&TrackHeader, &ExplainFindings) -> anyhow::Result<String>,
    /// A round, with what it missed.
    round: RoundMaker,
}

impl<'a> WholeMaker<ExplainReports<'a>> for ExplainMaker {
    fn make(self, reports: &ExplainReports<'a>) -> anyhow::Result<Vec<u8>> {
        (self.end)(reports)
    }
}

/// Shows rounds as they are made: to programs that asked for it, and to people who wait.
pub(super) struct ShownRounds {
    printed: Option<(RoundMakers, Box<dyn Write>)>,
    /// What was shown of the reports of each tracker.
    shown: BTreeMap<ReportOwner, ShownReports>,
    is_watched: bool,
}

/// What was shown of the reports of one tracker.
#[derive(Default)]
struct ShownReports {
    /// Rounds.
    rounds: usize,
    /// Ranges of missed pages.
    missed: usize,
}

/// How the header of findings is told.
type ToldHeader<'a> = dyn Fn(TrackHeader) -> TrackHeader + 'a;

impl ShownRounds {
    /// Shows nothing yet.
    pub(super) fn new(makers: Option<RoundMakers>, target: PrintTarget) -> Self {
        let out: Box<dyn Write> = match target {
            PrintTarget::Ours => Box::new(io::stdout()),
            PrintTarget::Beside => Box::new(io::stderr()),
        };
        Self {
            printed: makers.zip(Some(out)),
            shown: BTreeMap::new(),
            is_watched: io::stderr().is_terminal(),
        }
    }

    /// Shows what is new: headers of findings that were not there before, and their newest rounds.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(super) fn show<'a>(
        &mut self,
        findings: impl Iterator<Item = &'a ExplainFindings>,
        told: &ToldHeader<'_>,
    ) -> anyhow::Result<SinkState> {
        let mut state = SinkState::Open;
        for findings in findings {
            if !self.shown.contains_key(&findings.owner) {
                self.header(findings, &told(findings.header.clone()))?;
            }
            if self.round(findings)? == SinkState::Closed {
                state = SinkState::Closed;
            }
        }
        Ok(state)
    }

    fn header(&mut self, findings: &ExplainFindings, header: &TrackHeader) -> anyhow::Result<()> {
        if self.is_watched {
            if self.shown.is_empty() {
                say(format_args!("{}", report::live::begin(header)));
                say(format_args!("{}", report::live::head()));
            }
            say(format_args!("{}", report::live::owner(findings)));
        }
        self.shown.insert(findings.owner, ShownReports::default());
        if let Some((makers, out)) = &mut self.printed {
            print_rounds(&mut **out, &(makers.header)(header, findings)?)?;
        }
        Ok(())
    }

    /// Shows the newest round.
    fn round(&mut self, findings: &ExplainFindings) -> anyhow::Result<SinkState> {
        let shown = self.shown.entry(findings.owner).or_default();
        let rounds = findings.rounds.len();
        let Some(round) = findings.rounds.last().filter(|_| rounds > shown.rounds) else {
            return Ok(SinkState::Open);
        };
        shown.rounds = rounds;
        if self.is_watched {
            say(format_args!(
                "{}",
                report::live::line(findings.owner, round)
            ));
        }
        let missed = findings.missed.get(shown.missed..).unwrap_or_default();
        shown.missed = findings.missed.len();
        match &mut self.printed {
            Some((makers, out)) => {
                let text = (makers.round)(findings.owner, round, missed)?;
                print_rounds(&mut **out, &text)
            }
            None => Ok(SinkState::Open),
        }
    }
}
