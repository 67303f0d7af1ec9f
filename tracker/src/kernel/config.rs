//! The kernel's build configuration, where it can be read.

use std::collections::BTreeMap;
use std::io::Read;

use thiserror::Error;

/// The options that tell what tracker can do here, without their prefix `CONFIG_`.
pub const OPTIONS: [&str; 22] = [
    "BPF_EVENTS",
    "BPF_JIT",
    "BPF_SYSCALL",
    "DEBUG_INFO_BTF",
    "DYNAMIC_FTRACE_WITH_DIRECT_CALLS",
    "FPROBE",
    "FUNCTION_TRACER",
    "HAVE_ARCH_USERFAULTFD_WP",
    "HUGETLB_PAGE",
    "KPROBES",
    "KPROBE_EVENTS",
    "KSM",
    "MEMCG",
    "MEM_SOFT_DIRTY",
    "PER_VMA_LOCK",
    "PREEMPT_DYNAMIC",
    "PROC_PAGE_MONITOR",
    "PTE_MARKER_UFFD_WP",
    "PT_RECLAIM",
    "SECURITY_LOCKDOWN_LSM",
    "TRANSPARENT_HUGEPAGE",
    "USERFAULTFD",
];

/// A kernel configuration has some 300 kB; what is longer than this is none.
const MAX_LEN: u64 = 16 << 20;

/// Why some bytes are no build configuration.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// They are gzip, but damaged.
    #[error("its gzip is damaged: {0}")]
    Gzip(std::io::Error),
    /// They set no option.
    #[error("it holds no CONFIG_ lines")]
    NoLines,
}

/// Reads `/proc/config.gz` or `/boot/config-RELEASE`: the value (`y`, `m`, a number) of each of
/// [`OPTIONS`], `n` for those not set.
///
/// # Errors
/// If the bytes are damaged gzip, or hold no configuration.
pub fn parse(bytes: &[u8]) -> Result<BTreeMap<String, String>, ConfigError> {
    let unpacked;
    let text = if bytes.starts_with(&[0x1f, 0x8b]) {
        unpacked = gunzip(bytes).map_err(ConfigError::Gzip)?;
        &unpacked
    } else {
        bytes
    };
    let set: BTreeMap<&[u8], &[u8]> = text
        .split(|byte| *byte == b'\n')
        .filter_map(parse_line)
        .collect();
    if set.is_empty() {
        return Err(ConfigError::NoLines);
    }
    let value = |option: &str| {
        let value = set.get(option.as_bytes()).copied().unwrap_or(b"n");
        (
            option.to_owned(),
            String::from_utf8_lossy(value).into_owned(),
        )
    };
    Ok(OPTIONS.into_iter().map(value).collect())
}

fn parse_line(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let line = line.strip_prefix(b"CONFIG_")?;
    let equals = line.iter().position(|byte| *byte == b'=')?;
    Some((&line[..equals], &line[equals + 1..]))
}

fn gunzip(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut out = Vec::new();
    flate2::read::GzDecoder::new(bytes)
        .take(MAX_LEN)
        .read_to_end(&mut out)?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::io::Write;

    use super::parse;

    const TEXT: &[u8] = b"# Linux\nCONFIG_KPROBES=y\n# CONFIG_KSM is not set\nCONFIG_HZ=250\n";

    #[test]
    fn reads_plain_and_packed() {
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packer.write_all(TEXT).unwrap();
        let packed = packer.finish().unwrap();
        for bytes in [TEXT, &packed] {
            let config = parse(bytes).unwrap();
            assert_eq!(config["KPROBES"], "y");
            assert_eq!(config["KSM"], "n");
            assert!(!config.contains_key("HZ"), "only what is of interest");
        }
        let error = |bytes| parse(bytes).unwrap_err().to_string();
        assert!(error(&packed[..20]).contains("gzip is damaged"));
        assert!(error(b"").contains("no CONFIG_"));
    }
}
