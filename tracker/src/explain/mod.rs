//! Why a page was reported written, and whether it was true.
//!
//! ```text
//! explainer: a round of TrackSession, and then, in this order
//!   evidence   the kernel's events until now (source, history)
//!   passes     content of what is reported; the process may go on; content of what is not
//!   join       one answer of both for each page (pure)
//!   books      second strategy, story, findings ──► report: text, JSON, HTML (pure)
//! ```

#![forbid(unsafe_code)]

mod advice;
mod aliases;
#[cfg(test)]
mod arbitrary;
mod audit;
mod begin;
mod bell;
mod books;
mod candidates;
mod content;
mod evidence;
mod explainer;
mod freezing;
mod history;
mod join;
mod model;
mod observe;
mod passes;
mod places;
mod process;
pub(crate) mod report;
#[cfg(test)]
mod sample;
mod second;
mod settling;
mod source;
mod story;
mod symbols;
mod translate;

pub use explainer::{ExplainStep, Explainer};
pub use model::{
    AgainstFindings, AnswerTally, AuditFinding, AuditFindings, AuditKind, AuditSight, ByMapping,
    CallerThread, CauseSight, CodePlace, ExplainEnd, ExplainFindings, ExplainOptions,
    ExplainedRound, FrozenTime, HandlerWaits, MissCandidate, MissedPages, MissedRange, NamingCost,
    PageSampling, PageStory, PlaceId, ReportAnswer, ReportCause, ReportOwner, ReportVerdict,
    ReportedPages, RoundDelay, RoundFindings, SecondOnly, SightGap, StackFrame, StoryLine,
    UnknownReason, UnnamedCode, VmaFindings,
};
pub use observe::TrackerObserver;
pub use process::{ProcessExplainer, ProcessStep, ReportsAsked};
pub use second::second_strategies;
pub use source::EventHub;
pub use symbols::CodeNamer;
pub(crate) use symbols::{COMMAND as NAMING_COMMAND, worker::run as name_code};
