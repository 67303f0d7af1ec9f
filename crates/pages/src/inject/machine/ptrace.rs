//! ptrace(2) and the stops that it reports, as far as an injection needs them.
//!
//! Without a crate: those that wrap it, such as nix, name signals by an enumeration that lacks
//! real-time signals, so a target's SIGRTMIN could be neither understood nor passed on.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Pid, WaitOptions};

/// General registers of a thread.
pub(super) type ThreadRegisters = libc::user_regs_struct;

/// Marks the stops at system calls (`PTRACE_O_TRACESYSGOOD`).
pub(super) const MARK_SYSCALLS: usize = libc::PTRACE_O_TRACESYSGOOD as usize;
/// Suspends seccomp filters while the thread is traced; needs CAP_SYS_ADMIN.
pub(super) const SUSPEND_SECCOMP: usize = 1 << 21;

/// Gives us each child that the thread makes, which stands still before its first instruction.
pub(super) const HOLD_CHILDREN: usize = libc::PTRACE_O_TRACECLONE as usize;
/// Has the thread stand still once more before it ends.
pub(super) const HOLD_AT_EXIT: usize = libc::PTRACE_O_TRACEEXIT as usize;
/// Has the kernel kill the thread's process should this one end first.
pub(super) const END_WITH_US: usize = libc::PTRACE_O_EXITKILL as usize;

const GET_RSEQ_CONFIGURATION: libc::c_long = 0x420f;
const GET_SYSCALL_USER_DISPATCH: libc::c_long = 0x4211;

/// Makes a thread ours without stopping it.
pub(super) fn seize(tid: u32, options: usize) -> Result<(), Errno> {
    // SAFETY: the address is 0 and the data are flags.
    unsafe { request(libc::PTRACE_SEIZE.into(), tid, 0, options) }.map(drop)
}

/// Asks a seized thread to stop.
pub(super) fn interrupt(tid: u32) -> Result<(), Errno> {
    // SAFETY: no argument.
    unsafe { request(libc::PTRACE_INTERRUPT.into(), tid, 0, 0) }.map(drop)
}

/// Replaces the options of a stopped thread.
pub(super) fn set_options(tid: u32, options: usize) -> Result<(), Errno> {
    // SAFETY: the data are flags.
    unsafe { request(libc::PTRACE_SETOPTIONS.into(), tid, 0, options) }.map(drop)
}

/// Lets a stopped thread go on, with a signal or 0.
pub(super) fn resume(tid: u32, signal: i32) -> Result<(), Errno> {
    // SAFETY: the data are a signal's number.
    unsafe { request(libc::PTRACE_CONT.into(), tid, 0, signal as usize) }.map(drop)
}

/// The same, until it enters or leaves a system call.
pub(super) fn resume_to_syscall(tid: u32, signal: i32) -> Result<(), Errno> {
    // SAFETY: the data are a signal's number.
    unsafe { request(libc::PTRACE_SYSCALL.into(), tid, 0, signal as usize) }.map(drop)
}

/// Lets a stopped thread go for good. The kernel then looks for signals and restarts an interrupted
/// call.
pub(super) fn detach(tid: u32) -> Result<(), Errno> {
    // SAFETY: no argument.
    unsafe { request(libc::PTRACE_DETACH.into(), tid, 0, 0) }.map(drop)
}

/// What belongs to the event that a stopped thread reported: the child, after
/// [`PtraceEvent::Cloned`].
pub(super) fn event_message(tid: u32) -> Result<u64, Errno> {
    let mut message: libc::c_ulong = 0;
    let data = (&raw mut message).expose_provenance();
    // SAFETY: the kernel fills one long at `data`.
    unsafe { request(libc::PTRACE_GETEVENTMSG.into(), tid, 0, data) }?;
    Ok(message)
}

/// Registers of a stopped thread.
pub(super) fn registers(tid: u32) -> Result<ThreadRegisters, Errno> {
    // SAFETY: a user_regs_struct is integers only.
    let mut registers: ThreadRegisters = unsafe { std::mem::zeroed() };
    let data = (&raw mut registers).expose_provenance();
    // SAFETY: the kernel fills one user_regs_struct at `data`.
    unsafe { request(libc::PTRACE_GETREGS.into(), tid, 0, data) }?;
    Ok(registers)
}

/// Sets the registers of a stopped thread.
pub(super) fn set_registers(tid: u32, registers: &ThreadRegisters) -> Result<(), Errno> {
    let data = std::ptr::from_ref(registers).expose_provenance();
    // SAFETY: the kernel reads one user_regs_struct at `data`; what it does to the thread is the
    // caller's matter and happens in another address space.
    unsafe { request(libc::PTRACE_SETREGS.into(), tid, 0, data) }.map(drop)
}

