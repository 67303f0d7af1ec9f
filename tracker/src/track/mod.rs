//! What tracking a process came to, for people and programs: JSON, recordings, reports.
//!
//! `pages::track` makes the rounds; this shows and keeps them.

#[cfg(test)]
pub(crate) mod arbitrary;
pub mod clock;
pub mod json;
pub mod recording;
pub mod report;
#[cfg(test)]
pub(crate) mod sample;
