//! Memory registered for write-protection, and what else is known about it and its process.

use prometheus::proto::LabelPair;

use super::super::family::{FamilyKind, FamilyRows, FamilySpec};
use super::super::label::{self, pair};
use super::super::labelled::{OwnVma, hex};
use crate::model::ContainerPath;
use crate::probes::CountSignal;

pub(super) const FAMILIES: &[FamilySpec] = &[PAGES, VMA_BYTES, VMA_INFO, PROCESS_INFO];

const PAGES: FamilySpec = FamilySpec {
    name: "uffdwp_pages",
    kind: FamilyKind::Gauge,
    unit: "pages of 4 KiB",
    labels: &["pid", "comm", "vma", "backing", "state"],
    help: "Pages by state as the last background scan saw them; armed and written together are all \
        pages of the VMA. What was never armed counts as written, as in the kernel.",
    source: "PAGEMAP_SCAN of /proc/PID/pagemap, which changes nothing",
    exactness: "exact at the time of the scan, see uffdwp_scan_timestamp_seconds; of a process \
        that has not run since, one in six passes scans again, since others can arm its pages and \
        write to them",
    example: "sum by (pid) (uffdwp_pages{state=\"written\"}) / sum by (pid) (uffdwp_pages)",
    signals: &[CountSignal::Pages],
    rows: FamilyRows::Vma(|line, samples| {
        if let Some(pages) = line.gauges.and_then(|gauges| gauges.pages) {
            samples.count(&line.labels, [("state", "armed")], pages.armed);
            samples.count(&line.labels, [("state", "written")], pages.written);
        }
    }),
};

const VMA_BYTES: FamilySpec = FamilySpec {
    name: "uffdwp_vma_bytes",
    kind: FamilyKind::Gauge,
    unit: "bytes",
    labels: &["pid", "comm", "vma", "backing"],
    help: "Size of memory registered for write-protection.",
    source: "vm_start and vm_end of struct vm_area_struct, by iter/task_vma or /proc/PID/smaps",
    exactness: "exact at the last discovery",
    example: "sum(uffdwp_vma_bytes)",
    signals: &[],
    rows: FamilyRows::Vma(|line, samples| {
        if let Some(gauges) = &line.gauges {
            samples.count(&line.labels, [], gauges.bytes);
        }
    }),
};

const VMA_INFO: FamilySpec = FamilySpec {
    name: "uffdwp_vma_info",
    kind: FamilyKind::Gauge,
    unit: "always 1",
    labels: &["pid", "vma", "end", "name", "features"],
    help: "What else is known about a VMA with series of its own, to join on pid and vma: the file \
        or mapping name, the features of its userfaultfd (UFFD_FEATURE_* in hex), and its end, \
        which is there only with --vma-label address.",
    source: "/proc/PID/maps and /proc/PID/fdinfo",
    exactness: "asked when its process has other VMAs than before, in the discovery after that, and \
        else in one of 24",
    example: "rate(uffdwp_faults_total[5m]) * on (pid, vma) group_left (name) uffdwp_vma_info",
    signals: &[],
    rows: FamilyRows::Vma(|line, samples| {
        if let Some(own) = &line.own {
            samples.count(&vma_info_labels(own), [], 1);
        }
    }),
};

fn vma_info_labels(own: &OwnVma<'_>) -> [LabelPair; 5] {
    let OwnVma { process, vma, .. } = own;
    let features = vma.features.map(hex);
    [
        pair("pid", process.pid.to_string()),
        pair("vma", own.name()),
        pair("end", own.end()),
        pair("name", label::text(vma.name.as_deref().unwrap_or_default())),
        pair("features", features.unwrap_or_default()),
    ]
}

const PROCESS_INFO: FamilySpec = FamilySpec {
    name: "uffdwp_process_info",
    kind: FamilyKind::Gauge,
    unit: "always 1",
    labels: &["pid", "comm", "cgroup", "container_id", "pod_uid"],
    help: "What else is known about a process with series of its own, to join on pid: its cgroup, \
        and of which container and pod that is. The id of a container has no name of its runtime \
        before it (kube_pod_container_info: container_id without scheme). Both are empty outside \
        of containers.",
    source: "/proc/PID/cgroup; the names that kubelet, containerd, CRI-O, docker and podman give",
    exactness: "asked with uffdwp_page_table_bytes, and in one of 24 discoveries at least",
    example: "rate(uffdwp_faults_total[5m]) * on (pid) group_left (cgroup) uffdwp_process_info",
    signals: &[],
    rows: FamilyRows::Process(|line, samples| {
        if let Some(process) = line.own {
            let cgroup = process.cgroup.as_deref().unwrap_or_default();
            let container = ContainerPath::of(cgroup);
            let mut labels = line.labels.clone();
            labels.push(pair("cgroup", label::text(cgroup)));
            labels.push(pair(
                "container_id",
                container.container_id.unwrap_or_default(),
            ));
            labels.push(pair("pod_uid", container.pod_uid().unwrap_or_default()));
            samples.count(&labels, [], 1);
        }
    }),
};