/// Blocked signals of a stopped thread, bit n-1 for signal n.
pub(super) fn signal_mask(tid: u32) -> Result<u64, Errno> {
    let mut mask = 0u64;
    let data = (&raw mut mask).expose_provenance();
    let request_number = libc::PTRACE_GETSIGMASK.into();
    // SAFETY: the address is the size of the mask that the kernel fills at `data`.
    unsafe { request(request_number, tid, size_of::<u64>(), data) }?;
    Ok(mask)
}

/// Sets the blocked signals of a stopped thread.
pub(super) fn set_signal_mask(tid: u32, mask: u64) -> Result<(), Errno> {
    let data = std::ptr::from_ref(&mask).expose_provenance();
    let request_number = libc::PTRACE_SETSIGMASK.into();
    // SAFETY: the address is the size of the mask that the kernel reads at `data`.
    unsafe { request(request_number, tid, size_of::<u64>(), data) }.map(drop)
}

/// Where the thread's `struct rseq` lies; `None`: none, or a kernel that does not tell.
pub(super) fn rseq_area(tid: u32) -> Option<u64> {
    /// `struct ptrace_rseq_configuration`
    #[repr(C)]
    #[derive(Default)]
    struct RseqConfiguration {
        area: u64,
        size: u32,
        signature: u32,
        flags: u32,
        pad: u32,
    }
    let mut answer = RseqConfiguration::default();
    let data = (&raw mut answer).expose_provenance();
    let size = size_of::<RseqConfiguration>();
    // SAFETY: the kernel fills at most `size` bytes at `data`.
    unsafe { request(GET_RSEQ_CONFIGURATION, tid, size, data) }.ok()?;
    (answer.area != 0).then_some(answer.area)
}

/// Whether the thread's system calls are sent to a handler of its own
/// (`PR_SET_SYSCALL_USER_DISPATCH`); a kernel before 6.4 does not tell.
pub(super) fn dispatches_syscalls(tid: u32) -> bool {
    /// `struct ptrace_sud_config`: mode, selector, offset, length.
    type DispatchConfiguration = [u64; 4];
    let mut answer = DispatchConfiguration::default();
    let data = answer.as_mut_ptr().expose_provenance();
    let size = size_of::<DispatchConfiguration>();
    // SAFETY: the kernel fills at most `size` bytes at `data`.
    let asked = unsafe { request(GET_SYSCALL_USER_DISPATCH, tid, size, data) };
    asked.is_ok() && answer[0] != 0
}

/// # Safety
/// `address` and `data` are what the request takes; what it writes to is alive and large enough.
unsafe fn request(
    number: libc::c_long,
    tid: u32,
    address: usize,
    data: usize,
) -> Result<i64, Errno> {
    let pause = PAUSE_US.load(Ordering::Relaxed);
    if pause != 0 {
        std::thread::sleep(Duration::from_micros(pause));
    }
    // SAFETY: the caller's promise. syscall(2) and not ptrace(3), whose C type differs between
    // libraries.
    let result = unsafe { libc::syscall(libc::SYS_ptrace, number, tid as i64, address, data) };
    if result == -1 {
        return Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO));
    }
    Ok(result)
}

/// Microseconds to pause before each step.
static PAUSE_US: AtomicU64 = AtomicU64::new(0);

/// Pauses before each step from now on, for tests that end something between two steps.
pub(super) fn pause_before_steps(pause: Duration) {
    PAUSE_US.store(pause.as_micros() as u64, Ordering::Relaxed);
}

/// What became of a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PtraceEvent {
    /// It exited or was killed.
    Ended,
    /// It stopped because it was asked to.
    Interrupted,
    /// It is part of a stopped process (SIGSTOP and its kin).
    GroupStopped,
    /// It enters or leaves a system call.
    Syscall,
    /// It has made a child, and is still in the call.
    Cloned,
    /// It is about to end, and executes nothing any more.
    Exiting,
    /// It is about to get this signal.
    Signal(i32),
    /// A stop that nobody asked for.
    Other(i32),
}

impl PtraceEvent {
    /// From the status that wait4(2) gives.
    pub(super) fn of(status: i32) -> Self {
        const EVENT_STOP: i32 = 128;
        if status & 0xff != 0x7f {
            return Self::Ended;
        }
        let signal = status >> 8 & 0xff;
        match status >> 16 {
            0 if signal == libc::SIGTRAP | 0x80 => Self::Syscall,
            0 => Self::Signal(signal),
            libc::PTRACE_EVENT_CLONE => Self::Cloned,
            libc::PTRACE_EVENT_EXIT => Self::Exiting,
            EVENT_STOP if signal == libc::SIGTRAP => Self::Interrupted,
            EVENT_STOP => Self::GroupStopped,
            other => Self::Other(other),
        }
    }
}

/// When to stop waiting.
#[derive(Clone, Copy, Debug)]
pub(super) enum WaitDeadline {
    /// At a time.
    At(Instant),
    /// Not before it is over.
    Never,
}

impl WaitDeadline {
    fn left(self) -> Duration {
        /// Whoever waits forever looks this often.
        const LONG: Duration = Duration::from_secs(60);
        match self {
            Self::At(time) => time.saturating_duration_since(Instant::now()),
            Self::Never => LONG,
        }
    }
}

