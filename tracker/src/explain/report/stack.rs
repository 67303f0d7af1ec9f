//! Which parts of a stack are worth telling.

use super::location::{base, is_beginning, is_helper, is_probe, name};
use crate::explain::{CodePlace, StackFrame};
use crate::print::words::{elided, printable};

/// The frames without those that every thread begins with, and of helpers in a row only the
/// outermost two: how memcpy is built helps nobody.
pub(super) fn told(stack: &[StackFrame]) -> Vec<&StackFrame> {
    let mut frames: Vec<&StackFrame> = Vec::new();
    let end = stack.iter().position(is_beginning).unwrap_or(stack.len());
    let own = stack.get(..end.max(1)).unwrap_or(stack);
    for (i, frame) in own.iter().enumerate() {
        let next_two = own.get(i + 1..i + 3).unwrap_or_default();
        let inner = next_two.len() == 2 && is_helper(frame) && next_two.iter().all(is_helper);
        if !inner {
            frames.push(frame);
        }
    }
    frames
}

/// Where a frame is: file and line, or module and offset. Where something was built or is installed
/// takes the most room and tells the least: a source file keeps one directory, a module none.
pub(super) fn place(frame: &StackFrame) -> String {
    match &frame.line {
        Some((file, line)) => format!("{}:{line}", printable(in_its_directory(file))),
        None => printable(base(&frame.module)),
    }
}

/// A path from its last directory on.
fn in_its_directory(path: &str) -> &str {
    let mut ends = path.rmatch_indices('/').map(|(at, _)| at);
    ends.nth(1).map_or(path, |at| &path[at + 1..])
}

/// `kernel: do_wp_page < handle_mm_fault < … < ksys_read`: the ends tell most.
pub(super) fn kernel(place: &CodePlace, width: usize) -> Option<String> {
    let own = place.kernel.iter().filter(|frame| !is_probe(frame));
    let mut names: Vec<String> = own
        .take_while(|frame| !is_beginning(frame))
        .map(name)
        .collect();
    let line = |names: &[String]| format!("kernel: {}", names.join(" < "));
    let mut told = line(&names);
    while names.len() > 3 && told.chars().count() > width {
        // First the one in the middle, then its neighbours.
        let middle = names.len() / 2;
        names.splice(middle - 1..=middle, ["…".to_owned()]);
        told = line(&names);
    }
    (!names.is_empty()).then(|| elided(&told, width))
}
