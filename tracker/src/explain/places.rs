//! Stacks, interned: the same way to the same instruction is one place.

use std::collections::{BTreeMap, HashMap};

use super::model::{CodePlace, PlaceId, StackFrame};
use super::symbols::{self, CodeSymbols};

/// A stack as the kernel tells it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct RawStack {
    /// Innermost first; the instruction itself is the first.
    pub user: Box<[u64]>,
    /// Innermost first.
    pub kernel: Box<[u64]>,
    /// [`tracker_ebpf::NO_SYSCALL`] if there is none.
    pub syscall: u32,
}

/// The places of a process.
#[derive(Default)]
pub(super) struct PlaceInterner {
    ids: HashMap<RawStack, PlaceId>,
    /// Not yet symbolised.
    new: Vec<(PlaceId, RawStack)>,
    next: u32,
}

/// More places than these are told apart by their instruction only: stacks of programs without
/// frame pointers end anywhere.
const MANY: usize = 1 << 14;

impl PlaceInterner {
    /// The place of a stack.
    pub(super) fn intern(&mut self, mut stack: RawStack) -> PlaceId {
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
    pub(super) fn forget(&mut self) {
        self.ids.clear();
    }

    /// Names the code of the new places that are wanted, while the process is there.
    pub(super) fn symbolise(
        &mut self,
        pid: u32,
        symbols: &mut CodeSymbols,
        wanted: impl Fn(PlaceId) -> bool,
        into: &mut BTreeMap<PlaceId, CodePlace>,
    ) {
        for (id, stack) in self.new.extract_if(.., |(id, _)| wanted(*id)) {
            let syscall = (stack.syscall != tracker_ebpf::NO_SYSCALL)
                .then(|| symbols::syscall_name(stack.syscall.into()));
            let mut user = symbols.user(pid, &stack.user);
            // What is in no file and no function is no code: the kernel follows frame pointers,
            // which the code above may not keep.
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
