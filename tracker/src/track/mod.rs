//! What tracking a process came to, for people and programs: JSON, recordings, reports.
//!
//! `pages::track` makes the rounds; this shows and keeps them.

#[cfg(test)]
pub(crate) mod arbitrary;
pub(crate) mod json;
pub mod recording;
pub(crate) mod report;
#[cfg(test)]
pub(crate) mod sample;
