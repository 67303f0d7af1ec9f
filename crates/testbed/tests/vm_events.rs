//! What removes the uffd-wp bit from pages is reported event by event: each is done to memory of
//! ours, and the events about that memory must be the right ones. Runs in guests, and on hosts
//! where no function can be hooked.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::ffi::c_void;
use std::fs;
use std::io::Read as _;
use std::ops::Range;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use testbed::guest::is_realtime;
use tracker::probes::events::{EventOptions, EventProbes, WatchId};
use tracker::probes::plan::HookWishes;
use tracker::probes::{HookId, HookMechanism, ProbeLevel};
use tracker_ebpf::kernel::{
    FAULT_FLAG_INTERRUPTIBLE, FAULT_FLAG_REMOTE, FAULT_FLAG_USER, FAULT_FLAG_WRITE, UFFDIO_COPY,
    UFFDIO_REGISTER, UFFDIO_REGISTER_MODE_WP, UFFDIO_UNREGISTER, UFFDIO_WRITEPROTECT,
    UFFDIO_WRITEPROTECT_MODE_WP, VM_UFFD_WP,
};
use tracker_ebpf::{CALL_WORDS, CallKind, CallRecord, EventHead, EventKind, NO_SYSCALL};
use uffd::{
    PAGE_SIZE, PMD_SIZE, PageCategories, PageRegion, Pagemap, PagemapEntry, RegisterMode,
    ScanQuery, UffdFeatures, UffdMessage, Userfaultfd,
};

/// An event with its stacks.
#[derive(Clone, Debug)]
struct SeenEvent {
    head: EventHead,
    user: Vec<u64>,
    kernel: Vec<u64>,
}

impl SeenEvent {
    fn is(&self, kind: EventKind) -> bool {
        self.head.kind == kind as u32
    }

    fn range(&self) -> Range<u64> {
        self.head.start..self.head.start + self.head.length
    }

    /// Whether it is by this thread, in this system call.
    fn is_own(&self, syscall: libc::c_long) -> bool {
        self.head.tgid == std::process::id()
            && self.head.tid == tid()
            && i64::from(self.head.syscall) == syscall
    }
}

fn tid() -> u32 {
    rustix::thread::gettid().as_raw_pid() as u32
}

/// The probes, which watch this process.
struct WatchedProbes {
    events: EventProbes,
    watch: WatchId,
    /// Calls that had been lost when the test at hand began: no other takes any from their ring.
    calls_lost: u64,
}

static PROBES: Mutex<Option<WatchedProbes>> = Mutex::new(None);

