//! `/proc/PID/smaps_rollup`: sums over all mappings of a process.

use std::fs;

use crate::UffdError;

/// How many bytes of a process are in transparent huge pages of anonymous memory
/// (`AnonHugePages`).
///
/// # Errors
/// [`UffdError::Gone`]: there is no such process. EACCES: it may not be traced.
pub fn anon_huge_bytes(pid: u32) -> Result<u64, UffdError> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let failed = UffdError::of_process(pid, "cannot read", &path);
    let text = fs::read_to_string(&path).map_err(failed)?;
    Ok(kibibytes(&text, "AnonHugePages").unwrap_or(0) << 10)
}

fn kibibytes(text: &str, name: &str) -> Option<u64> {
    let value = |line: &str| {
        line.strip_prefix(name)?
            .strip_prefix(':')
            .map(str::to_owned)
    };
    let value = text.lines().find_map(value)?;
    value.trim().strip_suffix(" kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_of_the_sums() {
        let text = "55d1-7ffe ---p 0 00:00 0 [rollup]\nRss:  12 kB\nAnonHugePages:    4096 kB\n";
        assert_eq!(kibibytes(text, "AnonHugePages"), Some(4096));
        assert_eq!(kibibytes(text, "Anon"), None);
        assert!(anon_huge_bytes(std::process::id()).is_ok());
        assert!(anon_huge_bytes(i32::MAX as u32).is_err_and(|error| error.is_gone()));
    }
}
