//! The running agent: discovery, collection, background scan, http, life cycle.

mod config;
mod error;
pub mod http;
mod pace;
mod stop;

pub use config::{Config};
pub use error::AgentError;
