//! What the eBPF programs and the agent share: the catalogue of hooks, of kernel fields and of
//! kernel numbers, and the layout of the shared maps.
//!
//! What lies in the maps is `repr(C)`, free of padding and of dependencies, so that both sides see
//! the same bytes. Counters are cumulative; only the kernel side adds to them.
#![no_std]

mod call;
mod event;
mod fields;

#[macro_use]
mod hooks;
mod hook_id;
pub mod kernel;
mod layout;
mod marks;
mod numbered;
mod page_bits;
mod values;

pub use call::*;
pub use event::*;
pub use fields::*;
pub use hook_id::*;
pub use layout::*;
pub use marks::*;
pub use page_bits::*;
pub use values::*;
