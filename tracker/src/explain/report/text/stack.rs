//! A stack in lines.

use crate::explain::report::location::name;
use crate::explain::report::stack::{kernel, place, told};
use crate::explain::{Frame, Place};
use crate::track::report::words::elided;

use super::wrap::WIDTH;

/// Frames of a stack that are told.
const FRAMES: usize = 8;

/// The user stack, a frame a line, the innermost first; the kernel's in one line before it.
pub fn stack(of: &Place, indent: usize) -> String {
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

fn line(frame: &Frame, width: usize) -> String {
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
