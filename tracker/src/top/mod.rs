//! `tracker top`: who uses uffd-wp on a node, at this moment, on a screen.
//!
//! The agent serves a [`NodeUsage`] at `/processes`; [`ask`] fetches it, [`rates`] makes two of them
//! into rows, [`state`] is what keys change, and [`screen`] draws.
#![forbid(unsafe_code)]

pub(crate) mod ask;
pub(crate) mod columns;
mod detail;
pub(crate) mod once;
pub(crate) mod rates;
pub(crate) mod run;
mod screen;
mod state;
pub(crate) mod usage;