/// Lets one test at a time use the probes.
struct WatchTurn(MutexGuard<'static, Option<WatchedProbes>>);

impl WatchTurn {
    /// `None` if the level does not fit the test.
    fn begin(level: ProbeLevel) -> Option<Self> {
        let mut probes = PROBES.lock().unwrap_or_else(PoisonError::into_inner);
        if probes.is_none() {
            let mut events = EventProbes::attach(&EventOptions::default());
            for hook in events.plan() {
                eprintln!(
                    "{}: {:?} ({})",
                    hook.hook.name(),
                    hook.mechanism(),
                    hook.verdict
                );
            }
            if level == ProbeLevel::Observe && !events.can_watch() {
                eprintln!("skipped: {}", events.reason());
                return None;
            }
            assert!(events.can_watch(), "{}", events.reason());
            assert_eq!(
                events.not_seen().is_empty(),
                events.level() == ProbeLevel::Full
            );
            let hooked = events.level() == ProbeLevel::Full;
            for hook in events.plan().iter().filter(|_| hooked) {
                assert_eq!(hook.refused(), None, "{}", hook.hook.name());
            }
            let watch = events.watch(std::process::id()).unwrap();
            *probes = Some(WatchedProbes {
                events,
                watch,
                calls_lost: 0,
            });
        }
        let reached = probes.as_ref().unwrap().events.level();
        let fits = match level {
            ProbeLevel::Observe => reached == ProbeLevel::Observe,
            _ => reached >= level,
        };
        if !fits {
            eprintln!("skipped: this is about level {level:?}, and here is {reached:?}");
            return None;
        }
        let ours = probes.as_mut().unwrap();
        ours.events.drain_calls(|_| ()).unwrap();
        ours.calls_lost = ours.events.dropped_calls(ours.watch);
        Some(Self(probes))
    }

    /// Takes all events from the ring.
    fn drain(&mut self) -> Vec<SeenEvent> {
        let probes = self.0.as_mut().unwrap();
        let mut all = Vec::new();
        let read = probes.events.drain(|head, user, kernel| {
            all.push(SeenEvent {
                head: *head,
                user: user.to_vec(),
                kernel: kernel.to_vec(),
            });
        });
        assert_eq!(read.unwrap(), all.len() as u64);
        assert_eq!(probes.events.dropped(), 0);
        assert!(all.iter().all(|seen| seen.head.watch == probes.watch.0));
        all
    }

    /// Takes all calls from their ring.
    fn drain_calls(&mut self) -> Vec<CallRecord> {
        let probes = self.0.as_mut().unwrap();
        let mut all = Vec::new();
        let read = probes.events.drain_calls(|call| all.push(*call));
        read.unwrap();
        let lost = probes.events.dropped_calls(probes.watch);
        assert_eq!(lost, probes.calls_lost);
        assert!(all.iter().all(|call| call.watch == probes.watch.0));
        all
    }

    /// The events about a range while something is done.
    fn during(&mut self, range: &Range<u64>, act: impl FnOnce()) -> Vec<SeenEvent> {
        self.drain();
        act();
        let mut all = self.drain();
        all.retain(|seen| seen.range().start < range.end && range.start < seen.range().end);
        all
    }
}

/// Memory that is registered with a userfaultfd.
struct RegisteredMemory {
    uffd: Arc<Userfaultfd>,
    range: Range<u64>,
    handler: Option<(Arc<AtomicBool>, JoinHandle<()>)>,
    unit: u64,
}

/// How memory is mapped.
#[derive(Clone, Copy)]
struct MappingKind {
    flags: i32,
    unit: u64,
    advice: i32,
}

const ANON: MappingKind = MappingKind {
    flags: libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
    unit: PAGE_SIZE,
    advice: libc::MADV_NOHUGEPAGE,
};
const SHMEM: MappingKind = MappingKind {
    flags: libc::MAP_SHARED | libc::MAP_ANONYMOUS,
    ..ANON
};
const ANON_HUGE: MappingKind = MappingKind {
    unit: PMD_SIZE,
    advice: libc::MADV_HUGEPAGE,
    ..ANON
};
const SHMEM_HUGE: MappingKind = MappingKind {
    unit: PMD_SIZE,
    advice: libc::MADV_HUGEPAGE,
    ..SHMEM
};
const HUGETLB: MappingKind = MappingKind {
    flags: libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_HUGETLB,
    unit: PMD_SIZE,
    advice: libc::MADV_NORMAL,
};

/// Maps this many bytes, aligned to 2 MiB. Never unmapped, so that addresses stay different.
fn map(kind: MappingKind, length: u64) -> Range<u64> {
    let whole = (length + PMD_SIZE) as usize;
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new mapping.
    let address = unsafe {
        let whole = if kind.flags & libc::MAP_HUGETLB == 0 {
            whole
        } else {
            length as usize
        };
        libc::mmap(std::ptr::null_mut(), whole, protection, kind.flags, -1, 0)
    };
    assert_ne!(
        address,
        libc::MAP_FAILED,
        "{}",
        std::io::Error::last_os_error()
    );
    let start = (address as u64).next_multiple_of(PMD_SIZE);
    // SAFETY: our own mapping.
    unsafe { libc::madvise(start as *mut c_void, length as usize, kind.advice) };
    start..start + length
}

impl RegisteredMemory {
    /// Memory whose pages are there and armed. A handler resolves faults where the kernel does not.
    fn armed(kind: MappingKind, length: u64) -> Self {
        let asynchronous = UffdFeatures::offered()
            .unwrap()
            .contains(UffdFeatures::WP_ASYNC);
        let memory = Self::registered(kind, length, asynchronous);
        memory.arm();
        memory
    }

    fn registered(kind: MappingKind, length: u64, asynchronous: bool) -> Self {
        let range = map(kind, length);
        for page in range.clone().step_by(PAGE_SIZE as usize) {
            store(page, 1);
        }
        let uffd = Userfaultfd::open().unwrap();
        let mut features = UffdFeatures::offered().unwrap() & UffdFeatures::WP_HUGETLBFS_SHMEM;
        if asynchronous {
            features = features | UffdFeatures::WP_ASYNC | UffdFeatures::WP_UNPOPULATED;
        }
        uffd.enable(features).unwrap();
        uffd.register(&range, RegisterMode::WP).unwrap();
        let uffd = Arc::new(uffd);
        let mut memory = Self {
            uffd,
            range,
            handler: None,
            unit: kind.unit,
        };
        if !asynchronous {
            memory.handle();
        }
        memory
    }

    fn arm(&self) {
        self.uffd.arm(&self.range).unwrap();
    }

    /// Arms as trackers do, which does not split huge pages.
    fn scan(&self) -> Vec<PageRegion> {
        let pagemap = Pagemap::own().unwrap();
        let mut regions = [PageRegion::default(); 64];
        let query = ScanQuery {
            arm: true,
            ..ScanQuery::WRITTEN
        };
        let mut all = Vec::new();
        let scanned = pagemap.scan(&self.range, &query, &mut regions, |region| all.push(region));
        scanned.unwrap();
        all
    }

    fn page(&self, number: u64) -> u64 {
        self.range.start + number * PAGE_SIZE
    }

    fn pages(&self, pages: Range<u64>) -> Range<u64> {
        self.page(pages.start)..self.page(pages.end)
    }

    /// Starts a thread that resolves every fault.
    fn handle(&mut self) {
        let (uffd, unit) = (self.uffd.clone(), self.unit);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = thread::spawn(move || {
            let mut messages = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                messages.clear();
                uffd.read_messages(&mut messages).unwrap();
                for message in &messages {
                    if let UffdMessage::Fault { address, .. } = message {
                        let start = address & !(unit - 1);
                        uffd.resolve(&(start..start + unit)).unwrap();
                    }
                }
                thread::sleep(Duration::from_millis(1));
            }
        });
        self.handler = Some((stop, thread));
    }
}

impl Drop for RegisteredMemory {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.handler.take() {
            stop.store(true, Ordering::Relaxed);
            // Its panic is in the output already.
            let _ = thread.join();
        }
    }
}

#[inline(never)]
fn store(address: u64, value: u8) {
    // SAFETY: only called with addresses of mappings of the test's own.
    unsafe { (address as *mut u8).write_volatile(value) }
}

