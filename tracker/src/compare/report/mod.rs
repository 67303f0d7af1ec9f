//! What was compared, for people and for programs: pure.
//!
//! [`tables`] has the rows, [`text`] and [`markdown`] put words around them, [`json`] has all
//! numbers, [`picture`] draws cost against error and how cost grows.

pub(crate) mod json;
pub(crate) mod markdown;
pub(crate) mod picture;
pub(super) mod tables;
pub(crate) mod text;
pub(super) mod words;
