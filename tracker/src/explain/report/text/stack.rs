//! A stack in lines.

use crate::explain::report::location::{is_beginning, is_helper, is_probe, name};
use crate::explain::{Frame, Place};
use crate::track::report::words::{elided, printable};

use super::wrap::WIDTH;

/// Frames of a stack that are told.
const FRAMES: usize = 8;

/// The user stack, a frame a line, the innermost first; the kernel's in one line before it.
pub fn stack(place: &Place, indent: usize) -> String {
    let mut text = String::new();
    if let Some(line) = kernel(place, WIDTH.saturating_sub(indent)) {
        text += &" ".repeat(indent);
        text += &line;
        text.push('\n');
    }
    let frames = told(&place.user);
    for frame in frames.iter().take(FRAMES) {
        text += &" ".repeat(indent);
        text += &line(frame, WIDTH.saturating_sub(indent));
        text.push('\n');
    }
    if frames.len() > FRAMES {
        text += &format!("{}… {} more\n", " ".repeat(indent), frames.len() - FRAMES);
    }
    text
}

/// Without what every thread begins with, and of helpers in a row only the outermost two: how memcpy is built tells nobody.
pub fn told(stack: &[Frame]) -> Vec<&Frame> {
    let mut frames: Vec<&Frame> = Vec::new();
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

fn line(frame: &Frame, width: usize) -> String {
    let mut place = match &frame.line {
        Some((file, line)) => format!("{}:{line}", printable(file)),
        None => printable(&frame.module),
    };
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

/// `kernel: do_wp_page < handle_mm_fault < … < ksys_read`: the ends tell most.
fn kernel(place: &Place, width: usize) -> Option<String> {
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
