//! Perf maps: what a program that makes code at run time tells about it, in a file for everybody.
//! Each line has an address, a size and a name (tools/perf/Documentation/jit-interface.txt).

use std::ops::Range;

/// A line of a perf map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PerfMapLine<'a> {
    /// Where the code is.
    pub range: Range<u64>,
    /// Its name: any bytes but a line feed.
    pub name: &'a [u8],
}

impl<'a> PerfMapLine<'a> {
    /// `None`: it is no such line. Numbers are hexadecimal; some programs (jcmd of Java) begin them
    /// with `0x`.
    pub(super) fn parse(line: &'a [u8]) -> Option<Self> {
        let mut words = line.trim_ascii().splitn(3, |byte| *byte == b' ');
        let start = number(words.next()?)?;
        let size = number(words.next()?)?;
        let name = words.next()?.trim_ascii();
        (!name.is_empty() && size > 0).then_some(Self {
            range: start..start.saturating_add(size),
            name,
        })
    }
}

fn number(word: &[u8]) -> Option<u64> {
    let digits = [&b"0x"[..], b"0X"].into_iter();
    let digits = { digits }.find_map(|prefix| word.strip_prefix(prefix));
    let digits = std::str::from_utf8(digits.unwrap_or(word)).ok()?;
    u64::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_with_and_without_a_prefix() {
        for text in [
            "7f00 20 LazyCompile:~sum a.js:1\n",
            "0x7f00 0x20 LazyCompile:~sum a.js:1",
        ] {
            let line = PerfMapLine::parse(text.as_bytes()).unwrap();
            assert_eq!(
                (line.range, line.name),
                (0x7f00..0x7f20, &b"LazyCompile:~sum a.js:1"[..])
            );
        }
        for text in [
            "", "7f00", "7f00 20", "7f00 20 ", "xyz 20 f", "7f00 0 f", "-1 2 f",
        ] {
            assert_eq!(PerfMapLine::parse(text.as_bytes()), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_line_or_not(text: Vec<u8>) {
            let _ = PerfMapLine::parse(&text);
        }
    }
}
