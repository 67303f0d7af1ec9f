//! The ABI between the eBPF programs and the agent: what lies in the shared maps.
//!
//! Everything here is `repr(C)`, free of padding and of dependencies, so that both sides see the
//! same bytes. Counters are cumulative; only the kernel side adds to them.
#![no_std]

mod constants;
mod event;
mod layout;
pub use constants::*;
pub use event::*;
pub use layout::*;
