//! Userfaultfds that anybody creates, told by the kernel when it happens (perf_event_open(2)).
//!
//! A descriptor that is closed again at once is never seen in `/proc/PID/fd`.

use std::fs;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

use perf_event_open_sys::bindings;
use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;

use crate::UffdError;
use crate::perf_ring::{PerfRing, perf_event};
use crate::tracefs::TraceFiles;

/// A userfaultfd that was created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CreatedUffd {
    /// By which process, in the pid namespace of whoever watches.
    pub pid: u32,
    /// When, on `CLOCK_MONOTONIC`.
    pub at: Duration,
    /// The address of the instruction after the system call; 0 if it is not known.
    pub instruction: u64,
}

/// How the kernel is made to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CreationSight {
    /// A kprobe on the function that creates one: nobody else is slower.
    Kprobe,
    /// The tracepoint of userfaultfd(2). As with every tracepoint of a system call, each system
    /// call of each process takes longer meanwhile, and `/dev/userfaultfd` is not seen.
    Tracepoint,
}

/// Watches every process of the machine, on the processors that are online now.
#[derive(Debug)]
pub struct UffdCreations {
    sight: CreationSight,
    rings: Vec<PerfRing>,
}

/// Creates one (fs/userfaultfd.c), whoever asks for it; where the compiler has inlined it, the
/// system call.
const FUNCTIONS: [&std::ffi::CStr; 2] = [c"new_userfaultfd", c"__x64_sys_userfaultfd"];
/// `PERF_REG_X86_IP` of arch/x86/include/uapi/asm/perf_regs.h.
const PERF_REG_IP: u32 = 8;

impl UffdCreations {
    /// Begins to watch. It takes `CAP_PERFMON` (or a low `kernel.perf_event_paranoid`), and of the
    /// kernel kprobes or tracepoints of system calls.
    ///
    /// # Errors
    /// What the kernel says to the last that was tried. EACCES, EPERM: no privilege. ENOENT: it has
    /// neither.
    pub fn watch() -> Result<Self, UffdError> {
        let cpus = online_cpus()?;
        for function in FUNCTIONS {
            if let Ok(rings) = kprobe(function).and_then(|attr| on_each(&cpus, &attr)) {
                let sight = CreationSight::Kprobe;
                return Ok(Self { sight, rings });
            }
        }
        let files = TraceFiles::open()?;
        let number = files.tracepoint("syscalls", "sys_enter_userfaultfd")?;
        let mut attr = sampling(bindings::PERF_TYPE_TRACEPOINT);
        attr.config = number;
        let sight = CreationSight::Tracepoint;
        let rings = on_each(&cpus, &attr)?;
        Ok(Self { sight, rings })
    }

    /// How it is told.
    #[must_use]
    pub const fn sight(&self) -> CreationSight {
        self.sight
    }

    /// Waits until there is something to [read](Self::read); false: `end` is readable or closed.
    ///
    /// # Errors
    /// What poll(2) says, but never EINTR.
    pub fn wait(&self, end: BorrowedFd<'_>) -> Result<bool, UffdError> {
        let rings = self.rings.iter().map(PerfRing::as_fd);
        let mut polled: Vec<_> = std::iter::once(end)
            .chain(rings)
            .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN))
            .collect();
        match rustix::event::poll(&mut polled, None) {
            Ok(_) | Err(Errno::INTR) => (),
            Err(error) => return Err(UffdError::system("cannot wait for", "perf events", error)),
        }
        Ok(polled.first().is_some_and(|end| end.revents().is_empty()))
    }

    /// Passes on what was created since the last call, processor by processor.
    pub fn read(&mut self, mut each: impl FnMut(CreatedUffd)) {
        for ring in &mut self.rings {
            ring.read(|sample| each(parse(sample)));
        }
    }
}

/// pid, tid; time; abi, and the register unless that is 0 (`PERF_RECORD_SAMPLE` in
/// perf_event_open(2)).
fn parse(sample: &[u64]) -> CreatedUffd {
    let word = |number: usize| sample.get(number).copied().unwrap_or_default();
    CreatedUffd {
        pid: word(0) as u32,
        at: Duration::from_nanos(word(1)),
        instruction: if word(2) == 0 { 0 } else { word(3) },
    }
}

