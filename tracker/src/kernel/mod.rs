//! Facts about the running kernel and about what this process may do on it.
//!
//! Nothing here decides: which hooks to attach and how is for `probes`. Everything is a pure
//! function of captured bytes (BTF, kallsyms, files of /proc and /sys), so that it is tested on
//! kernels that nobody here runs.

pub mod btf;
pub(crate) mod capabilities;
mod config;
pub mod facts;
pub mod inputs;
mod kallsyms;
pub mod lockdown;
mod mounts;
mod name_index;
pub mod offsets;
mod sysctl;
mod tracefs;

pub use facts::KernelFacts;
pub use offsets::FieldOffsets;
