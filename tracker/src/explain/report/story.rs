//! The story of one page, as text.

use std::fmt::Write as _;

use super::location::Location;
use super::text::wrapped;
use crate::explain::Findings;
use crate::track::report::words::printable;

/// What happened to the page that was asked for, by time; `None`: none was.
#[must_use]
pub fn story(findings: &Findings) -> Option<String> {
    let story = findings.story.as_ref()?;
    let mut text = format!("The page at {:#x}:\n", story.page);
    if story.lines.is_empty() {
        text += "  nothing was seen of it\n";
    }
    let mut last = None;
    for line in &story.lines {
        let what = printable(&line.what);
        let place = line.place.and_then(|id| findings.stacks.get(&id));
        let place = place.map_or_else(String::new, |place| format!(", {}", Location::new(place)));
        let seconds = line.at.as_secs_f64();
        // How long it took since the line before tells what belongs together.
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
