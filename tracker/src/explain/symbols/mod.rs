//! From addresses of code to names: functions, lines, files.
//!
//! A process may end, execute another program or unmap its code at any time: what cannot be named
//! then is shown as an address. Nothing here fails.

mod code;
mod kernel;
mod process;
mod syscall;

use std::collections::HashMap;

use super::StackFrame;
use kernel::KernelSymbols;
use process::ProcessSymbols;
pub(super) use syscall::syscall_name;

/// Names code of processes and of the kernel. What was asked for once is remembered.
///
/// It stays with the thread that made it: what blazesym remembers is not shared between threads.
#[derive(Default)]
pub(super) struct CodeSymbols {
    processes: HashMap<u32, ProcessSymbols>,
    kernel: KernelSymbols,
}

impl CodeSymbols {
    /// Reads nothing yet.
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// Reads which code a process has mapped, so that what lies in files we can open has names even
    /// after its end.
    pub(super) fn watch(&mut self, pid: u32) {
        self.process(pid).look();
    }

    /// A user stack of a process, the innermost address first. A function that was inlined is a
    /// frame of its own.
    pub(super) fn user(&mut self, pid: u32, stack: &[u64]) -> Vec<StackFrame> {
        let process = self.process(pid);
        instructions(stack)
            .flat_map(|at| process.frames(at))
            .collect()
    }

    /// A kernel stack, the innermost address first.
    pub(super) fn kernel(&mut self, stack: &[u64]) -> Vec<StackFrame> {
        instructions(stack)
            .flat_map(|at| self.kernel.frames(at))
            .collect()
    }

    /// Forgets a process: it has executed another program, or has ended.
    pub(super) fn forget(&mut self, pid: u32) {
        self.processes.remove(&pid);
    }

    fn process(&mut self, pid: u32) -> &mut ProcessSymbols {
        self.processes
            .entry(pid)
            .or_insert_with(|| ProcessSymbols::new(pid))
    }
}

/// An address of a stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct CodeAddress {
    /// As it stands in the stack.
    address: u64,
    /// The instruction it is about: a return address is that of the next one, which may belong to
    /// another line or function.
    instruction: u64,
}

fn instructions(stack: &[u64]) -> impl Iterator<Item = CodeAddress> {
    let at = |(i, address): (usize, &u64)| CodeAddress {
        address: *address,
        instruction: address.saturating_sub(u64::from(i > 0)),
    };
    stack.iter().enumerate().map(at)
}

#[cfg(test)]
mod tests;
