//! What a scrape says: valid text, the families as described, the page of them up to date.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

mod exposition;
mod full;
mod golden;
mod page;
mod text;
mod track;
