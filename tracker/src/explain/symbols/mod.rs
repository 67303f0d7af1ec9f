//! From addresses of code to names: functions, lines, files.
//!
//! A process may end, execute another program or unmap its code at any time: what cannot be named then is shown as an
//! address. Nothing here fails.

mod code;
mod kernel;
mod process;
mod syscall;

use std::collections::HashMap;

use super::StackFrame;
use kernel::Kernel;
use process::Process;

pub use syscall::name as syscall;

/// Names code of processes and of the kernel. What was asked for once is remembered.
///
/// It stays with the thread that made it: what blazesym remembers is not shared between threads.
#[derive(Default)]
pub struct Symbols {
    processes: HashMap<u32, Process>,
    kernel: Kernel,
}

impl Symbols {
    /// Reads nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads which code a process has mapped, so that what lies in files we can open is named also after its end.
    pub fn watch(&mut self, pid: u32) {
        self.process(pid).look();
    }

    /// A user stack of a process, the innermost address first. A function that was inlined is a frame of its own.
    pub fn user(&mut self, pid: u32, stack: &[u64]) -> Vec<StackFrame> {
        let process = self.process(pid);
        instructions(stack)
            .flat_map(|at| process.frames(at))
            .collect()
    }

    /// A kernel stack, the innermost address first.
    pub fn kernel(&mut self, stack: &[u64]) -> Vec<StackFrame> {
        instructions(stack)
            .flat_map(|at| self.kernel.frames(at))
            .collect()
    }

    /// Forgets a process: it executed another program, or has ended.
    pub fn forget(&mut self, pid: u32) {
        self.processes.remove(&pid);
    }

    fn process(&mut self, pid: u32) -> &mut Process {
        self.processes
            .entry(pid)
            .or_insert_with(|| Process::new(pid))
    }
}

/// An address of a stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct At {
    /// As it stands in the stack.
    address: u64,
    /// The instruction it is about: a return address is that of the next one, which may be another line or function.
    instruction: u64,
}

fn instructions(stack: &[u64]) -> impl Iterator<Item = At> {
    let at = |(i, address): (usize, &u64)| At {
        address: *address,
        instruction: address.saturating_sub(u64::from(i > 0)),
    };
    stack.iter().enumerate().map(at)
}

#[cfg(test)]
mod tests;
