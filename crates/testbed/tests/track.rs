//! A session on a process that touches its memory as it is told: what its rounds say, compared with
//! what was done.
//!
//! Runs on the host and in guests, with every strategy that works there.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

#[path = "track/charged.rs"]
mod charged;
#[path = "track/guard.rs"]
mod guard;
#[path = "track/life.rs"]
mod life;
#[path = "track/mapping_limit.rs"]
mod mapping_limit;
#[path = "track/mappings.rs"]
mod mappings;
#[path = "track/pages.rs"]
mod pages;
#[path = "track/patience.rs"]
mod patience;
#[path = "track/retries.rs"]
mod retries;
#[path = "track/sparse.rs"]
mod sparse;
#[path = "track/tree.rs"]
mod tree;
#[path = "track/unwritable.rs"]
mod unwritable;
