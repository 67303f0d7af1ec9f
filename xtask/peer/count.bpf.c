// The hand-written peer of `cargo xtask bench probes`: what one would write with libbpf to count
// uffd-wp faults, marker faults and page tables, in hash maps keyed by VMA or mm.
//
// Loaded and attached by `bpftool prog loadall count.bpf.o DIR autoattach`.

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/bpf_core_read.h>

#define PTE_UFFD_WP (1ULL << 10)
#define PTE_MARKER_UFFD_WP 0xfffffffffffffc00ULL

// Of the kernel's types only what is read; offsets come from the running kernel's BTF.
struct vm_area_struct {
	unsigned long vm_flags;
} __attribute__((preserve_access_index));

typedef struct {
	unsigned long pte;
} pte_t;

enum fault_flag {
	FAULT_FLAG_UNSHARE = 0x400,
};

struct vm_fault {
	struct vm_area_struct *vma;
	enum fault_flag flags;
	pte_t orig_pte;
} __attribute__((preserve_access_index));

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 10240);
	__type(key, __u64);
	__type(value, __u64);
} faults SEC(".maps"), markers SEC(".maps"), tables SEC(".maps");

static __always_inline void count(void *map, __u64 key)
{
	__u64 one = 1, *value = bpf_map_lookup_elem(map, &key);

	if (value)
		__sync_fetch_and_add(value, 1);
	else
		bpf_map_update_elem(map, &key, &one, BPF_NOEXIST);
}

SEC("fentry/do_wp_page")
int BPF_PROG(do_wp_page, struct vm_fault *vmf)
{
	if (vmf->orig_pte.pte & PTE_UFFD_WP && !(vmf->flags & FAULT_FLAG_UNSHARE))
		count(&faults, (__u64)vmf->vma);
	return 0;
}

SEC("fentry/do_swap_page")
int BPF_PROG(do_swap_page, struct vm_fault *vmf)
{
	if (vmf->orig_pte.pte == PTE_MARKER_UFFD_WP)
		count(&markers, (__u64)vmf->vma);
	return 0;
}

SEC("fentry/pmd_install")
int BPF_PROG(pmd_install, void *mm)
{
	count(&tables, (__u64)mm);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
