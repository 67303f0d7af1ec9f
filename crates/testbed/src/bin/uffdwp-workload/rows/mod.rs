//! The table of rows: each form of uffd-wp is a small function.

mod change;
mod fill;
mod fork;
mod huge;
mod kernel;
mod row;
mod threads;
mod touch;
mod vmas;
mod zap;

use tracker_ebpf::WpMode;
use uffd::UffdFeatures;

pub use row::WorkloadRow;

use crate::area::MemoryKind;
use crate::needs::TestNeed;
use crate::writer::WriteMeans;

const SHMEM: &[TestNeed] = &[TestNeed::ShmemMarkers];
const HUGETLB: &[TestNeed] = &[TestNeed::ShmemMarkers, TestNeed::Hugetlb];
const MARKERS: &[TestNeed] = &[TestNeed::AnonMarkers];
const KERNEL: &[TestNeed] = &[TestNeed::KernelFaults];
const FILE: &[TestNeed] = &[TestNeed::RegularFile];
const SCAN: &[TestNeed] = &[TestNeed::Scan];

/// All rows of the table.
pub const ROWS: &[WorkloadRow] = &[
    // Stores and loads of the program, by what backs the page and what is there.
    WorkloadRow::new(
        "anon-present",
        "write armed pages of anonymous memory",
        |t| touch::present(t, MemoryKind::Anon),
    ),
    WorkloadRow::new("anon-marker-write", "write where only markers are", |t| {
        touch::marker_write(t, MemoryKind::Anon)
    })
    .needs(MARKERS),
    WorkloadRow::new("anon-marker-read", "read where only markers are", |t| {
        touch::marker_read(t, MemoryKind::Anon)
    })
    .needs(MARKERS),
    WorkloadRow::new(
        "shmem-present",
        "the same with MAP_SHARED|MAP_ANONYMOUS",
        |t| touch::present(t, MemoryKind::SharedAnon),
    )
    .needs(SHMEM),
    WorkloadRow::new(
        "shmem-marker-write",
        "the same with MAP_SHARED|MAP_ANONYMOUS",
        |t| touch::marker_write(t, MemoryKind::SharedAnon),
    )
    .needs(SHMEM),
    WorkloadRow::new(
        "shmem-marker-read",
        "the same with MAP_SHARED|MAP_ANONYMOUS",
        |t| touch::marker_read(t, MemoryKind::SharedAnon),
    )
    .needs(SHMEM),
    WorkloadRow::new("memfd-present", "the same with a memfd", |t| {
        touch::present(t, MemoryKind::Memfd)
    })
    .needs(SHMEM),
    WorkloadRow::new("memfd-marker-write", "the same with a memfd", |t| {
        touch::marker_write(t, MemoryKind::Memfd)
    })
    .needs(SHMEM),
    WorkloadRow::new("memfd-marker-read", "the same with a memfd", |t| {
        touch::marker_read(t, MemoryKind::Memfd)
    })
    .needs(SHMEM),
    WorkloadRow::new(
        "hugetlb-present",
        "the same with huge pages of hugetlb",
        |t| touch::present(t, MemoryKind::Hugetlb),
    )
    .needs(HUGETLB),
    WorkloadRow::new(
        "hugetlb-marker-write",
        "the same with huge pages of hugetlb",
        |t| touch::marker_write(t, MemoryKind::Hugetlb),
    )
    .needs(HUGETLB),
    WorkloadRow::new(
        "hugetlb-marker-read",
        "the same with huge pages of hugetlb",
        |t| touch::marker_read(t, MemoryKind::Hugetlb),
    )
    .needs(HUGETLB),
    WorkloadRow::new(
        "file-private-present",
        "write armed pages of the page cache, mapped privately",
        |t| touch::read_then_write(t, MemoryKind::FilePrivate),
    )
    .only_async()
    .needs(FILE),
    WorkloadRow::new(
        "file-private-marker-write",
        "write markers over a private file mapping",
        |t| touch::marker_write(t, MemoryKind::FilePrivate),
    )
    .only_async()
    .needs(FILE),
    WorkloadRow::new(
        "file-shared-present",
        "write armed pages of a shared file mapping",
        |t| touch::present(t, MemoryKind::FileShared),
    )
    .only_async()
    .needs(FILE),
    WorkloadRow::new(
        "file-shared-marker-write",
        "write markers over a shared file mapping",
        |t| touch::marker_write(t, MemoryKind::FileShared),
    )
    .only_async()
    .needs(FILE),
    // Transparent huge pages.
    WorkloadRow::new(
        "thp",
        "write one byte to each armed transparent huge page",
        huge::anon,
    )
    .needs(&[TestNeed::Thp]),
    WorkloadRow::new(
        "thp-shmem",
        "the same with shmem: arming splits it into markers",
        huge::shmem,
    )
    .needs(&[TestNeed::ShmemThp, TestNeed::ShmemMarkers]),
    WorkloadRow::new(
        "thp-shmem-scan",
        "armed by PAGEMAP_SCAN instead: all bits are lost, nothing is seen",
        huge::shmem_scan,
    )
    .only_async()
    .needs(&[TestNeed::ShmemThp, TestNeed::Scan]),
    // Arming by PAGEMAP_SCAN.
    WorkloadRow::new(
        "scan-ptes",
        "PAGEMAP_SCAN arms tables with one page each: exact markers",
        touch::scan_ptes,
    )
    .only_async()
    .needs(SCAN),
    WorkloadRow::new(
        "scan-hole",
        "PAGEMAP_SCAN arms a range that has no tables",
        touch::scan_hole,
    )
    .only_async()
    .needs(SCAN),
    // Writes by the kernel, by another process, and by other paths into the fault handler.
    WorkloadRow::new(
        "read-pipe",
        "read(2) from a pipe into armed pages",
        kernel::from_pipe,
    )
    .needs(KERNEL),
    WorkloadRow::new(
        "read-file",
        "pread(2) from a memfd into armed pages",
        kernel::from_file,
    )
    .needs(KERNEL),
    WorkloadRow::new(
        "remote-writev",
        "process_vm_writev(2) by another process",
        |t| kernel::from_process(t, WriteMeans::VmWritev),
    )
    .needs(KERNEL)
    .with_writer(),
    // In sync mode the kernel refuses this write, because it cannot wait for a handler there.
    WorkloadRow::new(
        "remote-mem",
        "/proc/PID/mem written by another process",
        |t| kernel::from_process(t, WriteMeans::ProcMem),
    )
    .only_async()
    .needs(KERNEL)
    .with_writer(),
    WorkloadRow::new(
        "populate-fresh",
        "MADV_POPULATE_WRITE of empty memory, then armed and written",
        fill::populate_fresh,
    ),
    WorkloadRow::new(
        "populate-write",
        "MADV_POPULATE_WRITE over armed pages: written, and unchanged",
        fill::populate_present,
    )
    .needs(KERNEL),
    WorkloadRow::new(
        "populate-write-marker",
        "MADV_POPULATE_WRITE over markers",
        fill::populate_markers,
    )
    .needs(&[TestNeed::KernelFaults, TestNeed::AnonMarkers]),
    WorkloadRow::new(
        "mlock",
        "mlock(2) of armed pages: written, and unchanged",
        fill::lock,
    )
    .needs(KERNEL),
    WorkloadRow::new(
        "uffdio-copy",
        "UFFDIO_COPY fills armed pages, then they are written",
        fill::copy,
    ),
    // Pages that go away.
    WorkloadRow::new(
        "dontneed-anon",
        "MADV_DONTNEED of armed anonymous pages",
        zap::present_anon,
    ),
    WorkloadRow::new(
        "dontneed-anon-marker",
        "MADV_DONTNEED of anonymous markers",
        zap::markers_anon,
    )
    .needs(MARKERS),
    WorkloadRow::new(
        "dontneed-shmem",
        "MADV_DONTNEED of armed shmem leaves markers, then they are written",
        zap::present_shmem,
    )
    .needs(SHMEM),
    WorkloadRow::new(
        "munmap",
        "write armed pages, then munmap(2): every table is freed",
        zap::unmap,
    ),
    // Tracking that ends, and VMAs that change.
    WorkloadRow::new(
        "resolve-marker",
        "UFFDIO_WRITEPROTECT takes markers away",
        change::resolve_markers,
    )
    .needs(MARKERS),
    WorkloadRow::new(
        "unregister",
        "UFFDIO_UNREGISTER armed pages, then write: nothing is seen",
        change::unregister_present,
    ),
    WorkloadRow::new(
        "unregister-marker",
        "UFFDIO_UNREGISTER markers",
        change::unregister_markers,
    )
    .needs(MARKERS),
    WorkloadRow::new(
        "split",
        "a VMA splits, both parts are written",
        change::split,
    ),
    WorkloadRow::new(
        "merge",
        "a VMA splits and merges again, both parts are written",
        change::merge,
    ),
    WorkloadRow::new(
        "mremap",
        "mremap(2) without EVENT_REMAP: tracking ends",
        change::move_untracked,
    ),
    WorkloadRow::new(
        "mremap-event",
        "mremap(2) with EVENT_REMAP: tracking moves along",
        change::move_tracked,
    )
    .events(UffdFeatures::EVENT_REMAP),
    WorkloadRow::new(
        "fork",
        "fork(2) without EVENT_FORK: only the parent is tracked",
        fork::untracked,
    ),
    WorkloadRow::new(
        "fork-event",
        "fork(2) with EVENT_FORK: parent and child are tracked",
        fork::tracked,
    )
    .events(UffdFeatures::EVENT_FORK),
    // Many VMAs, and many threads.
    WorkloadRow::new(
        "many-vmas",
        "as many VMAs as --pages, each one page long, written while armed",
        vmas::many,
    ),
    WorkloadRow::new(
        "threads",
        "threads write armed pages, in rounds",
        threads::present,
    )
    .with_threads(),
    WorkloadRow::new(
        "threads-marker",
        "threads write markers, in rounds",
        threads::markers,
    )
    .needs(MARKERS)
    .with_threads(),
];

/// The row and mode with this full name.
pub fn find(full_name: &str) -> Option<(&'static WorkloadRow, WpMode)> {
    let all = ROWS
        .iter()
        .flat_map(|row| row.modes.iter().map(move |&mode| (row, mode)));
    let mut named = all.filter(|(row, mode)| row.full_name(*mode) == full_name);
    named.next()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn full_names_are_unique_and_found() {
        let mut names = HashSet::new();
        for row in ROWS {
            for &mode in row.modes {
                let name = row.full_name(mode);
                assert!(names.insert(name.clone()), "{name} twice");
                let (found, found_mode) = find(&name).unwrap();
                assert_eq!((found.name, found_mode), (row.name, mode));
            }
        }
        assert!(find("anon-present").is_none(), "a mode is part of the name");
    }
}
