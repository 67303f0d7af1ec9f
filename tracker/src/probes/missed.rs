//! Events that the kernel kept from a program because it was running already on that CPU.

use std::os::fd::{AsRawFd, BorrowedFd};

/// `recursion_misses` of a BPF program, from its fdinfo (`bpf_prog_show_fdinfo`, since 5.12).
/// `None` if the kernel does not tell.
#[must_use]
pub fn recursion_misses(program: BorrowedFd<'_>) -> Option<u64> {
    let path = format!("/proc/self/fdinfo/{}", program.as_raw_fd());
    parse(&std::fs::read_to_string(path).ok()?)
}

fn parse(fdinfo: &str) -> Option<u64> {
    let line = fdinfo
        .lines()
        .find_map(|line| line.strip_prefix("recursion_misses:"))?;
    line.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    #[test]
    fn fdinfo_of_a_program() {
        let text =
            "pos:\t0\nprog_type:\t26\nrun_cnt:\t0\nrecursion_misses:\t17\nverified_insns:\t98\n";
        assert_eq!(super::parse(text), Some(17));
        assert_eq!(super::parse("pos:\t0\n"), None);
    }
}
