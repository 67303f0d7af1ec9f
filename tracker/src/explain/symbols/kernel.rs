//! The kernel's code, by its list of symbols.

use std::collections::HashMap;

use blazesym::MaybeDefault;
use blazesym::symbolize::source::{Kernel as KernelSource, Source};
use blazesym::symbolize::{Input, Symbolized, Symbolizer};

use super::At;
use super::process::{frames, plain};
use crate::explain::StackFrame;

const MODULE: &str = "[kernel]";

/// What is known of it.
pub struct Kernel {
    symbolizer: Symbolizer,
    frames: HashMap<At, Vec<StackFrame>>,
}

impl Default for Kernel {
    fn default() -> Self {
        Self {
            symbolizer: Symbolizer::new(),
            frames: HashMap::new(),
        }
    }
}

impl Kernel {
    /// The frames at an address, the innermost first; at least one.
    pub fn frames(&mut self, at: At) -> Vec<StackFrame> {
        let Self { symbolizer, frames } = self;
        frames
            .entry(at)
            .or_insert_with(|| look_up(symbolizer, at))
            .clone()
    }
}

fn look_up(symbolizer: &Symbolizer, at: At) -> Vec<StackFrame> {
    // Functions are what tells here. The image with lines is rarely there, and half a GiB large.
    let source = Source::Kernel(KernelSource {
        vmlinux: MaybeDefault::None,
        ..KernelSource::default()
    });
    let told = symbolizer.symbolize_single(&source, Input::AbsAddr(at.instruction));
    match told.ok().and_then(Symbolized::into_sym) {
        Some(symbol) => {
            let module = symbol.module.as_ref().map(|m| m.to_string_lossy());
            let named = |m: &str| !m.is_empty() && !m.contains("kallsyms");
            let module = module.filter(|m| named(m)).map(|m| format!("[{m}]"));
            frames(at.address, &symbol, module.as_deref().unwrap_or(MODULE))
        }
        None => vec![plain(at.address, MODULE.to_owned())],
    }
}
