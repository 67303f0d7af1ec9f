//! A stack in lines.

use crate::explain::report::location::name;
use crate::explain::report::stack::{kernel, place, told};
use crate::explain::{CodePlace, StackFrame};
use crate::print::words::elided;
use crate::print::wrap::WIDTH;

/// Frames of a stack that are shown.
const FRAMES: usize = 8;

/// The user stack, a frame a line, the innermost first; the kernel's stack in one line before it.
pub(super) fn stack(of: &CodePlace, indent: usize) -> String {
    let (margin, width) = (" ".repeat(indent), WIDTH.saturating_sub(indent));
    let frames = told(&of.user);
    let mut lines: Vec<String> = kernel(of, width).into_iter().collect();
    lines.extend(frames.iter().take(FRAMES).map(|frame| line(frame, width)));
    if frames.len() > FRAMES {
        lines.push(format!("… {} more", frames.len() - FRAMES));
    }
    lines
        .iter()
        .flat_map(|line| [margin.as_str(), line, "\n"])
        .collect()
}

fn line(frame: &StackFrame, width: usize) -> String {
    let mut place = place(frame);
    if frame.inlined {
        place.push_str(" (inlined)");
    }
    if frame.function.is_empty() {
        return elided(&format!("{:#x}  {place}", frame.address), width);
    }
    let function = elided(&name(frame), width * 3 / 5);
    let left = width.saturating_sub(function.chars().count() + 2);
    format!("{function}  {}", elided(&place, left))
}
