//! What the agent knows: processes, VMAs and their counters. Views read this, never the kernel.

pub mod sample;
pub mod signal;
