//! A strict reader of text format 0.0.4, independent of what wrote it.

use std::collections::{BTreeMap, HashSet};

/// One sample line.
#[derive(Debug, PartialEq)]
pub struct TextSample {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub value: f64,
}

/// Reads a whole exposition. Panics on what Prometheus would refuse or silently drop.
pub fn read(text: &str) -> Vec<TextSample> {
    assert!(text.ends_with('\n'), "the last line must end");
    let mut samples: Vec<TextSample> = Vec::new();
    let mut types = HashSet::new();
    let mut series = HashSet::new();
    for line in text.split_terminator('\n') {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            assert!(
                types.insert(rest.to_owned()),
                "a family is there twice: {line}"
            );
        }
        if line.starts_with('#') {
            continue;
        }
        let sample = sample(line).unwrap_or_else(|| panic!("not a sample: {line:?}"));
        let id = format!("{}{:?}", sample.name, sample.labels);
        assert!(series.insert(id), "a series is there twice: {line}");
        samples.push(sample);
    }
    samples
}

fn sample(line: &str) -> Option<TextSample> {
    let name_end = line.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':'))?;
    let (name, mut rest) = line.split_at(name_end);
    let mut labels = BTreeMap::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        loop {
            let (label, after) = rest.split_once("=\"")?;
            let (value, after) = quoted(after)?;
            if labels.insert(label.to_owned(), value).is_some() {
                return None;
            }
            match after.strip_prefix(',') {
                Some(next) => rest = next,
                None => {
                    rest = after.strip_prefix('}')?;
                    break;
                }
            }
        }
    }
    let value = rest.strip_prefix(' ')?.parse().ok()?;
    let name = (!name.is_empty()).then(|| name.to_owned())?;
    Some(TextSample {
        name,
        labels,
        value,
    })
}

/// The text up to the closing quote, and what follows it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(match chars.next()?.1 {
                'n' => '\n',
                other @ ('\\' | '"') => other,
                _ => return None,
            }),
            other => value.push(other),
        }
    }
    None
}
