//! The code of one process.

use std::collections::HashMap;
use std::fs;

use blazesym::symbolize::source::{self, Elf, Source};
use blazesym::symbolize::{CodeInfo, Input, Sym, Symbolized, Symbolizer};

use super::CodeAddress;
use super::code::{self, CodeKind, CodeMapping};
use crate::explain::StackFrame;

/// Addresses remembered: a program that makes code goes on making it.
const REMEMBERED: usize = 1 << 16;

/// What is known of the code of one process.
pub(super) struct ProcessSymbols {
    pid: u32,
    code: Vec<CodeMapping>,
    symbolizer: Symbolizer,
    frames: HashMap<CodeAddress, Vec<StackFrame>>,
}

impl ProcessSymbols {
    pub(super) fn new(pid: u32) -> Self {
        Self {
            pid,
            code: Vec::new(),
            symbolizer: Symbolizer::new(),
            frames: HashMap::new(),
        }
    }

    /// Reads what is mapped now. What was mapped stays if the process is gone.
    pub(super) fn look(&mut self) {
        let code = code::of(self.pid);
        if !code.is_empty() {
            self.code = code;
        }
    }

    /// The frames at an address, the innermost first; at least one.
    pub(super) fn frames(&mut self, at: CodeAddress) -> Vec<StackFrame> {
        if let Some(known) = self.frames.get(&at) {
            return known.clone();
        }
        if CodeMapping::at(&self.code, at.instruction).is_none() {
            self.look();
        }
        let frames = self.look_up(at);
        if self.frames.len() >= REMEMBERED {
            self.frames.clear();
        }
        self.frames.insert(at, frames.clone());
        frames
    }

    fn look_up(&self, at: CodeAddress) -> Vec<StackFrame> {
        let Some(code) = CodeMapping::at(&self.code, at.instruction) else {
            return vec![plain(at.address, String::new())];
        };
        let module = code.module(at.address);
        let symbol = match code.kind() {
            CodeKind::File => self.in_file(code, at.instruction),
            CodeKind::Vdso => self.in_process(at.instruction),
            CodeKind::Anonymous if self.has_perf_map() => self.in_process(at.instruction),
            CodeKind::Anonymous | CodeKind::Other => None,
        };
        match symbol {
            Some(symbol) => frames(at.address, &symbol, &module),
            None => vec![plain(at.address, module)],
        }
    }

    /// With what DWARF says, or, if that is damaged or of another build, with symbols alone.
    fn in_file(&self, code: &CodeMapping, address: u64) -> Option<Sym<'_>> {
        let offset = Input::FileOffset(code.offset(address));
        let mut elf = Elf::new(code.file()?);
        let symbol = self.ask(elf.clone().into(), offset);
        elf.debug_syms = false;
        symbol.or_else(|| self.ask(elf.into(), offset))
    }

    /// What lies in no file: the vdso, and code that the process itself tells about in its perf
    /// map.
    fn in_process(&self, address: u64) -> Option<Sym<'_>> {
        let source = source::Process::new(self.pid.into());
        self.ask(source.into(), Input::AbsAddr(address))
    }

    fn ask(&self, source: Source<'_>, input: Input<u64>) -> Option<Sym<'_>> {
        let told = self.symbolizer.symbolize_single(&source, input);
        told.ok().and_then(Symbolized::into_sym)
    }

    /// Whether it left a perf map in the usual place, as a file: a pipe there would keep us
    /// waiting.
    fn has_perf_map(&self) -> bool {
        let pid = self.pid;
        let status = fs::read(format!("/proc/{pid}/status")).unwrap_or_default();
        let status = String::from_utf8_lossy(&status);
        let own = status
            .lines()
            .find_map(|line| line.strip_prefix("NStgid:")?.split_whitespace().last());
        let path = own.map(|own| format!("/proc/{pid}/root/tmp/perf-{own}.map"));
        path.and_then(|path| fs::metadata(path).ok())
            .is_some_and(|meta| meta.is_file())
    }
}

/// An address without a name.
pub(super) fn plain(address: u64, module: String) -> StackFrame {
    StackFrame {
        address,
        function: String::new(),
        line: None,
        module,
        inlined: false,
    }
}

/// The frames of a symbol, after those of what was inlined into it.
pub(super) fn frames(address: u64, symbol: &Sym<'_>, module: &str) -> Vec<StackFrame> {
    let frame = |name: &str, info: Option<&CodeInfo<'_>>, inlined| StackFrame {
        address,
        function: name.to_owned(),
        line: info.and_then(line),
        module: module.to_owned(),
        inlined,
    };
    let inlined = symbol.inlined.iter().rev();
    let inlined = inlined.map(|f| frame(&f.name, f.code_info.as_ref(), true));
    let outer = frame(&symbol.name, symbol.code_info.as_deref(), false);
    inlined.chain([outer]).collect()
}

fn line(info: &CodeInfo<'_>) -> Option<(String, u32)> {
    let file = info.to_path().to_string_lossy().into_owned();
    info.line.map(|line| (file, line))
}
