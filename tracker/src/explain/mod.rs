//! Why a page was reported written, and whether it was true.
//!
//! ```text
//! track::Session --> what is reported ─┐
//! content: images of pages ────────────┼──► verdict, cause (pure) ──► findings ──► report: text, JSON, HTML
//! events: the kernel's, ring buffer ───┘
//! ```

pub mod advice;
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
pub mod report;
#[cfg(test)]
mod sample;
mod session;
mod source;
mod start;
mod story;
pub mod symbols;
mod translate;

pub use against::OFFERED as AGAINST;
pub use findings::pages_of;
pub use model::{
    AgainstFindings, Candidate, Cause, Event, Explained, Findings, Frame, Meaning, Missed,
    OnlyThere, Options, Place, PlaceId, Reason, Reported, RoundLine, Sampling, Seen, Story,
    StoryLine, Tally, Verdict, VmaFindings, Why,
};
pub use session::{Explainer, Step};
pub use source::Hub;
pub use symbols::Symbols;
