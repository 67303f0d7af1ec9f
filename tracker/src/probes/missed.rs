//! Events that the kernel kept from a program because it was already running on that CPU.

use std::os::fd::{AsFd as _, AsRawFd, BorrowedFd};

use aya::Ebpf;

use super::hooks::{HookId, HookProgram};
use super::verdict::HookPlan;

/// Events that the kernel kept from a hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HookMisses {
    /// The hook.
    pub hook: HookId,
    /// How many, since it was attached.
    pub events: u64,
}

/// What each attached hook of a plan missed, where the kernel tells.
pub(super) fn misses(ebpf: &Ebpf, plan: &[HookPlan]) -> impl Iterator<Item = HookMisses> {
    plan.iter().filter_map(|plan| {
        Some(HookMisses {
            hook: plan.hook.id,
            events: recursion_misses(ebpf, plan.program()?)?,
        })
    })
}

/// `recursion_misses` of a program, from its fdinfo (`bpf_prog_show_fdinfo`, since 5.12).
fn recursion_misses(ebpf: &Ebpf, program: &HookProgram) -> Option<u64> {
    let program = ebpf.program(program.name)?.fd().ok()?;
    parse(&fdinfo(program.as_fd())?)
}

fn fdinfo(program: BorrowedFd<'_>) -> Option<String> {
    std::fs::read_to_string(format!("/proc/self/fdinfo/{}", program.as_raw_fd())).ok()
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
