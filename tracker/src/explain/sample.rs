//! Made-up findings for tests: every verdict, most causes, names that nobody should print as they
//! are.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use pages::track::{
    MappingRound, SessionEvent, TrackHeader, TrackRound, TrackedMapping, TrackedPages,
    UntrackedReason,
};
use tracker_ebpf::EventKind;
use uffd::{Backing, PAGE_SIZE, pages_in};

use super::history::ScanSpan;
use super::model::{EventMeaning, WatchedEvent};
use super::{
    AnswerTally, AuditFinding, AuditFindings, AuditKind, AuditSight, CallerThread, CauseSight,
    CodePlace, ExplainFindings, ExplainedRound, HandlerWaits, MissCandidate, MissedPages,
    NamingCost, PageSampling, PageStory, PlaceId, ReportAnswer, ReportCause, ReportOwner,
    ReportVerdict, ReportedPages, RoundDelay, RoundFindings, SightGap, StackFrame, StoryLine,
    UnknownReason, VmaFindings,
};
use crate::track::sample;

/// An event of some thread.
pub(crate) fn event(
    time: u64,
    range: Range<u64>,
    address: u64,
    meaning: EventMeaning,
) -> WatchedEvent {
    WatchedEvent {
        time,
        range,
        address,
        kind: EventKind::Fault,
        meaning,
        tgid: 1,
        tid: 1,
        comm: Arc::from("test"),
        place: None,
    }
}

/// A scan that began at 100 and ended at 110.
pub(crate) const fn scan() -> ScanSpan {
    ScanSpan {
        began: 100,
        ended: 110,
    }
}

/// A mapping of 4 KiB pages.
pub(crate) fn mapping_of(range: Range<u64>, backing: Backing) -> TrackedMapping {
    TrackedMapping {
        start: range.start,
        end: range.end,
        name: "[heap]".to_owned(),
        backing,
        page_size: PAGE_SIZE,
        shared: None,
    }
}

/// A round of one mapping: it reports pages 0 and 1, which changed, and 2 and 3, which did not; and
/// page 9 changed without a report.
pub(crate) fn explained(number: u64) -> ExplainedRound {
    const START: u64 = 0x10_0000;
    let mapping = Arc::new(mapping_of(START..START + 16 * PAGE_SIZE, Backing::Anon));
    let told = |from, verdict| reported(&mapping, from, 2, verdict, ReportCause::UserStore, None);
    let changed = told(0, ReportVerdict::Changed);
    let unchanged = told(2, ReportVerdict::Unchanged);
    let missed = missed(&mapping, 9, 1, false, &[MissCandidate::PinnedBuffer]);
    let row = MappingRound {
        mapping: Arc::clone(&mapping),
        pages: TrackedPages {
            tracked: 16,
            ..TrackedPages::default()
        },
        written: Vec::new(),
    };
    ExplainedRound {
        round: TrackRound {
            number,
            mappings: vec![row],
            ..TrackRound::default()
        },
        reported: vec![(Arc::clone(&mapping), vec![changed, unchanged])],
        missed: vec![(mapping, vec![missed])],
        verified: 12,
        events: 4,
        dropped: 0,
        took: Duration::from_millis(1),
        stood_still: None,
    }
}

