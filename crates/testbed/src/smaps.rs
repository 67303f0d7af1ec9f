//! What smaps says of a range of a process.

use std::fs;
use std::ops::Range;

/// The sum of a field of smaps over the mappings in a range, in KiB.
pub fn field(pid: u32, range: &Range<u64>, name: &str) -> u64 {
    let (mut inside, mut sum) = (false, 0);
    for line in fs::read_to_string(format!("/proc/{pid}/smaps"))
        .unwrap()
        .lines()
    {
        let first = line.split_ascii_whitespace().next().unwrap_or_default();
        let bounds = first.split_once('-').and_then(|(start, end)| {
            let address = |text| u64::from_str_radix(text, 16).ok();
            Some(address(start)?..address(end)?)
        });
        match bounds {
            Some(bounds) => inside = bounds.start < range.end && range.start < bounds.end,
            None if inside && first.strip_suffix(':') == Some(name) => {
                let value = line.split_ascii_whitespace().nth(1).unwrap();
                sum += value.parse::<u64>().unwrap();
            }
            None => {}
        }
    }
    sum
}
