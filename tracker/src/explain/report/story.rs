//! The story of one page, as text.

use std::fmt::Write as _;

use super::location::CodeLocation;
use crate::explain::ExplainFindings;
use crate::print::words::printable;
use crate::print::wrap::wrapped;

/// What happened to the page that was asked for, by time; `None` if none was.
pub(super) fn story(findings: &ExplainFindings) -> Option<String> {
    let story = findings.story.as_ref()?;
    let mut text = format!("The page at {:#x}:\n", story.page);
    if story.lines.is_empty() {
        text += "  nothing was seen of it\n";
    }
    let mut last = None;
    for line in &story.lines {
        let what = printable(&line.what);
        let place = line.place.and_then(|id| findings.stacks.get(&id));
        let place = place.map_or_else(String::new, |place| {
            format!(", {}", CodeLocation::new(place))
        });
        let seconds = line.at.as_secs_f64();
        // The time since the line before shows what belongs together.
        let since = last
            .replace(line.at)
            .map(|last| line.at.saturating_sub(last));
        let mut first = String::new();
        let _ = match since {
            Some(since) => write!(first, "{seconds:>11.6} s  +{:<9.6}  ", since.as_secs_f64()),
            None => write!(first, "{seconds:>11.6} s  {:<10}  ", ""),
        };
        text += &wrapped(&first, 27, &format!("{what}{place}"));
    }
    Some(text)
}