/// Findings that add up: everything is counted from rounds and from what was missed.
pub(crate) fn assembled(
    header: TrackHeader,
    rounds: Vec<RoundFindings>,
    missed: Vec<(Arc<TrackedMapping>, MissedPages)>,
    stacks: BTreeMap<PlaceId, CodePlace>,
) -> ExplainFindings {
    let sampling = PageSampling { one_of: 1 };
    let mut findings = ExplainFindings::new(header, CauseSight::default(), sampling);
    findings.stacks = stacks;
    findings.verified = 1_234_567;
    findings.events = 45_678;
    findings.tracked = 393_216;
    findings.memory = 14 << 20;
    findings.hashed = 7 << 30;
    findings.took = Duration::from_millis(2_400);
    findings.naming = NamingCost {
        addresses: 1_024,
        modules: 7,
        after: Duration::from_millis(1_200),
        during: Duration::from_micros(90),
    };
    let mut vmas: BTreeMap<(u64, String), VmaFindings> = BTreeMap::new();
    let mut vma = |mapping: &Arc<TrackedMapping>, tell: &mut dyn FnMut(&mut VmaFindings)| {
        let key = (mapping.start, mapping.name.clone());
        tell(vmas.entry(key).or_insert_with(|| VmaFindings {
            mapping: Arc::clone(mapping),
            flags: "rd wr mr mw me ac sd uw".to_owned(),
            tally: AnswerTally::new(),
            missed: 0,
        }));
    };
    for round in &rounds {
        findings.not_looked_at = findings.not_looked_at.most(&round.not_looked_at);
        for (mapping, all) in &round.reported {
            for reported in all {
                let (why, pages) = (reported.why, pages_in(&reported.range));
                add(&mut findings.tally, why, pages);
                vma(mapping, &mut |vma| add(&mut vma.tally, why, pages));
                if let Some(place) = reported.place {
                    add(findings.places.entry(place).or_default(), why, pages);
                }
                if let Some(reason) = reported.verdict_unknown {
                    add(&mut findings.verdict_unknown, reason, pages);
                }
                if let Some(reason) = reported.cause_unknown {
                    add(&mut findings.cause_unknown, reason, pages);
                }
            }
        }
    }
    for (mapping, missed) in &missed {
        let pages = pages_in(&missed.range);
        vma(mapping, &mut |vma| {
            vma.missed = vma.missed.saturating_add(pages)
        });
    }
    findings.vmas = vmas.into_values().collect();
    (findings.rounds, findings.missed) = (rounds, missed);
    findings
}

fn add<K: Ord>(counts: &mut BTreeMap<K, u64>, key: K, pages: u64) {
    let count = counts.entry(key).or_default();
    *count = count.saturating_add(pages);
}

/// A round line of reported pages.
pub(crate) fn round(
    number: u64,
    reported: Vec<(Arc<TrackedMapping>, Vec<ReportedPages>)>,
) -> RoundFindings {
    let mut tally = AnswerTally::new();
    for one in reported.iter().flat_map(|(_, all)| all) {
        add(&mut tally, one.why, pages_in(&one.range));
    }
    RoundFindings {
        number,
        at: Duration::from_millis(100 * number),
        delay: RoundDelay::default(),
        tally,
        missed: 0,
        verified: 0,
        dropped: 0,
        took: Duration::from_millis(40),
        not_looked_at: [(UntrackedReason::Kernel, 6)].into_iter().collect(),
        events: vec![],
        reported,
    }
}

/// A database that stores the same values again, beside much else.
pub(crate) fn database() -> ExplainFindings {
    let maps = SampleMaps::new();
    let mut rounds: Vec<_> = (1..=60)
        .map(|number| round(number, maps.round(number)))
        .collect();
    if let Some(round) = rounds.get_mut(30) {
        let event = SessionEvent::Recorded("a range was given back\u{1b}[2J".into());
        round.events.push(event);
        round.missed = 3;
        round.delay = RoundDelay {
            left_out: 2,
            late: Duration::from_millis(7),
        };
    }
    let missed = vec![
        (
            Arc::clone(&maps.memfd),
            missed(&maps.memfd, 5, 3, false, &[MissCandidate::SecondMapping]),
        ),
        (
            Arc::clone(&maps.memfd),
            missed(
                &maps.memfd,
                64,
                8,
                true,
                &[MissCandidate::HolePunch, MissCandidate::SecondMapping],
            ),
        ),
    ];
    let mut findings = assembled(sample::header("redis-server"), rounds, missed, stacks());
    if let Some(vma) = findings.vmas.get_mut(1) {
        vma.flags += " hg mg";
    }
    findings.story = Some(story(maps.heap.start));
    findings
}

/// The same, half blind: a sample, and not all causes.
pub(crate) fn half_blind() -> ExplainFindings {
    let mut findings = database();
    findings.sampling.one_of = 8;
    let gap = |hook: &str, reason: &str| SightGap::NoHook {
        hook: hook.into(),
        reason: reason.into(),
    };
    findings.seen = CauseSight::new(vec![
        gap("KSM", "this kernel has no tracepoint ksm_merge_one_page"),
        gap("user stacks", "no CAP_PERFMON"),
    ]);
    findings.dropped = 12;
    findings.audit = Some(audited());
    findings
}

