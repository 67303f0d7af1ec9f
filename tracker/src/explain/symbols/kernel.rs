//! The kernel's code, by its list of symbols.

use std::collections::HashMap;

use blazesym::MaybeDefault;
use blazesym::symbolize::source::{self, Source};
use blazesym::symbolize::{Input, Symbolized, Symbolizer};

use super::{CodeAddress, worker};
use super::{frames, plain};
use crate::explain::StackFrame;

const MODULE: &str = "[kernel]";

/// What is known of the kernel's code.
pub(super) struct KernelSymbols {
    symbolizer: Symbolizer,
    frames: HashMap<CodeAddress, Vec<StackFrame>>,
}

impl Default for KernelSymbols {
    fn default() -> Self {
        Self {
            symbolizer: Symbolizer::new(),
            frames: HashMap::new(),
        }
    }
}

impl KernelSymbols {
    /// The frames at an address, the innermost first; at least one.
    pub(super) fn frames(&mut self, at: CodeAddress) -> Vec<StackFrame> {
        let Self { symbolizer, frames } = self;
        frames
            .entry(at)
            .or_insert_with(|| look_up(symbolizer, at))
            .clone()
    }
}

fn look_up(symbolizer: &Symbolizer, at: CodeAddress) -> Vec<StackFrame> {
    // Functions are enough here. The image with lines is rarely there, and half a GiB large.
    let source = Source::Kernel(source::Kernel {
        vmlinux: MaybeDefault::None,
        ..source::Kernel::default()
    });
    let told = symbolizer.symbolize_single(&source, Input::AbsAddr(at.instruction));
    match told.ok().and_then(Symbolized::into_sym) {
        Some(symbol) => {
            let module = symbol.module.as_ref().map(|m| m.to_string_lossy());
            let named = |m: &str| !m.is_empty() && !m.contains("kallsyms");
            let module = module.filter(|m| named(m)).map(|m| format!("[{m}]"));
            let named = worker::frames(&symbol);
            frames(at.address, &named, module.as_deref().unwrap_or(MODULE))
        }
        None => vec![plain(at.address, MODULE.to_owned())],
    }
}
