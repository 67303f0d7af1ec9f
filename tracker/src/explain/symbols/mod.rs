//! From addresses of code to names: functions, lines, files.
//!
//! ```text
//! rounds      code      which files the process has mapped: they are held, and not read
//! at the end  helper    a child (worker) reads them, within limits, when the process is free again
//! ```
//!
//! A process may end, execute another program or unmap its code at any time: what cannot be named
//! then is shown as an address. Nothing here fails.

mod code;
mod frameless;
mod helper;
mod kernel;
mod naming;
mod perf_map;
mod program;
mod syscall;
pub(crate) mod worker;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use super::StackFrame;
use super::model::UnnamedCode;
use code::{CodeKind, CodeMapping, HeldFile};
pub(crate) use helper::COMMAND;
pub use helper::CodeNamer;
use helper::{CodeNames, name};
use kernel::KernelSymbols;
use naming::{NamedFrame, NamingModule, NamingSource};
use program::ProgramCode;
pub(super) use syscall::syscall_name;

/// Remembers which code a process has mapped, and names it in the end.
///
/// It stays with the thread that made it: what blazesym remembers is not shared between threads.
pub(super) struct CodeSymbols {
    pid: u32,
    namer: CodeNamer,
    /// By the order in which they were executed.
    programs: Vec<ProgramCode>,
    kernel: KernelSymbols,
}

/// Names of stacks, and what has none because it could not be read.
pub(super) struct NamedStacks<'a> {
    symbols: &'a mut CodeSymbols,
    stacks: StackModules,
    names: CodeNames,
    /// What has no names, and why.
    pub unnamed: Vec<UnnamedCode>,
    /// Addresses that were to be named.
    pub addresses: u64,
    /// The files, and what is like one, in which they lie.
    pub modules: u64,
}

impl CodeSymbols {
    /// Reads which code a process has mapped, so that what lies in files has names even after its
    /// end.
    pub(super) fn watch(pid: u32, namer: CodeNamer) -> Self {
        Self {
            pid,
            namer,
            programs: vec![ProgramCode::of(pid)],
            kernel: KernelSymbols::default(),
        }
    }

    /// The process has executed another program.
    pub(super) fn begin_again(&mut self) {
        self.programs.push(ProgramCode::of(self.pid));
    }

    /// Makes sure that the code at these addresses is known, while it is there.
    pub(super) fn see(&mut self, addresses: impl IntoIterator<Item = u64>) {
        if let Some(program) = self.programs.last_mut() {
            program.see(addresses);
        }
    }

    /// Names the user stacks of programs, which are told by their number from 0: reads what the
    /// process made. It takes up to half a minute.
    pub(super) fn name<'a>(
        &'a mut self,
        stacks: impl Iterator<Item = (usize, &'a [u64])>,
    ) -> NamedStacks<'a> {
        let mut modules = StackModules::of(&self.programs);
        for (program, stack) in stacks {
            instructions(stack).for_each(|at| modules.add(&self.programs, program, at));
        }
        let request = modules.request();
        let addresses = request.iter().map(|module| module.addresses.len() as u64);
        let (addresses, count) = (addresses.sum(), request.len() as u64);
        let (names, failures) = name(&self.namer, request);
        let unnamed = failures.into_iter().map(|(number, failure)| UnnamedCode {
            module: modules.title(number),
            why: failure.to_string(),
        });
        NamedStacks {
            unnamed: unnamed.collect(),
            addresses,
            modules: count,
            stacks: modules,
            names,
            symbols: self,
        }
    }
}

