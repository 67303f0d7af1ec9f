//! Stacks, interned: the same way to the same instruction is one place.

use std::collections::{BTreeMap, HashMap};

use super::model::{CodePlace, PlaceId, StackFrame};
use super::symbols::Symbols;

/// A stack as the kernel tells it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Stack {
    /// Innermost first; the instruction itself is the first.
    pub user: Box<[u64]>,
    /// Innermost first.
    pub kernel: Box<[u64]>,
    /// [`tracker_ebpf::NO_SYSCALL`]: none.
    pub syscall: u32,
}

/// The places of a process.
#[derive(Default)]
pub struct Places {
    ids: HashMap<Stack, PlaceId>,
    /// Not yet symbolised.
    new: Vec<(PlaceId, Stack)>,
    next: u32,
}

/// More places than these are told apart by their instruction only. Stacks of programs without frame pointers end
/// anywhere.
const MANY: usize = 1 << 14;

impl Places {
    /// The place of a stack.
    pub fn intern(&mut self, mut stack: Stack) -> PlaceId {
        if self.ids.len() >= MANY {
            stack.user = stack.user.iter().take(1).copied().collect();
            stack.kernel = Box::default();
        }
        if let Some(id) = self.ids.get(&stack) {
            return *id;
        }
        let id = PlaceId(self.next);
        self.next += 1;
        self.new.push((id, stack.clone()));
        self.ids.insert(stack, id);
        id
    }

    /// Another address space: the same addresses are other code from here on.
    pub fn forget(&mut self) {
        self.ids.clear();
    }

    /// Symbolises those of the new ones that are wanted, while the process is there.
    pub fn symbolise(
        &mut self,
        pid: u32,
        symbols: &mut Symbols,
        wanted: impl Fn(PlaceId) -> bool,
        into: &mut BTreeMap<PlaceId, CodePlace>,
    ) {
        for (id, stack) in self.new.extract_if(.., |(id, _)| wanted(*id)) {
            let syscall = (stack.syscall != tracker_ebpf::NO_SYSCALL)
                .then(|| super::symbols::syscall(stack.syscall.into()));
            let mut user = symbols.user(pid, &stack.user);
            // What is in no file and no function is no code: the kernel follows frame pointers, which the code above
            // may not keep.
            let astray = |frame: &StackFrame| frame.function.is_empty() && frame.module.is_empty();
            if let Some(at) = user.iter().skip(1).position(astray) {
                user.truncate(at + 1);
            }
            let place = CodePlace {
                user,
                kernel: symbols.kernel(&stack.kernel),
                syscall,
            };
            into.insert(id, place);
        }
    }
}
