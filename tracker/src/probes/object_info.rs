//! What the kernel tells of a program and of a link (`struct bpf_prog_info`, `struct bpf_link_info`),
//! as far as no library reads it.

use std::os::fd::RawFd;

use bytemuck::{Pod, Zeroable};

/// `BPF_OBJ_GET_INFO_BY_FD` (uapi/linux/bpf.h).
const OBJ_GET_INFO_BY_FD: libc::c_long = 15;
/// `BPF_PERF_EVENT_KPROBE` and `BPF_PERF_EVENT_KRETPROBE`.
const KPROBES: [u32; 2] = [3, 4];

/// Events that the kernel kept from the program of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkMisses {
    /// Id of the program.
    pub program: u32,
    /// How many.
    pub events: u64,
}

/// Events that the kernel kept from a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProgramMisses {
    /// Id of the program.
    pub program: u32,
    /// How many.
    pub events: u64,
}

/// The beginning of `struct bpf_prog_info`.
#[repr(C)]
#[derive(Clone, Copy, Zeroable, Pod)]
struct ProgramInfo {
    kind: u32,
    program: u32,
    between: [u64; 25],
    recursion_misses: u64,
}

/// The member of `union bpf_attr` for this command.
#[repr(C)]
#[derive(Clone, Copy, Zeroable, Pod)]
struct InfoRequest {
    fd: u32,
    length: u32,
    info: u64,
}

/// The beginning of `struct bpf_link_info` for a perf event that is a kprobe or a kretprobe.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Zeroable, Pod)]
struct PerfLinkInfo {
    link_type: u32,
    link: u32,
    program: u32,
    gap: u32,
    event_type: u32,
    event_gap: u32,
    name: u64,
    name_length: u32,
    offset: u32,
    address: u64,
    missed: u64,
}

/// What a link of a kprobe or kretprobe missed: probes that were hit within a probe, and returns for
/// which no instance was free (`trace_kprobe_missed`). `None` if this is no such link, or the kernel
/// does not tell: it does since 6.7 (`bpf_perf_link_fill_kprobe`).
pub fn link_misses(fd: RawFd) -> Option<LinkMisses> {
    let (info, _) = info::<PerfLinkInfo>(fd)?;
    told(&info)
}

/// What a program missed because it, or another one, was already running on that CPU
/// (`bpf_prog_get_info_by_fd`). `None` if this is no program, or the kernel does not tell: it does
/// since 5.12.
pub fn program_misses(fd: RawFd) -> Option<ProgramMisses> {
    let (info, length) = info::<ProgramInfo>(fd)?;
    (length == size_of::<ProgramInfo>()).then_some(ProgramMisses {
        program: info.program,
        events: info.recursion_misses,
    })
}

/// The beginning of what the kernel tells of an object, and how many bytes it told.
fn info<T: Pod>(fd: RawFd) -> Option<(T, usize)> {
    let mut info = T::zeroed();
    let mut request = InfoRequest {
        fd: fd.try_into().ok()?,
        length: size_of::<T>().try_into().ok()?,
        info: (&raw mut info).expose_provenance() as u64,
    };
    // SAFETY: the kernel reads `request`, writes at most `length` bytes to `info`, and the length
    // that it wrote to `request`; both live.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            OBJ_GET_INFO_BY_FD,
            &raw mut request,
            size_of::<InfoRequest>(),
        )
    };
    (result == 0).then_some((info, request.length as usize))
}

fn told(info: &PerfLinkInfo) -> Option<LinkMisses> {
    KPROBES.contains(&info.event_type).then_some(LinkMisses {
        program: info.program,
        events: info.missed,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_links_of_kprobes_tell() {
        let info = |event_type| PerfLinkInfo {
            program: 7,
            event_type,
            missed: 190,
            ..Default::default()
        };
        let misses = LinkMisses {
            program: 7,
            events: 190,
        };
        assert_eq!(told(&info(3)), Some(misses));
        assert_eq!(told(&info(4)), Some(misses));
        // What an old kernel leaves empty, and a tracepoint.
        assert_eq!(told(&info(0)), None);
        assert_eq!(told(&info(5)), None);
        // The place of what is read, as in the header.
        assert_eq!(std::mem::offset_of!(PerfLinkInfo, missed), 48);
    }

    #[test]
    fn the_misses_of_a_program_are_where_the_header_has_them() {
        use aya_obj::generated::bpf_prog_info;
        let expected = std::mem::offset_of!(bpf_prog_info, recursion_misses);
        assert_eq!(
            std::mem::offset_of!(ProgramInfo, recursion_misses),
            expected
        );
        let expected = std::mem::offset_of!(bpf_prog_info, id);
        assert_eq!(std::mem::offset_of!(ProgramInfo, program), expected);
    }
}