impl NamedStacks<'_> {
    /// A user stack of a program, the innermost address first. A function that was inlined is a
    /// frame of its own.
    pub(super) fn user(&self, program: usize, stack: &[u64]) -> Vec<StackFrame> {
        instructions(stack)
            .flat_map(|at| self.frames(program, at))
            .collect()
    }

    /// Whether the function that has come to an instruction has set up no frame by then, and
    /// returns to the address on top of the stack.
    pub(super) fn is_frameless(&self, program: usize, instruction: u64) -> bool {
        let code = self.symbols.programs.get(program);
        let code = code.and_then(|code| code.table.at(instruction));
        let place = code.and_then(|code| self.stacks.place(program, code, instruction));
        place.is_some_and(|place| self.names.is_frameless(place))
    }

    /// A kernel stack, the innermost address first.
    pub(super) fn kernel(&mut self, stack: &[u64]) -> Vec<StackFrame> {
        instructions(stack)
            .flat_map(|at| self.symbols.kernel.frames(at))
            .collect()
    }

    fn frames(&self, program: usize, at: CodeAddress) -> Vec<StackFrame> {
        let programs = &self.symbols.programs;
        let code = programs.get(program);
        let Some(code) = code.and_then(|code| code.table.at(at.instruction)) else {
            return vec![plain(at.address, String::new())];
        };
        let module = code.module(at.address);
        let place = self.stacks.place(program, code, at.instruction);
        match place.and_then(|place| self.names.get(place)) {
            Some(named) => frames(at.address, named, &module),
            None => vec![plain(at.address, module)],
        }
    }
}

/// Which addresses of which modules are to be named.
struct StackModules {
    perf_maps: Vec<Option<Arc<HeldFile>>>,
    numbers: HashMap<NamingSource, usize>,
    modules: BTreeMap<usize, (String, HashSet<u64>)>,
}

impl StackModules {
    fn of(programs: &[ProgramCode]) -> Self {
        let maps = programs
            .iter()
            .map(|program| program.perf_map().map(Arc::new));
        Self {
            perf_maps: maps.collect(),
            numbers: HashMap::new(),
            modules: BTreeMap::new(),
        }
    }

    fn add(&mut self, programs: &[ProgramCode], program: usize, at: CodeAddress) {
        let code = programs.get(program);
        let Some(code) = code.and_then(|code| code.table.at(at.instruction)) else {
            return;
        };
        let Some((source, address)) = self.source(program, code, at.instruction) else {
            return;
        };
        let title = match &source {
            NamingSource::PerfMap { .. } => "the perf map".to_owned(),
            NamingSource::Elf { .. } | NamingSource::Vdso => code.name(),
        };
        let next = self.numbers.len();
        let number = *self.numbers.entry(source).or_insert(next);
        let module = self.modules.entry(number);
        let (_, addresses) = module.or_insert_with(|| (title, HashSet::new()));
        addresses.insert(address);
    }

    /// Where the name of an instruction is, and by which number.
    fn source(
        &self,
        program: usize,
        code: &CodeMapping,
        instruction: u64,
    ) -> Option<(NamingSource, u64)> {
        match code.kind() {
            CodeKind::File => {
                let path = code.file()?.path();
                let source = NamingSource::Elf { path, lines: true };
                Some((source, code.offset(instruction)))
            }
            CodeKind::Vdso => Some((NamingSource::Vdso, code.offset(instruction))),
            CodeKind::Anonymous => {
                let path = self.perf_maps.get(program)?.as_ref()?.path();
                Some((NamingSource::PerfMap { path }, instruction))
            }
            CodeKind::Other => None,
        }
    }

    fn place(&self, program: usize, code: &CodeMapping, instruction: u64) -> Option<(usize, u64)> {
        let (source, address) = self.source(program, code, instruction)?;
        Some((*self.numbers.get(&source)?, address))
    }

    fn title(&self, number: usize) -> String {
        let module = self.modules.get(&number);
        module.map_or_else(String::new, |(title, _)| title.clone())
    }

    fn request(&self) -> Vec<NamingModule> {
        let sources = self.numbers.iter();
        let mut modules: Vec<_> = sources
            .filter_map(|(source, number)| {
                let (_, addresses) = self.modules.get(number)?;
                Some(NamingModule {
                    number: *number,
                    source: source.clone(),
                    addresses: addresses.iter().copied().collect(),
                })
            })
            .collect();
        modules.sort_unstable_by_key(|module| module.number);
        modules
    }
}

/// An address without a name.
fn plain(address: u64, module: String) -> StackFrame {
    StackFrame {
        address,
        function: String::new(),
        line: None,
        module,
        inlined: false,
    }
}

fn frames(address: u64, named: &[NamedFrame], module: &str) -> Vec<StackFrame> {
    let frame = |frame: &NamedFrame| StackFrame {
        address,
        function: frame.function.clone(),
        line: frame.line.clone(),
        module: module.to_owned(),
        inlined: frame.inlined,
    };
    named.iter().map(frame).collect()
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