/// A tracker of its own, that has faults.
fn audited() -> AuditFindings {
    let thread = |tid, comm| CallerThread {
        tgid: 4242,
        tid,
        comm: Arc::from(comm),
    };
    let page = 0x10_0000..0x10_1000;
    let found = |kind, times, pages| AuditFinding {
        kind,
        place: Some(PlaceId(1)),
        earlier: None,
        caller: Some(thread(4242, "tracker\u{1b}[31m")),
        times,
        pages,
        open: 0,
        tables: 0,
        took: Duration::from_micros(1_500),
        longest: Duration::from_micros(700),
        ranges: vec![page.clone()],
    };
    let window = AuditFinding {
        earlier: Some(PlaceId(2)),
        open: 640,
        ranges: (0..4).map(|n| n << 20..(n << 20) + PAGE_SIZE).collect(),
        ..found(AuditKind::ReadThenArm, 12, 5)
    };
    let waits = HandlerWaits {
        caller: thread(4250, "writer"),
        times: 120,
        whole: Duration::from_millis(9),
        longest: Duration::from_millis(3),
        page: 0x7f00_0000_1000,
    };
    AuditFindings {
        sight: AuditSight::Gaps(vec!["which trackers scan: no kprobes".to_owned()]),
        calls: 1_234,
        dropped: 1,
        found: vec![window, found(AuditKind::ExtraCategories, 1, 1)],
        waits: vec![waits],
        answers: BTreeMap::from([((thread(4243, "handler"), 1), 120)]),
        features_unknown: true,
        cleared: BTreeMap::from([(thread(4243, "handler"), 3)]),
    }
}

/// A tracker of its own, that has none.
pub(crate) fn clean_tracker() -> ExplainFindings {
    let mut findings = nothing();
    findings.audit = Some(AuditFindings {
        sight: AuditSight::Complete,
        calls: 17,
        dropped: 0,
        found: Vec::new(),
        waits: Vec::new(),
        answers: BTreeMap::new(),
        features_unknown: false,
        cleared: BTreeMap::new(),
    });
    findings
}

/// Those of a tracker that is there already.
pub(crate) fn of_theirs() -> ExplainFindings {
    let mut findings = half_blind();
    findings.owner = ReportOwner::Theirs;
    findings.header.strategy = ReportOwner::Theirs.to_string();
    findings.header.reason =
        "its memory belongs to a userfaultfd, which the process itself holds".to_owned();
    findings.not_rearmed = 24;
    findings.perhaps_reported = 583;
    findings.never_observed = 2;
    findings
}

/// Nothing happened.
pub(crate) fn nothing() -> ExplainFindings {
    assembled(sample::header("sleep"), vec![], vec![], BTreeMap::new())
}

struct SampleMaps {
    heap: Arc<TrackedMapping>,
    arena: Arc<TrackedMapping>,
    pool: Arc<TrackedMapping>,
    memfd: Arc<TrackedMapping>,
}

impl SampleMaps {
    fn new() -> Self {
        let mapping = |start, pages, name: &str, backing, page_size| {
            Arc::new(TrackedMapping {
                start,
                end: start + pages * PAGE_SIZE,
                name: name.to_owned(),
                backing,
                page_size,
                shared: None,
            })
        };
        Self {
            heap: mapping(0x5580_1a00_0000, 2_600, "[heap]", Backing::Anon, PAGE_SIZE),
            arena: mapping(0x7f10_0000_0000, 65_536, "", Backing::Anon, PAGE_SIZE),
            pool: mapping(
                0x7f20_0000_0000,
                4_096,
                "/dev/hugepages/pool",
                Backing::Hugetlb,
                512 * PAGE_SIZE,
            ),
            memfd: mapping(
                0x7f30_0000_0000,
                4_096,
                "/memfd:\u{202e}evil\u{1b}[31m\n<script>alert(1)</script> (deleted)",
                Backing::Shmem,
                PAGE_SIZE,
            ),
        }
    }

