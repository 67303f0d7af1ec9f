//! Which pages of any process were written: strategies to track them, a userfaultfd of a process
//! that does not cooperate, and sessions that follow a process round by round.
//!
//! ```text
//! inject: a userfaultfd of the target --\
//! strategy: the best way that works ------> track: rounds until the process ends
//! ```

// Only the leaves, where they are declared, allow it: ptrace(2), mprotect(2), the target's memory.
#![deny(unsafe_code)]
#![warn(missing_docs, unreachable_pub)]
#![warn(clippy::missing_errors_doc, clippy::missing_safety_doc)]

mod cgroup;
pub mod inject;
pub mod strategy;
pub mod track;
