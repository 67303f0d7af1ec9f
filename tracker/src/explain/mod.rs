//! Why a page was reported written, and whether it was true.
//!
//! ```text
//! track::Session --> what is reported ─┐
//! content: images of pages ────────────┼──► verdict, cause (pure) ──► findings ──► report
//! events: the kernel's, ring buffer ───┘
//! ```

mod advice;
mod against;
#[cfg(test)]
mod arbitrary;
mod candidates;
mod findings;
mod history;
mod images;
mod join;
mod model;
mod places;
pub(crate) mod report;
#[cfg(test)]
mod sample;
mod session;
mod source;
mod start;
mod story;
mod symbols;
mod translate;

pub use against::second_strategies;
pub use model::{
    AgainstFindings, AnswerTally, CauseSight, CodePlace, EventMeaning, ExplainFindings,
    ExplainOptions, ExplainedRound, MissCandidate, MissedPages, PageEvent, PageSampling, PageStory,
    PlaceId, ReportAnswer, ReportCause, ReportVerdict, ReportedPages, RoundFindings, SecondOnly,
    StackFrame, StoryLine, UnknownReason, VmaFindings,
};
pub use session::{ExplainStep, Explainer};
pub use source::EventHub;
