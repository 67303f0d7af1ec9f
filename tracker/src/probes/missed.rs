//! Events that the kernel kept from a program: because it, or another one, was already running on
//! that CPU, or because too many returns were under way.

use std::fs;
use std::os::fd::{AsFd as _, AsRawFd as _, RawFd};

use aya::Ebpf;

use super::hooks::HookId;
use super::object_info;
use super::verdict::HookPlan;

/// Events that the kernel kept from a hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HookMisses {
    /// The hook.
    pub hook: HookId,
    /// How many, since it was attached.
    pub events: u64,
}

/// Where the kernel tells what it keeps from the attached hooks of a plan, for as long as none is
/// attached or detached.
#[derive(Default)]
pub(super) struct MissSources {
    hooks: Vec<HookSources>,
    /// Whether it tells of each.
    complete: bool,
}

/// Files of one hook.
struct HookSources {
    hook: HookId,
    program: RawFd,
    /// Those of its links that tell.
    links: Vec<RawFd>,
}

impl MissSources {
    pub(super) fn find<'a>(ebpf: &Ebpf, plan: impl IntoIterator<Item = &'a HookPlan>) -> Self {
        // Only links of kprobes and kretprobes tell.
        let told = |link| Some((link, object_info::link_misses(link)?.program));
        let links: Vec<(RawFd, u32)> = link_fds().filter_map(told).collect();
        let of = |plan: &HookPlan| {
            let program = ebpf.program(plan.attached()?.name)?.fd().ok()?;
            let program = program.as_fd().as_raw_fd();
            let id = object_info::program_misses(program)?.program;
            let own = links.iter().filter(|(_, program)| *program == id);
            Some(HookSources {
                hook: plan.hook.id,
                program,
                links: own.map(|(link, _)| *link).collect(),
            })
        };
        let attached = plan.into_iter().filter(|plan| plan.attached().is_some());
        let hooks: Vec<_> = attached.map(of).collect();
        Self {
            complete: hooks.iter().all(Option::is_some),
            hooks: hooks.into_iter().flatten().collect(),
        }
    }

    /// What each hook missed, where the kernel tells.
    pub(super) fn read(&self) -> impl Iterator<Item = HookMisses> {
        self.hooks.iter().filter_map(|sources| {
            let links = sources.links.iter();
            let links = links.filter_map(|link| object_info::link_misses(*link));
            let by_links: u64 = links.map(|misses| misses.events).sum();
            Some(HookMisses {
                hook: sources.hook,
                events: object_info::program_misses(sources.program)?.events + by_links,
            })
        })
    }

    /// What all hooks missed; `None` if the kernel does not tell of one.
    pub(super) fn all(&self) -> Option<u64> {
        let told: Vec<u64> = self.read().map(|missed| missed.events).collect();
        (self.complete && told.len() == self.hooks.len()).then(|| told.iter().sum())
    }
}

/// What each attached hook of a plan missed, where the kernel tells.
pub(super) fn misses<'a>(
    ebpf: &Ebpf,
    plan: impl IntoIterator<Item = &'a HookPlan>,
) -> Vec<HookMisses> {
    MissSources::find(ebpf, plan).read().collect()
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