    fn round(&self, n: u64) -> Vec<(Arc<TrackedMapping>, Vec<ReportedPages>)> {
        use ReportVerdict::{Changed, Unchanged, Unknown, Zeroed};
        let heap = vec![
            reported(
                &self.heap,
                0,
                96,
                Unchanged,
                ReportCause::UserStore,
                Some(1),
            ),
            reported(
                &self.heap,
                100,
                24,
                Changed,
                ReportCause::UserStore,
                Some(1),
            ),
            reported(
                &self.heap,
                200 + n * 20,
                20,
                Changed,
                ReportCause::UserStore,
                Some(2),
            ),
            reported(
                &self.heap,
                1_500,
                4,
                Unchanged,
                ReportCause::KernelCopy,
                Some(3),
            ),
            reported(
                &self.heap,
                1_504,
                12,
                Changed,
                ReportCause::KernelCopy,
                Some(3),
            ),
        ];
        let at = n * 1_000 % 60_000;
        let arena = vec![
            reported(
                &self.arena,
                at,
                80,
                Changed,
                ReportCause::UserStore,
                Some(4),
            ),
            reported(
                &self.arena,
                at + 90,
                40,
                Unchanged,
                ReportCause::UserStore,
                Some(5),
            ),
            reported(&self.arena, at + 200, 30, Zeroed, ReportCause::Zap, Some(6)),
        ];
        let mut all = vec![
            (Arc::clone(&self.heap), heap),
            (Arc::clone(&self.arena), arena),
        ];
        if n == 1 {
            let unknown = ReportedPages {
                verdict_unknown: Some(UnknownReason::NoImageBefore),
                ..reported(
                    &self.arena,
                    61_000,
                    900,
                    Unknown,
                    ReportCause::NeverArmed,
                    None,
                )
            };
            if let Some((_, arena)) = all.last_mut() {
                arena.push(unknown);
            }
        }
        if n.is_multiple_of(20) {
            let unit = (n / 20 % 8) * 512;
            let pool = vec![
                reported(&self.pool, unit, 1, Changed, ReportCause::HugeUnit, Some(2)),
                reported(
                    &self.pool,
                    unit + 1,
                    511,
                    Unchanged,
                    ReportCause::HugeUnit,
                    Some(2),
                ),
            ];
            all.push((Arc::clone(&self.pool), pool));
        }
        if n > 50 {
            let lost = ReportedPages {
                cause_unknown: Some(UnknownReason::NotSeen),
                ..reported(&self.memfd, 20, 6, Changed, ReportCause::Unknown, None)
            };
            let ksm = reported(&self.memfd, 40, 9, Unchanged, ReportCause::Ksm, Some(7));
            all.push((Arc::clone(&self.memfd), vec![lost, ksm]));
        }
        all
    }
}

fn reported(
    mapping: &TrackedMapping,
    page: u64,
    pages: u64,
    verdict: ReportVerdict,
    cause: ReportCause,
    place: Option<u32>,
) -> ReportedPages {
    let start = mapping.start + page * PAGE_SIZE;
    let thread = place.map(|place| match place {
        5 => (4245, Arc::from("io_thd_\u{7}<b>")),
        7 => (42, Arc::from("ksmd")),
        _ => (4242, Arc::from("redis-server")),
    });
    ReportedPages {
        range: start..start + pages * PAGE_SIZE,
        why: ReportAnswer { verdict, cause },
        verdict_unknown: None,
        cause_unknown: None,
        place: place.map(PlaceId),
        thread,
    }
}

fn missed(
    mapping: &TrackedMapping,
    page: u64,
    pages: u64,
    zeroed: bool,
    candidates: &[MissCandidate],
) -> MissedPages {
    let start = mapping.start + page * PAGE_SIZE;
    MissedPages {
        round: 31,
        range: start..start + pages * PAGE_SIZE,
        zeroed,
        candidates: candidates.to_vec(),
    }
}

fn story(page: u64) -> PageStory {
    let line = |ms, what: &str, place: Option<u32>| StoryLine {
        at: Duration::from_micros(ms),
        what: what.to_owned(),
        place: place.map(PlaceId),
    };
    PageStory {
        page,
        lines: vec![
            line(
                0,
                "armed for the first time; its content is read: 5f3a…",
                None,
            ),
            line(41_250, "stored to by thread redis-server (4242)", Some(1)),
            line(100_310, "reported in round 1: unchanged, user-store", None),
            line(100_420, "armed again", None),
            line(
                141_900,
                "read(2) copied into it, thread redis-server (4242)",
                Some(3),
            ),
        ],
    }
}

fn frame(address: u64, function: &str, line: Option<(&str, u32)>, module: &str) -> StackFrame {
    StackFrame {
        address,
        function: function.to_owned(),
        line: line.map(|(file, line)| (file.to_owned(), line)),
        module: format!("{module}+{:#x}", address & 0xf_ffff),
        inlined: false,
    }
}