fn sampling(kind: u32) -> bindings::perf_event_attr {
    let mut attr = bindings::perf_event_attr {
        type_: kind,
        size: size_of::<bindings::perf_event_attr>() as u32,
        sample_type: u64::from(
            bindings::PERF_SAMPLE_TID
                | bindings::PERF_SAMPLE_TIME
                | bindings::PERF_SAMPLE_REGS_USER,
        ),
        sample_regs_user: 1 << PERF_REG_IP,
        clockid: libc::CLOCK_MONOTONIC,
        ..Default::default()
    };
    attr.__bindgen_anon_1.sample_period = 1;
    attr.__bindgen_anon_2.wakeup_events = 1;
    attr.set_use_clockid(1);
    attr
}

fn kprobe(function: &'static std::ffi::CStr) -> Result<bindings::perf_event_attr, UffdError> {
    const TYPE: &str = "/sys/bus/event_source/devices/kprobe/type";
    let text = fs::read_to_string(TYPE).map_err(|e| UffdError::system("cannot read", TYPE, e))?;
    let kind = text.trim().parse();
    let kind = kind.map_err(|_| UffdError::format(TYPE, text.as_bytes()))?;
    let mut attr = sampling(kind);
    attr.__bindgen_anon_3.kprobe_func = function.as_ptr().addr() as u64;
    Ok(attr)
}

fn on_each(cpus: &[i32], attr: &bindings::perf_event_attr) -> Result<Vec<PerfRing>, UffdError> {
    let open = |cpu: &i32| -> Result<PerfRing, UffdError> {
        let fd: OwnedFd = perf_event(attr, *cpu)?;
        PerfRing::map(fd)
    };
    cpus.iter().map(open).collect()
}

/// The numbers in a list such as `0-3,8`.
fn online_cpus() -> Result<Vec<i32>, UffdError> {
    const ONLINE: &str = "/sys/devices/system/cpu/online";
    let text =
        fs::read_to_string(ONLINE).map_err(|e| UffdError::system("cannot read", ONLINE, e))?;
    parse_cpus(text.trim()).ok_or_else(|| UffdError::format(ONLINE, text.as_bytes()))
}

fn parse_cpus(list: &str) -> Option<Vec<i32>> {
    let mut cpus = Vec::new();
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        cpus.extend(first.parse::<i32>().ok()?..=last.parse().ok()?);
    }
    Some(cpus)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::expect_used, reason = "tests")]
    use super::*;
    use std::os::fd::AsFd as _;

    #[test]
    fn lists_of_processors() {
        assert_eq!(parse_cpus("0"), Some(vec![0]));
        assert_eq!(parse_cpus("0-2,5,7-8"), Some(vec![0, 1, 2, 5, 7, 8]));
        assert_eq!(parse_cpus(""), None);
        assert_eq!(parse_cpus("0-x"), None);
    }

    #[test]
    fn without_user_registers_there_is_no_instruction() {
        let sample = [7 << 32 | 6, 1_000, 2, 0x7f00];
        let created = parse(&sample);
        assert_eq!((created.pid, created.instruction), (6, 0x7f00));
        assert_eq!(created.at, Duration::from_micros(1));
        assert_eq!(parse(&[6, 1, 0]).instruction, 0);
    }

    /// A second thread makes one, and nobody else's is taken for ours.
    #[test]
    fn one_that_is_closed_at_once_is_seen() {
        let mut creations = match UffdCreations::watch() {
            Ok(creations) => creations,
            Err(error) => return eprintln!("skipped: {error}"),
        };
        let (end, open) = rustix::pipe::pipe().expect("a pipe");
        let maker = std::thread::spawn(|| crate::Userfaultfd::open_user_mode_only().map(drop));
        maker.join().expect("it ends").expect("it opens one");
        let mut seen = Vec::new();
        while !seen
            .iter()
            .any(|made: &CreatedUffd| made.pid == std::process::id())
        {
            assert!(creations.wait(end.as_fd()).expect("it waits"));
            creations.read(|made| seen.push(made));
        }
        let ours = seen.iter().find(|made| made.pid == std::process::id());
        assert_ne!(ours.map(|made| made.instruction), Some(0));
        drop(open);
        assert!(!creations.wait(end.as_fd()).expect("it waits"));
    }
}
