//! The books: rules one by one, and what holds whatever happens.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

mod machine;
mod properties;
mod rules;
