//! Facts about the running kernel and about what this process may do on it.
//!
//! Nothing here decides: `probes` decides which hooks to attach, and how. Everything is a pure
//! function of captured bytes (BTF, kallsyms, files of /proc and /sys), so that it can be tested
//! with the bytes of kernels that are not at hand.

pub mod btf;
pub(crate) mod capabilities;
mod config;
pub mod facts;
pub mod inputs;
mod kallsyms;
pub mod lockdown;
pub(crate) mod mounts;
mod name_index;
pub mod offsets;
pub mod switches;
mod sysctl;
mod tracefs;

pub use facts::KernelFacts;
pub use offsets::FieldOffsets;