/// What a seized thread did, if it stopped or ended since it was last asked.
pub(super) fn poll(tid: u32) -> Result<Option<PtraceEvent>, Errno> {
    let options = WaitOptions::from_bits_retain((libc::__WALL | libc::WNOHANG) as u32);
    let pid = Pid::from_raw(tid as i32).ok_or(Errno::SRCH)?;
    match rustix::process::waitpid(Some(pid), options) {
        // Another thread has executed a program: of this one not even a status is left.
        Err(Errno::CHILD) => Ok(Some(PtraceEvent::Ended)),
        waited => Ok(waited?.map(|(_, status)| PtraceEvent::of(status.as_raw()))),
    }
}

/// Takes the status of a thread that has ended; false: it is not ours, or nothing is told of it
/// yet.
pub(super) fn reap(tid: u32) -> Result<bool, Errno> {
    let options = WaitOptions::from_bits_retain((libc::__WALL | libc::WNOHANG) as u32);
    let pid = Pid::from_raw(tid as i32).ok_or(Errno::SRCH)?;
    match rustix::process::waitpid(Some(pid), options) {
        Err(Errno::CHILD) => Ok(false),
        waited => Ok(waited?.is_some()),
    }
}

/// Waits until a seized thread stops or ends. `None`: not until `deadline`.
///
/// SIGCHLD must be blocked: it ends the wait.
pub(super) fn wait(tid: u32, deadline: WaitDeadline) -> Result<Option<PtraceEvent>, Errno> {
    loop {
        if let Some(event) = poll(tid)? {
            return Ok(Some(event));
        }
        if !sleep_until_change(deadline) {
            return Ok(None);
        }
    }
}

/// Sleeps until something happens to a thread that is ours. False: `deadline` has passed.
pub(super) fn sleep_until_change(deadline: WaitDeadline) -> bool {
    let left = deadline.left();
    if left.is_zero() {
        return false;
    }
    sleep_until_child(left);
    true
}

/// Blocks every signal of this thread: SIGCHLD for [`wait`], the others so that none ends us half
/// way.
pub(super) fn block_signals() {
    // If our parent ignores it, so do we, and the kernel tells of no stop then.
    // SAFETY: the default disposition has no handler.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
    // SAFETY: a sigset_t is integers only, which sigfillset sets.
    let mut all: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: both get a valid set; a null old set is allowed.
    unsafe {
        libc::sigfillset(&raw mut all);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const all, std::ptr::null_mut());
    }
}

/// Lets a process run before all others but real-time ones, if that is allowed: while it waits for
/// a processor, a thread stands still. 0 is this process. `nice` would not do, since it counts
/// within a session only.
pub(super) fn hurry(pid: u32) {
    let lowest = libc::sched_param { sched_priority: 1 };
    // SAFETY: valid parameters.
    unsafe { libc::sched_setscheduler(pid as i32, libc::SCHED_FIFO, &raw const lowest) };
}

/// Sleeps until SIGCHLD or that long.
fn sleep_until_child(longest: Duration) {
    // SAFETY: a sigset_t is integers only, which sigemptyset sets.
    let mut child: libc::sigset_t = unsafe { std::mem::zeroed() };
    let time = libc::timespec {
        tv_sec: longest.as_secs() as i64,
        tv_nsec: longest.subsec_nanos().into(),
    };
    // SAFETY: a valid set and time; a null siginfo is allowed. Its failures (EAGAIN, EINTR) are
    // answers.
    unsafe {
        libc::sigemptyset(&raw mut child);
        libc::sigaddset(&raw mut child, libc::SIGCHLD);
        libc::sigtimedwait(&raw const child, std::ptr::null_mut(), &raw const time);
    }
}

#[cfg(test)]
mod tests {
    use super::PtraceEvent;

    #[test]
    fn statuses_of_wait4() {
        assert_eq!(PtraceEvent::of(0), PtraceEvent::Ended);
        assert_eq!(PtraceEvent::of(9), PtraceEvent::Ended, "killed");
        assert_eq!(PtraceEvent::of(0x80_057f), PtraceEvent::Interrupted);
        assert_eq!(PtraceEvent::of(0x80_137f), PtraceEvent::GroupStopped);
        assert_eq!(PtraceEvent::of(0x857f), PtraceEvent::Syscall);
        assert_eq!(PtraceEvent::of(0x057f), PtraceEvent::Signal(5));
        assert_eq!(
            PtraceEvent::of(0x227f),
            PtraceEvent::Signal(34),
            "a real-time signal"
        );
        assert_eq!(PtraceEvent::of(0x03_057f), PtraceEvent::Cloned);
        assert_eq!(PtraceEvent::of(0x04_057f), PtraceEvent::Other(4));
        assert_eq!(PtraceEvent::of(0x06_057f), PtraceEvent::Exiting);
    }
}
