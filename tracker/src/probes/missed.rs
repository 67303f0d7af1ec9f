//! Events that the kernel kept from a program: because it, or another one, was already running on
//! that CPU, or because too many returns were under way.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::{AsFd as _, AsRawFd as _, RawFd};

use aya::Ebpf;

use super::hooks::{HookId, HookProgram};
use super::link_info;
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
pub(super) fn misses<'a>(
    ebpf: &Ebpf,
    plan: impl IntoIterator<Item = &'a HookPlan>,
) -> impl Iterator<Item = HookMisses> {
    let links = links();
    plan.into_iter().filter_map(move |plan| {
        let program = told_by_program(ebpf, plan.attached()?)?;
        Some(HookMisses {
            hook: plan.hook.id,
            events: program.missed + links.get(&program.id).copied().unwrap_or(0),
        })
    })
}

/// What the kernel tells of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ProgramMisses {
    /// Its id.
    id: u32,
    /// How many events it missed.
    missed: u64,
}

/// `recursion_misses` of a program, from its fdinfo (`bpf_prog_show_fdinfo`, since 5.12).
fn told_by_program(ebpf: &Ebpf, program: &HookProgram) -> Option<ProgramMisses> {
    let program = ebpf.program(program.name)?.fd().ok()?;
    let path = format!("/proc/self/fdinfo/{}", program.as_fd().as_raw_fd());
    parse(&fs::read_to_string(path).ok()?)
}

/// What the links of kprobes and kretprobes missed, by the id of their program.
fn links() -> BTreeMap<u32, u64> {
    let mut links = BTreeMap::new();
    for misses in link_fds().filter_map(link_info::link_misses) {
        *links.entry(misses.program).or_default() += misses.events;
    }
    links
}

/// Files of ours that are links. They are called bpf-link or bpf_link.
fn link_fds() -> impl Iterator<Item = RawFd> {
    let files = fs::read_dir("/proc/self/fd").into_iter().flatten();
    // A file that was closed meanwhile is no link of ours.
    files.filter_map(|file| {
        let file = file.ok()?;
        let target = fs::read_link(file.path()).ok()?;
        let target = target.to_str()?;
        let number = file.file_name().to_str()?.parse().ok()?;
        (target.contains("bpf-link") || target.contains("bpf_link")).then_some(number)
    })
}

fn parse(fdinfo: &str) -> Option<ProgramMisses> {
    let value = |key: &str| {
        let line = fdinfo.lines().find_map(|line| line.strip_prefix(key))?;
        line.trim().parse::<u64>().ok()
    };
    Some(ProgramMisses {
        id: value("prog_id:")?.try_into().ok()?,
        missed: value("recursion_misses:")?,
    })
}

#[cfg(test)]
mod tests {
    use super::{ProgramMisses, parse};

    #[test]
    fn fdinfo_of_a_program() {
        let text = "pos:\t0\nprog_type:\t26\nprog_id:\t7\nrun_cnt:\t0\n\
                    recursion_misses:\t17\nverified_insns:\t98\n";
        assert_eq!(parse(text), Some(ProgramMisses { id: 7, missed: 17 }));
        assert_eq!(parse("pos:\t0\n"), None);
    }
}
