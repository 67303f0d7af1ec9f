//! Numbers and names for people.

use uffd::PAGE_SIZE;

/// Groups thousands: `1,234,567`.
pub(crate) fn number(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 mapping`, `2 mappings`.
pub(crate) fn count(count: usize, what: &str) -> String {
    let count = count as u64;
    format!("{} {what}{}", number(count), plural(count))
}

/// The ending of a noun after a count.
pub(crate) const fn plural(count: u64) -> &'static str {
    if count == 1 { "" } else { "s" }
}

/// Each text once, in the order in which they come, with how often it came if that is more than once.
pub(crate) fn counted(texts: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut counts: Vec<(String, u64)> = Vec::new();
    for text in texts {
        match counts.iter_mut().find(|(known, _)| *known == text) {
            Some((_, count)) => *count += 1,
            None => counts.push((text, 1)),
        }
    }
    let told = |(text, count)| match count {
        1 => text,
        count => format!("{text} ({} times)", number(count)),
    };
    counts.into_iter().map(told).collect()
}

/// How large so many pages are: `12 KiB`, `1.5 GiB`.
pub(crate) fn size(pages: f64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let mut amount = pages * (PAGE_SIZE / 1024) as f64;
    let mut unit = 0;
    // From here on it would round to 1024.
    while amount >= 1023.5 && unit + 1 < UNITS.len() {
        amount /= 1024.0;
        unit += 1;
    }
    let name = UNITS.get(unit).copied().unwrap_or_default();
    if amount < 9.95 && unit > 0 && amount.fract() != 0.0 {
        format!("{amount:.1} {name}")
    } else {
        format!("{amount:.0} {name}")
    }
}

/// A share: `0%`, `<0.1%`, `2.5%`, `66%`, `100%`. Only nothing is `0%`, and only everything is
/// `100%`.
pub(crate) fn share(part: u64, whole: u64) -> String {
    if part == 0 || whole == 0 {
        return "0%".to_owned();
    }
    let percent = part as f64 / whole as f64 * 100.0;
    match percent {
        ..0.1 => "<0.1%".to_owned(),
        ..9.95 => format!("{percent:.1}%"),
        99.5..100.0 => ">99%".to_owned(),
        _ => format!("{percent:.0}%"),
    }
}

/// Somebody else's name on one line and in reading order: characters that control, reorder or hide
/// text become escapes.
pub(crate) fn printable(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    for c in name.chars() {
        if is_odd(c) {
            text.extend(c.escape_default())
        } else {
            text.push(c)
        }
    }
    text
}

fn is_odd(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{feff}')
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
        || matches!(c, '\u{e000}'..='\u{f8ff}' | '\u{fff0}'..='\u{ffff}' | '\u{e0000}'..)
}

/// Shortens a name to `most` characters by dropping its middle: the ends of a path say more.
pub(crate) fn elided(name: &str, most: usize) -> String {
    let count = name.chars().count();
    if count <= most {
        return name.to_owned();
    }
    let kept = most.saturating_sub(1);
    let tail = kept * 2 / 3;
    let head = name.chars().take(kept - tail);
    head.chain(['…'])
        .chain(name.chars().skip(count - tail))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_texts_are_one_with_a_count() {
        let notes = ["a", "b", "a", "a"].map(str::to_owned);
        assert_eq!(counted(notes), ["a (3 times)", "b"]);
    }

    #[test]
    fn numbers_and_sizes() {
        assert_eq!(
            [0, 999, 1000, 1_234_567].map(number),
            ["0", "999", "1,000", "1,234,567"]
        );
        let sizes = [
            (0, "0 KiB"),
            (3, "12 KiB"),
            (256, "1 MiB"),
            (384, "1.5 MiB"),
            (262_143, "1.0 GiB"),
            (u64::MAX, "65536 EiB"),
        ];
        for (pages, told) in sizes {
            assert_eq!(size(pages as f64), told);
        }
        let shares = [
            (0, "0%"),
            (1, "<0.1%"),
            (250, "2.5%"),
            (6_600, "66%"),
            (9_999, ">99%"),
            (10_000, "100%"),
        ];
        for (part, told) in shares {
            assert_eq!(share(part, 10_000), told);
        }
    }

    #[test]
    fn names_cannot_do_anything() {
        assert_eq!(
            printable("a\u{1b}[31m\n\u{202e}b & <ü>"),
            "a\\u{1b}[31m\\n\\u{202e}b & <ü>"
        );
        assert_eq!(
            elided("/usr/lib/libc.so.6", 12),
            "/usr…c.so.6".replace("c.so", "bc.so")
        );
        assert_eq!(elided("short", 5), "short");
        assert_eq!(elided("long", 1), "…");
    }
}