fn stacks() -> BTreeMap<PlaceId, CodePlace> {
    const REDIS: &str = "/usr/bin/redis-server";
    const LIBC: &str = "/usr/lib/x86_64-linux-gnu/libc.so.6";
    let main = || {
        vec![
            frame(
                0x5580_1007_2210,
                "dictAdd",
                Some(("/build/redis/src/dict.c", 331)),
                REDIS,
            ),
            frame(
                0x5580_1007_9a31,
                "call",
                Some(("/build/redis/src/server.c", 3612)),
                REDIS,
            ),
            frame(
                0x5580_1008_0001,
                "processCommand",
                Some(("/build/redis/src/server.c", 4187)),
                REDIS,
            ),
            frame(
                0x5580_1009_0001,
                "aeMain",
                Some(("/build/redis/src/ae.c", 496)),
                REDIS,
            ),
            frame(
                0x5580_1009_1001,
                "main",
                Some(("/build/redis/src/server.c", 7360)),
                REDIS,
            ),
            frame(0x7f30_0100_1249, "__libc_start_call_main", None, LIBC),
            frame(
                0x7f30_0100_1305,
                "__libc_start_main@@GLIBC_2.34",
                None,
                LIBC,
            ),
            frame(0x5580_1006_0021, "_start", None, REDIS),
        ]
    };
    let place = |first: Vec<StackFrame>, kernel: &[&str], syscall: Option<&str>| CodePlace {
        user: first.into_iter().chain(main()).collect(),
        kernel: kernel.iter().map(|name| kernel_frame(name)).collect(),
        syscall: syscall.map(str::to_owned),
    };
    let mut inlined = frame(
        0x5580_1006_1234,
        "siphash_round",
        Some(("/build/redis/src/siphash.c", 88)),
        REDIS,
    );
    inlined.inlined = true;
    let hash = frame(
        0x5580_1006_1234,
        "dictSipHash",
        Some(("/build/redis/src/siphash.c", 120)),
        REDIS,
    );
    let copy = frame(0x7f30_0108_4567, "__memmove_avx_unaligned_erms", None, LIBC);
    let set = frame(
        0x5580_1005_0707,
        "setGenericCommand",
        Some(("/build/redis/src/t_string.c", 104)),
        REDIS,
    );
    let jit = StackFrame {
        module: "[anon]".into(),
        ..frame(0x7f99_0000_1000, "", None, "")
    };
    let rust = frame(
        0x5580_1005_9999,
        "<mod::Table<K,V> as core::ops::IndexMut<&K>>::index_mut::h0123456789abcdef::\
         a_name_that_goes_on_and_on_and_on_for_ever",
        Some(("/home/<user>/src/table.rs", 7)),
        "/opt/\u{1b}]0;title\u{7}/mod.so",
    );
    let path = [
        "bpf_prog_deadbeef_do_wp_page",
        "bpf_trampoline_6442",
        "do_wp_page",
        "handle_mm_fault",
    ];
    let copied = [
        "copy_user",
        "copyout",
        "skb_copy_datagram_iter",
        "tcp_recvmsg",
        "sock_read_iter",
        "vfs_read",
        "ksys_read",
    ];
    let read: Vec<_> = path
        .iter()
        .chain(&copied)
        .chain(&["do_syscall_64"])
        .copied()
        .collect();
    let free = frame(0x7f30_0109_0001, "madvise", None, LIBC);
    BTreeMap::from([
        (PlaceId(1), place(vec![inlined, hash.clone()], &[], None)),
        (PlaceId(2), place(vec![copy.clone(), set], &[], None)),
        (
            PlaceId(3),
            place(
                vec![frame(0x7f30_0107_0001, "read", None, LIBC)],
                &read,
                Some("read"),
            ),
        ),
        (PlaceId(4), place(vec![jit], &[], None)),
        (PlaceId(5), place(vec![copy.clone(), copy, rust], &[], None)),
        (
            PlaceId(6),
            place(
                vec![free],
                &["unmap_page_range", "zap_page_range_single", "do_madvise"],
                Some("madvise"),
            ),
        ),
        (
            PlaceId(7),
            CodePlace {
                user: vec![],
                kernel: [
                    "replace_page",
                    "try_to_merge_one_page",
                    "ksm_scan_thread",
                    "kthread",
                    "ret_from_fork",
                ]
                .map(kernel_frame)
                .to_vec(),
                syscall: None,
            },
        ),
    ])
}

fn kernel_frame(name: &str) -> StackFrame {
    StackFrame {
        module: "[kernel]".into(),
        ..frame(0xffff_ffff_8123_4567, name, None, "")
    }
}