fn advise(range: &Range<u64>, advice: i32) {
    let length = (range.end - range.start) as usize;
    // SAFETY: a range of the test's own mapping.
    let result = unsafe { libc::madvise(range.start as *mut c_void, length, advice) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}

/// Whether an address is in code of this program.
fn in_own_code(address: u64) -> bool {
    let own = fs::read_link("/proc/self/exe").unwrap();
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    maps.lines().any(|line| {
        let (range, rest) = line.split_once(' ').unwrap();
        let (start, end) = range.split_once('-').unwrap();
        let number = |text| u64::from_str_radix(text, 16).unwrap();
        rest.starts_with("r-x")
            && rest.ends_with(own.to_str().unwrap())
            && (number(start)..number(end)).contains(&address)
    })
}

/// The kernel function that an address is in.
fn function(address: u64) -> String {
    let symbols = fs::read_to_string("/proc/kallsyms").unwrap();
    let symbols = symbols.lines().filter_map(|line| {
        let mut words = line.split(' ');
        let start = u64::from_str_radix(words.next()?, 16).ok()?;
        let name = words.nth(1)?.split('\t').next()?;
        (start <= address).then(|| (start, name.to_owned()))
    });
    symbols.max().unwrap().1
}

fn one(seen: Vec<SeenEvent>) -> SeenEvent {
    let [one] = <[SeenEvent; 1]>::try_from(seen).unwrap_or_else(|all| panic!("{all:#?}"));
    one
}

/// The only event is a store by this thread to that page.
fn assert_store(seen: Vec<SeenEvent>, page: u64) {
    let seen = one(seen);
    assert!(seen.is(EventKind::Fault), "{seen:?}");
    assert_eq!(seen.range(), page..page + PAGE_SIZE);
    assert_eq!(
        seen.head.flags & (FAULT_FLAG_WRITE | FAULT_FLAG_USER),
        FAULT_FLAG_WRITE | FAULT_FLAG_USER,
        "{seen:?}"
    );
    assert!(seen.is_own(NO_SYSCALL.into()), "{seen:?}");
    assert_eq!(seen.user.first(), Some(&seen.head.instruction), "{seen:?}");
    assert!(in_own_code(seen.head.instruction), "{seen:?}");
    assert!(seen.kernel.is_empty(), "{seen:?}");
    let comm = fs::read_to_string("/proc/thread-self/comm").unwrap();
    let told = seen.head.comm.split(|byte| *byte == 0).next().unwrap();
    assert_eq!(told, comm.trim_end().as_bytes());
}

/// The only event is a write by the kernel to that page, in a system call of this thread.
fn assert_kernel_write(seen: Vec<SeenEvent>, page: u64, flags: u32, syscall: libc::c_long) {
    let seen = one(seen);
    assert!(seen.is(EventKind::Fault), "{seen:?}");
    assert_eq!(seen.range(), page..page + PAGE_SIZE);
    let told = seen.head.flags
        & (FAULT_FLAG_WRITE | FAULT_FLAG_USER | FAULT_FLAG_REMOTE | FAULT_FLAG_INTERRUPTIBLE);
    assert_eq!(told, FAULT_FLAG_WRITE | flags, "{seen:?}");
    assert!(seen.is_own(syscall), "{seen:?}");
    let first = seen.kernel.first().copied();
    assert_eq!(
        first.map(function).as_deref(),
        Some("do_wp_page"),
        "{seen:?}"
    );
    assert!(!seen.user.is_empty(), "{seen:?}");
}

#[test]
#[ignore = "needs a kernel whose functions can be hooked: cargo xtask test"]
fn a_store() {
    let Some(mut watching) = WatchTurn::begin(ProbeLevel::Partial) else {
        return;
    };
    for kind in [ANON, SHMEM] {
        let memory = RegisteredMemory::armed(kind, 8 * PAGE_SIZE);
        let page = memory.page(3);
        let seen = watching.during(&memory.range, || store(page + 7, 2));
        assert_store(seen, page);
        let seen = watching.during(&memory.range, || store(page + 8, 2));
        assert!(seen.is_empty(), "{seen:?}");
    }
}

#[test]
#[ignore = "needs a kernel whose functions can be hooked: cargo xtask test"]
fn a_read_from_a_file() {
    let Some(mut watching) = WatchTurn::begin(ProbeLevel::Partial) else {
        return;
    };
    let memory = RegisteredMemory::armed(ANON, 8 * PAGE_SIZE);
    let page = memory.page(2);
    let mut file = fs::File::open("/dev/zero").unwrap();
    let seen = watching.during(&memory.range, || {
        // SAFETY: memory of our own that nothing else refers to.
        let buffer = unsafe { std::slice::from_raw_parts_mut(page as *mut u8, 16) };
        file.read_exact(buffer).unwrap();
    });
    assert_kernel_write(seen, page, FAULT_FLAG_INTERRUPTIBLE, libc::SYS_read);
}

#[test]
#[ignore = "needs a kernel whose functions can be hooked: cargo xtask test"]
fn a_write_from_afar() {
    let Some(mut watching) = WatchTurn::begin(ProbeLevel::Partial) else {
        return;
    };
    let memory = RegisteredMemory::armed(ANON, 8 * PAGE_SIZE);
    let page = memory.page(5);
    let source = [7_u8; 16];
    let local = libc::iovec {
        iov_base: source.as_ptr() as *mut c_void,
        iov_len: 16,
    };
    let remote = libc::iovec {
        iov_base: page as *mut c_void,
        iov_len: 16,
    };
    let seen = watching.during(&memory.range, || {
        // SAFETY: it writes into memory of our own.
        let written = unsafe { libc::process_vm_writev(libc::getpid(), &local, 1, &remote, 1, 0) };
        assert_eq!(written, 16);
    });
    assert_kernel_write(seen, page, FAULT_FLAG_REMOTE, libc::SYS_process_vm_writev);
}

#[test]
#[ignore = "needs a kernel whose functions can be hooked: cargo xtask test"]
fn mlock() {
    let Some(mut watching) = WatchTurn::begin(ProbeLevel::Partial) else {
        return;
    };
    let memory = RegisteredMemory::armed(ANON, 4 * PAGE_SIZE);
    let seen = watching.during(&memory.range, || {
        let start = memory.range.start as *const c_void;
        // SAFETY: memory of our own.
        let locked = unsafe { libc::mlock(start, 4 * PAGE_SIZE as usize) };
        assert_eq!(locked, 0);
    });
    assert_eq!(seen.len(), 4, "{seen:#?}");
    for (number, seen) in (0..).zip(seen) {
        assert_kernel_write(vec![seen], memory.page(number), 0, libc::SYS_mlock);
    }
}

/// The two events are the beginning and the end of emptying that range.
fn assert_emptied(seen: &[SeenEvent], range: &Range<u64>, flags: u32, syscall: libc::c_long) {
    let [begin, end] = seen else {
        panic!("{seen:#?}")
    };
    assert!(
        begin.is(EventKind::Zap) && end.is(EventKind::Zapped),
        "{seen:#?}"
    );
    assert_eq!((begin.range(), end.range()), (range.clone(), range.clone()));
    assert!(begin.is_own(syscall) && end.is_own(syscall), "{seen:#?}");
    assert!(begin.head.time < end.head.time, "{seen:#?}");
    assert_eq!(begin.head.flags, flags, "{seen:#?}");
    let zaps = [
        "unmap_page_range",
        "__zap_vma_range",
        "__unmap_hugepage_range",
    ];
    let first = function(begin.kernel[0]);
    assert!(zaps.contains(&first.as_str()), "{first}");
}

#[test]
#[ignore = "needs a kernel whose functions can be hooked: cargo xtask test"]
fn memory_is_emptied() {
    let Some(mut watching) = WatchTurn::begin(ProbeLevel::Partial) else {
        return;
    };
    for kind in [ANON, SHMEM] {
        let memory = RegisteredMemory::armed(kind, 8 * PAGE_SIZE);
        let range = memory.pages(2..5);
        let seen = watching.during(&memory.range, || advise(&range, libc::MADV_DONTNEED));
        assert_emptied(&seen, &range, 0, libc::SYS_madvise);
    }
    let memory = RegisteredMemory::armed(HUGETLB, 2 * PMD_SIZE);
    let range = memory.range.start..memory.range.start + PMD_SIZE;
    let seen = watching.during(&memory.range, || advise(&range, libc::MADV_DONTNEED));
    assert_emptied(&seen, &range, 0, libc::SYS_madvise);
}

#[test]
#[ignore = "needs a kernel whose functions can be hooked: cargo xtask test"]
fn reclaim_takes_free_pages() {
    let Some(mut watching) = WatchTurn::begin(ProbeLevel::Partial) else {
        return;
    };
    let memory = RegisteredMemory::armed(ANON, 8 * PAGE_SIZE);
    let range = memory.pages(1..4);
    let seen = watching.during(&memory.range, || advise(&range, libc::MADV_FREE));
    // One event per page table of the range.
    assert!(
        seen.iter().all(|seen| seen.is(EventKind::Free)),
        "{seen:#?}"
    );
    assert!(seen.iter().all(|seen| seen.is_own(libc::SYS_madvise)));
    let pages: Vec<u64> = seen
        .iter()
        .flat_map(|seen| seen.range().step_by(PAGE_SIZE as usize))
        .collect();
    let expected: Vec<u64> = (1..4).map(|page| memory.page(page)).collect();
    assert_eq!(pages, expected, "{seen:#?}");
    let seen = watching.during(&memory.range, || advise(&range, libc::MADV_PAGEOUT));
    let mut pages: Vec<_> = seen.iter().map(SeenEvent::range).collect();
    pages.sort_by_key(|page| page.start);
    let expected: Vec<_> = (1..4).map(|page| memory.pages(page..page + 1)).collect();
    assert_eq!(pages, expected, "{seen:#?}");
    assert!(seen.iter().all(|seen| seen.is(EventKind::Reclaim)));
    assert!(seen.iter().all(|seen| seen.is_own(libc::SYS_madvise)));
}

#[test]
#[ignore = "needs a kernel whose functions can be hooked: cargo xtask test"]
fn mremap() {
    let Some(mut watching) = WatchTurn::begin(ProbeLevel::Partial) else {
        return;
    };
    let memory = RegisteredMemory::armed(ANON, 8 * PAGE_SIZE);
    let place = map(ANON, 8 * PAGE_SIZE);
    let range = memory.pages(2..5);
    let seen = watching.during(&place, || {
        let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
        let new = place.start as *mut c_void;
        let old = range.start as *mut c_void;
        // SAFETY: both are ours, and nothing refers to them.
        let moved = unsafe { libc::mremap(old, 3 * 4096, 3 * 4096, flags, new) };
        assert_eq!(moved, new);
    });
    let seen = one(seen);
    assert!(seen.is(EventKind::Move), "{seen:?}");
    assert_eq!(seen.range(), place.start..place.start + 3 * PAGE_SIZE);
    assert_eq!(seen.head.address, range.start);
    assert!(seen.is_own(libc::SYS_mremap), "{seen:?}");
}

#[test]
#[ignore = "needs a kernel whose functions can be hooked: cargo xtask test"]
fn fork() {
    let Some(mut watching) = WatchTurn::begin(ProbeLevel::Partial) else {
        return;
    };
    let memory = RegisteredMemory::armed(ANON, 8 * PAGE_SIZE);
    let seen = watching.during(&memory.range, || {
        // SAFETY: the child ends at once.
        unsafe {
            let child = libc::fork();
            if child == 0 {
                libc::_exit(0);
            }
            assert_eq!(libc::waitpid(child, std::ptr::null_mut(), 0), child);
        }
    });
    let seen = one(seen);
    assert!(seen.is(EventKind::Fork), "{seen:?}");
    assert_eq!(seen.range(), memory.range);
    assert!(seen.is_own(seen.head.syscall.into()), "{seen:?}");
}

#[test]
#[ignore = "needs a kernel whose functions can be hooked: cargo xtask test"]
fn unregistering() {
    let Some(mut watching) = WatchTurn::begin(ProbeLevel::Partial) else {
        return;
    };
    let memory = RegisteredMemory::armed(ANON, 8 * PAGE_SIZE);
    let range = memory.pages(2..5);
    let seen = watching.during(&memory.range, || memory.uffd.unregister(&range).unwrap());
    let seen = one(seen);
    assert!(seen.is(EventKind::Unregister), "{seen:?}");
    assert_eq!(seen.range(), range);
    assert!(seen.is_own(libc::SYS_ioctl), "{seen:?}");
}

#[test]
#[ignore = "needs a kernel whose functions can be hooked: cargo xtask test"]
fn a_store_to_a_huge_page() {
    let Some(mut watching) = WatchTurn::begin(ProbeLevel::Partial) else {
        return;
    };
    let memory = RegisteredMemory::armed(ANON_HUGE, PMD_SIZE);
    let page = memory.page(9);
    let seen = watching.during(&memory.range, || store(page + 1, 2));
    assert_store(seen, page);
    let memory = RegisteredMemory::registered(ANON_HUGE, PMD_SIZE, false);
    memory.arm();
    let page = memory.page(9);
    let seen = watching.during(&memory.range, || store(page + 1, 2));
    assert_store(seen, page);
}

#[test]
#[ignore = "needs a kernel whose functions can be hooked: cargo xtask test"]
fn a_store_to_hugetlb_memory() {
    let Some(mut watching) = WatchTurn::begin(ProbeLevel::Partial) else {
        return;
    };
    let memory = RegisteredMemory::armed(HUGETLB, 2 * PMD_SIZE);
    let page = memory.page(9);
    // A handler wakes the thread, which faults again.
    let mut seen = watching.during(&memory.range, || store(page + 1, 2));
    assert!(memory.handler.is_some() || seen.len() == 1, "{seen:#?}");
    seen.truncate(1);
    assert_store(seen, page);
}

/// A huge page of shmem that is armed as one, which only PAGEMAP_SCAN does.
fn armed_huge_shmem() -> Option<RegisteredMemory> {
    if !UffdFeatures::offered()
        .unwrap()
        .contains(UffdFeatures::WP_ASYNC)
    {
        eprintln!("skipped: PAGEMAP_SCAN is needed to arm a huge page whole");
        return None;
    }
    if is_realtime() {
        eprintln!("skipped: PREEMPT_RT has no huge pages");
        return None;
    }
    let enabled = "/sys/kernel/mm/transparent_hugepage/shmem_enabled";
    fs::write(enabled, "advise").unwrap();
    let memory = RegisteredMemory::registered(SHMEM_HUGE, PMD_SIZE, true);
    memory.scan();
    Some(memory)
}

#[test]
#[ignore = "needs a kernel whose functions can be hooked: cargo xtask test"]
fn a_store_to_a_huge_page_of_shmem() {
    let Some(mut watching) = WatchTurn::begin(ProbeLevel::Partial) else {
        return;
    };
    let Some(memory) = armed_huge_shmem() else {
        return;
    };
    let page = memory.page(9);
    let seen = one(watching.during(&memory.range, || store(page + 1, 2)));
    assert!(seen.is(EventKind::HugeSplit), "{seen:?}");
    assert_eq!(seen.range(), memory.range);
    assert_eq!(seen.head.address & !(PAGE_SIZE - 1), page);
    assert_eq!(seen.head.flags, 1);
    assert!(seen.is_own(NO_SYSCALL.into()), "{seen:?}");
    assert!(in_own_code(seen.head.instruction), "{seen:?}");
    assert_eq!(seen.user.first(), Some(&seen.head.instruction), "{seen:?}");
    assert!(seen.kernel.is_empty(), "{seen:?}");
}

#[test]
#[ignore = "needs a kernel whose functions can be hooked: cargo xtask test"]
fn a_huge_page_of_shmem_is_emptied() {
    let Some(mut watching) = WatchTurn::begin(ProbeLevel::Partial) else {
        return;
    };
    let Some(memory) = armed_huge_shmem() else {
        return;
    };
    let seen = watching.during(&memory.range, || advise(&memory.range, libc::MADV_DONTNEED));
    let (huge, others): (Vec<_>, Vec<_>) = seen
        .into_iter()
        .partition(|seen| seen.is(EventKind::HugeSplit));
    assert_emptied(&others, &memory.range, 0, libc::SYS_madvise);
    let huge = one(huge);
    assert_eq!((huge.range(), huge.head.flags), (memory.range.clone(), 0));
    assert!(huge.is_own(libc::SYS_madvise), "{huge:?}");
    assert_eq!(function(huge.kernel[0]), "zap_huge_pmd");
}

#[test]
#[ignore = "needs a kernel whose functions can be hooked: cargo xtask test"]
fn a_huge_page_of_shmem_is_reclaimed() {
    let Some(mut watching) = WatchTurn::begin(ProbeLevel::Partial) else {
        return;
    };
    let Some(memory) = armed_huge_shmem() else {
        return;
    };
    let seen = watching.during(&memory.range, || advise(&memory.range, libc::MADV_PAGEOUT));
    // Without swap it may stay.
    assert!(seen.len() <= 1, "{seen:#?}");
    for seen in seen {
        assert!(seen.is(EventKind::HugeSplit), "{seen:?}");
        assert_eq!((seen.range(), seen.head.flags), (memory.range.clone(), 0));
        assert!(seen.is_own(libc::SYS_madvise), "{seen:?}");
        eprintln!("{}", function(seen.kernel[0]));
    }
}

#[test]
#[ignore = "needs a kernel whose functions can be hooked: cargo xtask test"]
fn every_rung_attaches() {
    let Some(_watching) = WatchTurn::begin(ProbeLevel::Partial) else {
        return;
    };
    for mechanism in [HookMechanism::Fentry, HookMechanism::Kprobe] {
        let locked = (Some(HookId::wp_fault), HookMechanism::Kprobe);
        let locked = is_realtime().then_some(locked);
        let wishes = HookWishes {
            forced: [(None, mechanism)].into_iter().chain(locked).collect(),
            ..HookWishes::default()
        };
        let events = EventProbes::attach(&EventOptions {
            wishes,
            ..EventOptions::default()
        });
        assert_eq!(
            events.level(),
            ProbeLevel::Full,
            "{mechanism}: {}",
            events.reason()
        );
    }
}

#[test]
#[ignore = "needs a kernel whose functions can be hooked: cargo xtask test"]
fn what_does_not_fit_is_counted() {
    let Some(_watching) = WatchTurn::begin(ProbeLevel::Partial) else {
        return;
    };
    let mut events = EventProbes::attach(&EventOptions {
        ring: 4096,
        ..EventOptions::default()
    });
    let watch = events.watch(std::process::id()).unwrap();
    let memory = RegisteredMemory::armed(ANON, 32 * PAGE_SIZE);
    let mut read = 0;
    let mut count = |events: &mut EventProbes| {
        let range = &memory.range;
        let counted = events.drain(|head, _, _| read += u64::from(range.contains(&head.start)));
        counted.unwrap();
    };
    count(&mut events);
    let before = events.drops(watch);
    for page in 0..32 {
        store(memory.page(page), 2);
    }
    count(&mut events);
    let drops = events.drops(watch);
    assert!(drops.count >= before.count + 20, "{drops:?}");
    assert_eq!(read + drops.count - before.count, 32, "{drops:?}");
    assert!(
        drops.first <= drops.last && before.last < drops.last,
        "{drops:?}"
    );
    assert_eq!(events.dropped(), drops.count);
    assert_eq!(events.missed(), 0);
}

#[test]
#[ignore = "needs a kernel whose functions can be hooked: cargo xtask test"]
fn every_store_of_many_threads() {
    const THREADS: u64 = 8;
    const PAGES: u64 = 512;
    let Some(mut watching) = WatchTurn::begin(ProbeLevel::Partial) else {
        return;
    };
    let memory = RegisteredMemory::armed(ANON, THREADS * PAGES * PAGE_SIZE);
    let seen = watching.during(&memory.range, || {
        thread::scope(|scope| {
            for thread in 0..THREADS {
                let memory = &memory;
                scope.spawn(move || {
                    for page in 0..PAGES {
                        store(memory.page(page * THREADS + thread), 2);
                    }
                });
            }
        });
    });
    assert!(seen.iter().all(|seen| seen.is(EventKind::Fault)));
    // A handler may answer while the thread is about to fault again.
    let mut pages: Vec<u64> = seen.iter().map(|seen| seen.head.start).collect();
    pages.sort_unstable();
    if memory.handler.is_some() {
        pages.dedup();
    }
    let expected: Vec<u64> = (0..THREADS * PAGES).map(|page| memory.page(page)).collect();
    assert!(
        pages == expected,
        "{} instead of {}",
        pages.len(),
        expected.len()
    );
    assert_eq!(watching.0.as_ref().unwrap().events.missed(), 0);
}

#[test]
#[ignore = "needs a kernel whose functions can be hooked: cargo xtask test"]
fn guard_pages() {
    const INSTALL: i32 = 102;
    const REMOVE: i32 = 103;
    let Some(mut watching) = WatchTurn::begin(ProbeLevel::Partial) else {
        return;
    };
    if !tracker::probes::calibrate::guard_pages() {
        eprintln!("skipped: this kernel has no guard pages");
        return;
    }
    let memory = RegisteredMemory::armed(ANON, 8 * PAGE_SIZE);
    let range = memory.pages(2..4);
    let expected = [memory.pages(2..3), memory.pages(3..4)];
    for (advice, also) in [(INSTALL, true), (REMOVE, false)] {
        let seen = watching.during(&memory.range, || advise(&range, advice));
        let (guards, others): (Vec<_>, Vec<_>) =
            seen.into_iter().partition(|seen| seen.is(EventKind::Guard));
        let pages: Vec<_> = guards.iter().map(SeenEvent::range).collect();
        assert_eq!(pages, expected, "{guards:#?}");
        assert!(guards.iter().all(|seen| seen.is_own(libc::SYS_madvise)));
        // Pages that are there are emptied first.
        if also {
            assert_emptied(&others, &range, 0, libc::SYS_madvise);
        } else {
            assert!(others.is_empty(), "{others:#?}");
        }
    }
}

#[test]
#[ignore = "needs a kernel whose functions can be hooked: cargo xtask test"]
fn uffdio_move() {
    let Some(mut watching) = WatchTurn::begin(ProbeLevel::Partial) else {
        return;
    };
    if !UffdFeatures::offered()
        .unwrap()
        .contains(UffdFeatures::MOVE)
    {
        eprintln!("skipped: this kernel has no UFFDIO_MOVE");
        return;
    }
    let memory = RegisteredMemory::armed(ANON, 8 * PAGE_SIZE);
    let range = memory.pages(2..4);
    advise(&range, libc::MADV_DONTNEED);
    let source = map(ANON, 8 * PAGE_SIZE);
    store(source.start, 3);
    store(source.start + PAGE_SIZE, 3);
    let seen = watching.during(&memory.range, || {
        // SAFETY: both are ours, and nothing refers to them.
        let moved = unsafe { memory.uffd.move_pages(&range, source.start) };
        eprintln!("{moved:?}");
    });
    let seen = one(seen);
    assert!(seen.is(EventKind::UffdMove), "{seen:?}");
    assert_eq!((seen.range(), seen.head.address), (range, source.start));
    assert!(seen.is_own(libc::SYS_ioctl), "{seen:?}");
}

/// A call of ioctl(2) that another process makes on memory of ours.
struct ForeignCall {
    kind: CallKind,
    command: u32,
    words: [u64; CALL_WORDS],
}

impl ForeignCall {
    fn new(kind: CallKind, command: u32, given: &[u64]) -> Self {
        let mut words = [0; CALL_WORDS];
        words[..given.len()].copy_from_slice(given);
        Self {
            kind,
            command,
            words,
        }
    }

    /// Has a child make it; returns its process id, what it returned, and what it was given, as it
    /// was then.
    fn make(&self, file: i32, shared: &Range<u64>) -> (u32, i64, [u64; CALL_WORDS]) {
        let words = shared.start as *mut [u64; CALL_WORDS];
        let result = (shared.start + PAGE_SIZE / 2) as *mut i64;
        // SAFETY: the page is our own and shared with the child, which makes one call and ends.
        unsafe {
            words.write_volatile(self.words);
            let child = libc::fork();
            if child == 0 {
                let returned = libc::ioctl(file, self.command.into(), words);
                let error = i64::from(*libc::__errno_location());
                result.write_volatile(if returned < 0 {
                    -error
                } else {
                    returned.into()
                });
                libc::_exit(0);
            }
            assert_eq!(libc::waitpid(child, std::ptr::null_mut(), 0), child);
            (child as u32, result.read_volatile(), words.read_volatile())
        }
    }

    /// Expects that it is told, exactly and alone.
    fn assert_told(&self, watching: &mut WatchTurn, file: i32, features: u32) -> CallRecord {
        let shared = map(SHMEM, PAGE_SIZE);
        watching.drain_calls();
        let (child, result, words) = self.make(file, &shared);
        let told = watching.drain_calls();
        let [call] = told[..] else {
            panic!("{told:#?}")
        };
        assert_eq!(call.kind, self.kind as u32, "{call:?}");
        assert_eq!((call.tgid, call.tid), (child, child), "{call:?}");
        assert_eq!(call.result as i64, result, "{call:?}");
        assert_eq!(call.words, words, "{call:?}");
        assert!(call.began < call.ended, "{call:?}");
        // The kernel has a bit of its own.
        assert_eq!(call.features & !(1 << 31), features, "{call:?}");
        assert_eq!(i64::from(call.syscall), libc::SYS_ioctl, "{call:?}");
        let frames = &call.user[..call.user_frames as usize];
        assert_eq!(frames[0], call.instruction, "{call:?}");
        // A library may make the call.
        assert!(frames.iter().any(|frame| in_own_code(*frame)), "{call:?}");
        let comm = fs::read_to_string("/proc/thread-self/comm").unwrap();
        let name = call.comm.split(|byte| *byte == 0).next().unwrap();
        assert_eq!(name, comm.trim_end().as_bytes());
        call
    }
}

#[test]
#[ignore = "needs a kernel whose functions can be hooked: cargo xtask test"]
fn calls_on_a_userfaultfd() {
    let Some(mut watching) = WatchTurn::begin(ProbeLevel::Partial) else {
        return;
    };
    let memory = RegisteredMemory::armed(ANON, 8 * PAGE_SIZE);
    let features = UffdFeatures::offered().unwrap();
    let mut enabled = UffdFeatures::WP_HUGETLBFS_SHMEM;
    if features.contains(UffdFeatures::WP_ASYNC) {
        enabled = enabled | UffdFeatures::WP_ASYNC | UffdFeatures::WP_UNPOPULATED;
    }
    let other = map(ANON, 8 * PAGE_SIZE);
    let (start, length) = (other.start, 4 * PAGE_SIZE);
    let file = memory.uffd.as_fd().as_raw_fd();
    let (wp, mode) = (UFFDIO_WRITEPROTECT_MODE_WP, UFFDIO_REGISTER_MODE_WP);
    for (kind, command, words, succeeds) in [
        (
            CallKind::Register,
            UFFDIO_REGISTER,
            &[start, length, mode][..],
            true,
        ),
        (
            CallKind::WriteProtect,
            UFFDIO_WRITEPROTECT,
            &[start, length, wp],
            true,
        ),
        (
            CallKind::WriteProtect,
            UFFDIO_WRITEPROTECT,
            &[start, length, 0],
            true,
        ),
        (
            CallKind::WriteProtect,
            UFFDIO_WRITEPROTECT,
            &[start + 1, length, wp],
            false,
        ),
        (
            CallKind::Copy,
            UFFDIO_COPY,
            &[start, memory.page(1), PAGE_SIZE, 0],
            true,
        ),
        (
            CallKind::Unregister,
            UFFDIO_UNREGISTER,
            &[start, length],
            true,
        ),
    ] {
        let call = ForeignCall::new(kind, command, words);
        let told = call.assert_told(&mut watching, file, enabled.0 as u32);
        assert_eq!(told.result == 0, succeeds, "{told:?}");
        assert_eq!(told.words[..2], words[..2], "{told:?}");
    }
    watching.drain_calls();
    memory.arm();
    memory.uffd.unregister(&memory.range).unwrap();
    let own = watching.drain_calls();
    assert!(
        own.is_empty(),
        "the reader's own calls are not told: {own:#?}"
    );
}

/// `ForeignCall` makes commands only: `dd` reads.
#[test]
#[ignore = "needs a kernel whose functions can be hooked: cargo xtask test"]
fn reads_of_pagemap_by_another_process() {
    let Some(mut watching) = WatchTurn::begin(ProbeLevel::Partial) else {
        return;
    };
    let memory = RegisteredMemory::armed(ANON, 8 * PAGE_SIZE);
    watching.drain_calls();
    let (pid, first) = (std::process::id(), memory.range.start / PAGE_SIZE);
    let status = Command::new("dd")
        .arg(format!("if=/proc/{pid}/pagemap"))
        .args(["of=/dev/null", "bs=8", "count=2"])
        .arg(format!("skip={first}"))
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
    let told = watching.drain_calls();
    let told: Vec<_> = told
        .iter()
        .map(|call| (call.kind, call.words[0], call.words[1], call.result))
        .collect();
    let read = |page| (CallKind::Pagemap as u32, (first + page) * 8, 8, 8);
    assert_eq!(told, [read(0), read(1)]);
    let mut entries = [PagemapEntry::default(); 8];
    let own = Pagemap::own().unwrap();
    own.read(&memory.range, &mut entries).unwrap();
    assert!(watching.drain_calls().is_empty(), "the reader's own");
}

#[test]
#[ignore = "needs a kernel whose functions can be hooked: cargo xtask test"]
fn scans_by_another_process() {
    const PAGEMAP_SCAN: u32 = 0xc060_6610;
    const WP_MATCHING: u64 = 1;
    let Some(mut watching) = WatchTurn::begin(ProbeLevel::Partial) else {
        return;
    };
    if !UffdFeatures::offered()
        .unwrap()
        .contains(UffdFeatures::WP_ASYNC)
    {
        eprintln!("skipped: this kernel has no PAGEMAP_SCAN");
        return;
    }
    let memory = RegisteredMemory::armed(ANON, 8 * PAGE_SIZE);
    let regions = map(SHMEM, PAGE_SIZE);
    store(regions.start, 0);
    let pagemap = Pagemap::own().unwrap();
    let file = pagemap.as_fd().as_raw_fd();
    let Range { start, end } = memory.range;
    let written = PageCategories::WRITTEN.0;
    let scan = |flags, room, most| {
        // size, flags, start, end, walk_end, vec, vec_len, max_pages, inverted, all of, any of,
        // returned
        let vec = if room == 0 { 0 } else { regions.start };
        let words = [
            96, flags, start, end, 0, vec, room, most, 0, written, 0, written,
        ];
        ForeignCall::new(CallKind::Scan, PAGEMAP_SCAN, &words)
    };
    for page in [1, 3, 4, 6] {
        store(memory.page(page), 2);
    }
    // Room for two regions of three, for two pages of four, for all, and for none: that arms all.
    for (flags, room, most, result, walk_end) in [
        (0, 2, 0, 2, memory.page(6)),
        (0, 8, 2, 2, memory.page(4)),
        (0, 8, 0, 3, end),
        (WP_MATCHING, 0, 0, 0, end),
        (0, 8, 0, 0, end),
    ] {
        let told = scan(flags, room, most).assert_told(&mut watching, file, 0);
        assert_eq!((told.result, told.words[4]), (result, walk_end), "{told:?}");
    }
    memory.scan();
    assert!(watching.drain_calls().is_empty());
}

#[test]
#[ignore = "needs a kernel whose functions can be hooked: cargo xtask test"]
fn a_thread_waits_for_a_handler() {
    let Some(mut watching) = WatchTurn::begin(ProbeLevel::Partial) else {
        return;
    };
    let memory = RegisteredMemory::registered(ANON, 8 * PAGE_SIZE, false);
    memory.arm();
    let page = memory.page(5);
    watching.drain_calls();
    store(page + 7, 2);
    let waits = watching.drain_calls();
    // A thread that is woken may come again before the page can be written.
    let longest = waits.iter().max_by_key(|wait| wait.ended - wait.began);
    let wait = longest.unwrap();
    for wait in &waits {
        assert_eq!(wait.kind, CallKind::Wait as u32, "{wait:?}");
        assert_eq!(
            (wait.words[0], wait.words[2]),
            (page, VM_UFFD_WP),
            "{wait:?}"
        );
        let flags = u64::from(FAULT_FLAG_WRITE | FAULT_FLAG_USER);
        assert_eq!(wait.words[1] & flags, flags, "{wait:?}");
        assert_eq!((wait.tgid, wait.tid), (std::process::id(), tid()));
        assert_eq!(wait.syscall, NO_SYSCALL, "{wait:?}");
        assert!(in_own_code(wait.instruction), "{wait:?}");
    }
    assert!(wait.began < wait.ended, "{wait:?}");
    store(page + 8, 2);
    assert!(watching.drain_calls().is_empty());
}

#[test]
#[ignore = "needs a kernel whose functions can be hooked: cargo xtask test"]
fn ksm() {
    let Some(mut watching) = WatchTurn::begin(ProbeLevel::Partial) else {
        return;
    };
    let ksm = |name: &str, value: &str| fs::write(format!("/sys/kernel/mm/ksm/{name}"), value);
    if ksm("sleep_millisecs", "1").is_err() {
        eprintln!("skipped: this kernel has no KSM");
        return;
    }
    ksm("pages_to_scan", "1000").unwrap();
    // Newer kernels skip pages that did not merge before.
    let _ = ksm("smart_scan", "0");
    let memory = RegisteredMemory::armed(ANON, 16 * PAGE_SIZE);
    advise(&memory.range, libc::MADV_MERGEABLE);
    let number = |name: &str| -> u64 {
        let text = fs::read_to_string(format!("/sys/kernel/mm/ksm/{name}")).unwrap();
        text.trim().parse().unwrap()
    };
    let begin = Instant::now();
    let seen = watching.during(&memory.range, || {
        ksm("run", "1").unwrap();
        while number("pages_sharing") < 15 {
            assert!(
                begin.elapsed() < Duration::from_secs(120),
                "KSM merges nothing"
            );
            thread::sleep(Duration::from_millis(20));
        }
        ksm("run", "0").unwrap();
    });
    assert!(seen.iter().all(|seen| seen.is(EventKind::Ksm)), "{seen:#?}");
    let mut pages: Vec<u64> = seen.iter().map(|seen| seen.head.start).collect();
    pages.sort_unstable();
    pages.dedup();
    // One page is the one with which the others merge; it keeps its bit.
    assert!(pages.len() >= 15, "{seen:#?}");
    assert!(
        seen.iter()
            .all(|seen| seen.head.instruction == 0 && seen.user.is_empty())
    );
    ksm("run", "2").unwrap();
}

#[test]
#[ignore = "needs a kernel whose functions can be hooked: cargo xtask test"]
fn who_is_watched() {
    let Some(mut watching) = WatchTurn::begin(ProbeLevel::Partial) else {
        return;
    };
    let memory = RegisteredMemory::armed(ANON, 8 * PAGE_SIZE);
    let probes = watching.0.as_mut().unwrap();
    let before = probes.watch;
    probes.events.unwatch(before);
    let seen = watching.during(&memory.range, || store(memory.page(1), 2));
    assert!(seen.is_empty(), "{seen:?}");
    let probes = watching.0.as_mut().unwrap();
    assert!(probes.events.watch(u32::MAX).is_err());
    probes.watch = probes.events.watch(std::process::id()).unwrap();
    assert_ne!(probes.watch, before);
    let page = memory.page(2);
    let seen = watching.during(&memory.range, || store(page, 2));
    assert_store(seen, page);
}

#[test]
fn where_no_function_can_be_hooked() {
    let Some(mut watching) = WatchTurn::begin(ProbeLevel::Observe) else {
        return;
    };
    let memory = RegisteredMemory::armed(ANON, 8 * PAGE_SIZE);
    let page = memory.page(3);
    let seen = one(watching.during(&memory.range, || store(page + 7, 2)));
    assert!(seen.is(EventKind::HardwareFault), "{seen:?}");
    assert_eq!(
        (seen.range(), seen.head.address),
        (page..page + PAGE_SIZE, page + 7)
    );
    assert!(seen.is_own(NO_SYSCALL.into()), "{seen:?}");
    assert!(in_own_code(seen.head.instruction), "{seen:?}");
    assert!(seen.kernel.is_empty(), "{seen:?}");
    let page = memory.page(4);
    let mut file = fs::File::open("/dev/zero").unwrap();
    let seen = one(watching.during(&memory.range, || {
        // SAFETY: memory of our own that nothing else refers to.
        let buffer = unsafe { std::slice::from_raw_parts_mut(page as *mut u8, 16) };
        file.read_exact(buffer).unwrap();
    }));
    assert!(seen.is(EventKind::HardwareFault), "{seen:?}");
    assert_eq!(seen.range(), page..page + PAGE_SIZE);
    assert!(seen.is_own(libc::SYS_read), "{seen:?}");
    let functions: Vec<_> = seen
        .kernel
        .iter()
        .map(|address| function(*address))
        .collect();
    // The function of the tracepoint may be the first.
    let faults = |name: &String| name.ends_with("page_fault");
    assert!(functions.iter().any(faults), "{functions:?}");
    let range = memory.pages(5..7);
    let seen = one(watching.during(&memory.range, || advise(&range, libc::MADV_DONTNEED)));
    assert!(seen.is(EventKind::Syscall), "{seen:?}");
    assert_eq!(seen.range(), range);
    assert_eq!(
        (seen.head.address, seen.head.result),
        (libc::MADV_DONTNEED as u64, 0)
    );
    assert!(seen.is_own(libc::SYS_madvise), "{seen:?}");
}
