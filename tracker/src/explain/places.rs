//! Stacks, interned: the same way to the same instruction is one place.

use std::collections::{BTreeMap, HashMap};

use super::model::{CodePlace, PlaceId, StackFrame, UnnamedCode};
use super::symbols::{self, CodeSymbols, NamedStacks};

/// A stack as the kernel tells it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct RawStack {
    /// Innermost first; the instruction itself is the first.
    pub user: Box<[u64]>,
    /// What is on top of the user stack, if it is an address of code: where the innermost function
    /// returns to, if it has set up no frame. The kernel then takes its caller for its own frame,
    /// and tells the caller of that. 0: no such address.
    pub top: u64,
    /// Innermost first.
    pub kernel: Box<[u64]>,
    /// [`tracker_ebpf::NO_SYSCALL`] if there is none.
    pub syscall: u32,
}

impl RawStack {
    fn top(&self) -> Option<u64> {
        (self.top != 0).then_some(self.top)
    }

    /// With the caller of a function that has set up no frame, if its code says that of it.
    fn with_caller(&self, named: &NamedStacks<'_>, program: usize) -> Vec<u64> {
        let mut stack = self.user.to_vec();
        let first = stack.first().copied();
        let caller = self.top().filter(|top| stack.get(1) != Some(top));
        if let (Some(first), Some(caller)) = (first, caller)
            && named.is_frameless(program, first)
        {
            stack.insert(1, caller);
        }
        stack
    }
}

/// The places of a process.
#[derive(Default)]
pub(super) struct PlaceInterner {
    ids: HashMap<RawStack, PlaceId>,
    /// Not yet named.
    new: Vec<UnnamedPlace>,
    /// How many of them were seen.
    seen: usize,
    next: u32,
    /// The program that the process executes, from 0.
    program: usize,
}

/// A place whose code has no name yet.
#[derive(Clone, Debug)]
pub(super) struct UnnamedPlace {
    id: PlaceId,
    /// Of which program its addresses are.
    program: usize,
    stack: RawStack,
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
            stack.top = 0;
        }
        if let Some(id) = self.ids.get(&stack) {
            return *id;
        }
        let id = PlaceId(self.next);
        self.next += 1;
        self.new.push(UnnamedPlace {
            id,
            program: self.program,
            stack: stack.clone(),
        });
        self.ids.insert(stack, id);
        id
    }

    /// Another address space: the same addresses are other code from here on.
    pub(super) fn forget(&mut self) {
        self.ids.clear();
        self.program += 1;
    }

    /// The user addresses of places that came since the last time.
    pub(super) fn take_fresh(&mut self) -> Vec<u64> {
        let fresh = self.new.get(self.seen..).unwrap_or_default();
        let fresh = fresh.iter().filter(|new| new.program == self.program);
        let addresses = fresh
            .flat_map(|new| new.stack.user.iter().copied().chain(new.stack.top()))
            .collect();
        self.seen = self.new.len();
        addresses
    }

    /// Takes the places that are wanted, to be named.
    pub(super) fn take_wanted(&mut self, wanted: impl Fn(PlaceId) -> bool) -> Vec<UnnamedPlace> {
        self.seen = 0;
        self.new.extract_if(.., |new| wanted(new.id)).collect()
    }
}

/// Places whose code has names.
pub(super) struct NamedPlaces {
    pub places: BTreeMap<PlaceId, CodePlace>,
    /// Code that could not be named, and why.
    pub unnamed: Vec<UnnamedCode>,
    /// Addresses of processes' code that were asked for.
    pub addresses: u64,
    /// The files that they lie in.
    pub modules: u64,
}

/// Names the code of places.
pub(super) fn named(places: &[UnnamedPlace], symbols: &mut CodeSymbols) -> NamedPlaces {
    let tops = places.iter().filter_map(|new| {
        let first = new.stack.user.first()?;
        Some((new.program, [*first, new.stack.top()?]))
    });
    let tops: Vec<_> = tops.collect();
    let tops = tops.iter().map(|(program, top)| (*program, &top[..]));
    let stacks = places.iter().map(|new| (new.program, &*new.stack.user));
    let mut named = symbols.name(stacks.chain(tops));
    let mut all = BTreeMap::new();
    for UnnamedPlace { id, program, stack } in places {
        let syscall = (stack.syscall != tracker_ebpf::NO_SYSCALL)
            .then(|| symbols::syscall_name(stack.syscall.into()));
        let mut user = named.user(*program, &stack.with_caller(&named, *program));
        // What is in no file and no function is no code: the kernel follows frame pointers,
        // which the code above may not keep.
        let astray = |frame: &StackFrame| frame.function.is_empty() && frame.module.is_empty();
        if let Some(at) = user.iter().skip(1).position(astray) {
            user.truncate(at + 1);
        }
        let place = CodePlace {
            user,
            kernel: named.kernel(&stack.kernel),
            syscall,
        };
        all.insert(*id, place);
    }
    NamedPlaces {
        places: all,
        addresses: named.addresses,
        modules: named.modules,
        unnamed: named.unnamed,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::explain::symbols::CodeNamer;

    #[inline(never)]
    fn caller(n: u64) -> u64 {
        std::hint::black_box(n) + 1
    }

    /// At its first instruction a function has set up no frame, as memcpy has at none.
    #[test]
    fn a_function_without_a_frame_has_its_caller() {
        let first = libc::getppid as *const () as u64;
        let top = caller as fn(u64) -> u64 as usize as u64 + 1;
        let mut interner = PlaceInterner::default();
        let stack = |top| RawStack {
            user: [first].into(),
            top,
            kernel: Box::default(),
            syscall: tracker_ebpf::NO_SYSCALL,
        };
        let [with, without] = [top, 0].map(|top| interner.intern(stack(top)));
        let mut symbols = CodeSymbols::watch(std::process::id(), CodeNamer::Here);
        symbols.see(interner.take_fresh());
        let named = named(&interner.take_wanted(|_| true), &mut symbols);
        let outermost = |id: PlaceId| &named.places[&id].user.last().unwrap().function;
        assert!(
            outermost(with).ends_with("tests::caller"),
            "{}",
            outermost(with)
        );
        assert!(
            outermost(without).contains("getppid"),
            "{}",
            outermost(without)
        );
    }
}
