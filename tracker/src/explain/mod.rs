//! Why a page was reported written, and whether it was true.
//!
//! ```text
//! track::Session --> what is reported ─┐
//! content: images of pages ────────────┼──► verdict, cause (pure) ──► findings ──► report: text, JSON, HTML
//! events: the kernel's, ring buffer ───┘
//! ```

pub mod advice;
#[cfg(test)]
mod arbitrary;
mod model;
pub mod report;
#[cfg(test)]
mod sample;
pub mod symbols;

pub use model::{
    Candidate, Cause, Event, Explained, Findings, Frame, Meaning, Missed, Options, Place, PlaceId,
    Reason, Reported, RoundLine, Sampling, Seen, Story, StoryLine, Tally, Verdict, VmaFindings,
    Why,
};
pub use symbols::Symbols;
