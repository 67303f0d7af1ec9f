//! Safe versions of system calls that rustix does not have.

use std::io;
use std::mem::zeroed;
use std::ops::Range;
use std::ptr::{null, null_mut};
use std::time::Duration;

use rustix::io::Errno;

pub fn answer(result: i64) -> rustix::io::Result<i64> {
    if result == -1 {
        let error = io::Error::last_os_error();
        return Err(Errno::from_io_error(&error).unwrap_or(Errno::IO));
    }
    Ok(result)
}

fn timespec(duration: Duration) -> libc::timespec {
    libc::timespec {
        tv_sec: duration.as_secs() as i64,
        tv_nsec: duration.subsec_nanos().into(),
    }
}

/// A set of these signals.
pub fn set(signals: &[i32]) -> libc::sigset_t {
    // SAFETY: a sigset_t is integers only, which sigemptyset sets.
    let mut set: libc::sigset_t = unsafe { zeroed() };
    // SAFETY: a valid set.
    unsafe { libc::sigemptyset(&raw mut set) };
    for &signal in signals {
        // SAFETY: a valid set.
        unsafe { libc::sigaddset(&raw mut set, signal) };
    }
    set
}

/// Blocks these signals in this thread.
pub fn block(signals: &[i32]) {
    let set = set(signals);
    // SAFETY: a valid set; a null old set is allowed.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, null_mut()) };
}

/// Waits until one of these signals is pending, and takes it.
pub fn sigtimedwait(signals: &[i32], limit: Option<Duration>) -> rustix::io::Result<i64> {
    let time = limit.map(timespec);
    let time = time.as_ref().map_or(null(), std::ptr::from_ref);
    // SAFETY: a valid set; siginfo may be null, and the time too.
    let call = unsafe {
        let set = set(signals);
        libc::syscall(
            libc::SYS_rt_sigtimedwait,
            &raw const set,
            null::<u8>(),
            time,
            8,
        )
    };
    answer(call)
}

/// What a pending SIGCHLD says, which is taken: a child, and what became of it.
pub fn told_of_child() -> Option<String> {
    // SAFETY: a siginfo_t is integers only.
    let mut info: libc::siginfo_t = unsafe { zeroed() };
    let (now, child) = (timespec(Duration::ZERO), set(&[libc::SIGCHLD]));
    // SAFETY: a valid set and time, and room for a siginfo_t.
    let taken = unsafe { libc::sigtimedwait(&raw const child, &raw mut info, &raw const now) };
    // SAFETY: a SIGCHLD of the kernel's has these.
    let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
    (taken == libc::SIGCHLD).then(|| format!("child {pid}, code {}, status {status}", info.si_code))
}

/// Waits until a handler has run, with only these signals blocked; always fails with EINTR.
pub fn sigsuspend(blocked: &[i32]) -> rustix::io::Result<i64> {
    let set = set(blocked);
    // SAFETY: a valid set.
    answer(unsafe { libc::sigsuspend(&raw const set) }.into())
}

/// Calls epoll_pwait(2) with only these signals blocked meanwhile.
pub fn epoll_pwait(epoll: i32, limit_ms: i32, blocked: &[i32]) -> rustix::io::Result<i64> {
    // SAFETY: an epoll_event is integers only.
    let mut event: libc::epoll_event = unsafe { zeroed() };
    let set = set(blocked);
    // SAFETY: room for one event, and a valid set.
    answer(unsafe { libc::epoll_pwait(epoll, &raw mut event, 1, limit_ms, &raw const set) }.into())
}

/// Makes a signal call a function.
pub fn handle(signal: i32, handler: extern "C" fn(i32), flags: i32) {
    // SAFETY: integers only; a null handler is the default.
    let mut action: libc::sigaction = unsafe { zeroed() };
    action.sa_sigaction = handler as *const () as usize;
    action.sa_flags = flags;
    // SAFETY: a valid action whose handler does nothing but atomics.
    unsafe { libc::sigaction(signal, &raw const action, null_mut()) };
}

/// Makes a timer send a signal to this process again and again.
pub fn interval_timer(signal: i32, every: Duration) -> rustix::io::Result<()> {
    // SAFETY: integers and a null pointer.
    let mut event: libc::sigevent = unsafe { zeroed() };
    event.sigev_notify = libc::SIGEV_SIGNAL;
    event.sigev_signo = signal;
    let mut timer = null_mut();
    let spec = libc::itimerspec {
        it_interval: timespec(every),
        it_value: timespec(every),
    };
    // SAFETY: valid arguments; the timer lives as long as the process.
    unsafe {
        answer(libc::timer_create(libc::CLOCK_MONOTONIC, &raw mut event, &raw mut timer).into())?;
        answer(libc::timer_settime(timer, 0, &raw const spec, null_mut()).into()).map(drop)
    }
}

/// Queues a signal to this process; fails with EAGAIN if too many are queued.
pub fn queue(signal: i32, value: usize) -> rustix::io::Result<()> {
    let value = libc::sigval {
        sival_ptr: std::ptr::without_provenance_mut(value),
    };
    // SAFETY: no memory is involved.
    answer(unsafe { libc::sigqueue(libc::getpid(), signal, value) }.into()).map(drop)
}

/// A semaphore that begins at 0, and is removed when dropped.
pub struct SysvSemaphore(i32);

impl SysvSemaphore {
    pub fn new() -> rustix::io::Result<Self> {
        // SAFETY: no memory is involved.
        let id = answer(unsafe { libc::semget(libc::IPC_PRIVATE, 1, 0o600) }.into())?;
        Ok(Self(id as i32))
    }

    /// Adds to the semaphore, or waits until it can be decreased.
    pub fn change(&self, by: i16) -> rustix::io::Result<i64> {
        let mut operation = libc::sembuf {
            sem_num: 0,
            sem_op: by,
            sem_flg: 0,
        };
        // SAFETY: one operation.
        answer(unsafe { libc::semop(self.0, &raw mut operation, 1) }.into())
    }
}

impl SysvSemaphore {
    /// Removes it; whoever waits for it gets EIDRM.
    pub fn remove(&self) {
        // SAFETY: no memory is involved.
        unsafe { libc::semctl(self.0, 0, libc::IPC_RMID) };
    }
}

impl Drop for SysvSemaphore {
    fn drop(&mut self) {
        self.remove();
    }
}

/// Runs a function in a child that shares our memory, and waits for it as vfork(2) does.
pub fn vfork(child: extern "C" fn(*mut libc::c_void) -> i32) -> rustix::io::Result<i32> {
    let mut stack = vec![0u8; 256 << 10];
    let top = stack.as_mut_ptr_range().end.map_addr(|end| end & !15);
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    // SAFETY: the child has its own stack, which outlives it: clone returns when it has ended.
    let pid = answer(unsafe { libc::clone(child, top.cast(), flags, null_mut()) }.into())?;
    let mut status = 0;
    // SAFETY: room for a status.
    answer(unsafe { libc::waitpid(pid as i32, &raw mut status, 0) }.into())?;
    Ok(status)
}

/// Forks a child that ends with what `child` returns, and returns its pid; `child` must not
/// allocate.
pub fn begin_child(child: impl FnOnce() -> i32) -> rustix::io::Result<i32> {
    // SAFETY: the child only makes system calls.
    let pid = answer(unsafe { libc::fork() }.into())?;
    if pid == 0 {
        let status = child();
        // SAFETY: ends the child at once.
        unsafe { libc::_exit(status) };
    }
    Ok(pid as i32)
}

/// The same, and waits for the child's exit status.
pub fn fork(child: fn() -> i32) -> rustix::io::Result<i32> {
    let pid = begin_child(child)?;
    let mut status = 0;
    loop {
        // SAFETY: room for a status.
        match answer(unsafe { libc::waitpid(pid, &raw mut status, 0) }.into()) {
            Err(Errno::INTR) => {}
            result => return result.map(|_| status),
        }
    }
}

/// What a child does that ends with its parent.
pub fn sleep_while_parent_lives() -> i32 {
    // SAFETY: integers only.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        loop {
            libc::pause();
        }
    }
}

/// Kills a child and waits for it.
pub fn end_child(pid: i32) -> rustix::io::Result<()> {
    // SAFETY: no memory is involved; a null status is allowed.
    unsafe {
        answer(libc::kill(pid, libc::SIGKILL).into())?;
        answer(libc::waitpid(pid, null_mut(), 0).into()).map(drop)
    }
}

/// Ends only this thread, even if it is the first, whose return would end all.
pub fn end_thread() -> ! {
    // SAFETY: SYS_exit ends the thread; nothing of it is used any more.
    unsafe {
        libc::syscall(libc::SYS_exit, 0);
        libc::_exit(0)
    }
}

/// Installs a filter that kills the process for one system call.
pub fn kill_for(call: i64) -> rustix::io::Result<()> {
    const LOAD: u16 = 0x20;
    const EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let mut filter = [
        step(LOAD, 0, 0, 0),
        step(EQUAL, 0, 1, call as u32),
        step(RETURN, 0, 0, libc::SECCOMP_RET_KILL_PROCESS),
        step(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog {
        len: filter.len() as u16,
        filter: filter.as_mut_ptr(),
    };
    // SAFETY: a valid program, which the kernel copies.
    unsafe {
        answer(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0).into())?;
        let mode = libc::SECCOMP_MODE_FILTER;
        answer(libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const program).into()).map(drop)
    }
}

/// Ties this thread to the first processor that it may use.
pub fn pin() {
    // SAFETY: integers only, which sched_getaffinity sets; valid pointers of that size.
    unsafe {
        let mut allowed: libc::cpu_set_t = zeroed();
        libc::sched_getaffinity(0, size_of_val(&allowed), &raw mut allowed);
        let first = (0..1024).find(|&cpu| libc::CPU_ISSET(cpu, &allowed));
        let mut one: libc::cpu_set_t = zeroed();
        libc::CPU_SET(first.unwrap_or(0), &mut one);
        libc::sched_setaffinity(0, size_of_val(&one), &raw const one);
    }
}

/// Anonymous memory that is not there yet.
pub struct ReservedMemory {
    start: *mut libc::c_void,
}

impl ReservedMemory {
    const PAGE: usize = 4096;
    const WRITE: i32 = libc::PROT_READ | libc::PROT_WRITE;
    const FLAGS: i32 = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;

    pub fn new(pages: usize) -> rustix::io::Result<Self> {
        let bytes = pages * Self::PAGE;
        // SAFETY: a new mapping, which overlaps nothing.
        let start = unsafe { libc::mmap(null_mut(), bytes, Self::WRITE, Self::FLAGS, -1, 0) };
        answer(start as i64)?;
        Ok(Self { start })
    }

    /// Unmaps one of its pages, maps it again, and touches it.
    pub fn refill(&self, page: usize) -> rustix::io::Result<()> {
        let at = self.start.wrapping_byte_add(page * Self::PAGE);
        // SAFETY: a page of this mapping, which nothing refers to; whatever becomes of the first
        // call, the second one puts a page there, or fails, and then nothing is touched.
        unsafe {
            answer(libc::munmap(at, Self::PAGE).into())?;
            let flags = Self::FLAGS | libc::MAP_FIXED;
            answer(libc::mmap(at, Self::PAGE, Self::WRITE, flags, -1, 0) as i64)?;
            at.cast::<u8>().write_volatile(1);
        }
        Ok(())
    }
}

/// Gives an advice that changes no content.
pub fn advise(range: &Range<u64>, advice: i32) {
    let start = std::ptr::without_provenance_mut(range.start as usize);
    let length = (range.end - range.start) as usize;
    // SAFETY: the caller's memory; its content stays.
    unsafe { libc::madvise(start, length, advice) };
}

/// Bounds the C library's arenas, so that it does not ask how many processors there are: it opens a
/// file for that, once, in whatever thread needs the ninth arena (glibc `arena_get2`).
pub fn bound_arenas() {
    // SAFETY: integers only.
    unsafe { libc::mallopt(libc::M_ARENA_MAX, 8) };
}

/// getrandom(2), once.
pub fn random(bytes: &mut [u8]) -> rustix::io::Result<usize> {
    // SAFETY: room for as many bytes as there are.
    let got = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    answer(got as i64).map(|got| got as usize)
}

/// Closes all descriptors from a number on.
pub fn close_from(number: u32) -> rustix::io::Result<()> {
    // SAFETY: nothing in this program owns any of them.
    answer(unsafe { libc::syscall(libc::SYS_close_range, number, u32::MAX, 0) }).map(drop)
}

/// Makes a number mean what a descriptor does.
pub fn duplicate_onto(fd: i32, number: i32) -> rustix::io::Result<()> {
    // SAFETY: nothing in this program owns the number.
    answer(unsafe { libc::dup3(fd, number, libc::O_CLOEXEC) }.into()).map(drop)
}

/// Sends a signal to one thread of this process.
pub fn signal_thread(tid: i32, signal: i32) -> rustix::io::Result<()> {
    // SAFETY: no memory is involved.
    answer(unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), tid, signal) }).map(drop)
}

/// Waits for any child; its pid and status.
pub fn wait_for_any() -> rustix::io::Result<(i32, i32)> {
    let mut status = 0;
    // SAFETY: room for a status.
    let pid = answer(unsafe { libc::waitpid(-1, &raw mut status, 0) }.into())?;
    Ok((pid as i32, status))
}

/// Whether there is no child of any kind.
pub fn has_no_child() -> bool {
    // SAFETY: a null status is allowed.
    let waited = unsafe { libc::waitpid(-1, null_mut(), libc::WNOHANG | libc::__WALL) };
    answer(waited.into()) == Err(Errno::CHILD)
}

/// Has the next child of this thread be the first process of a new pid namespace.
pub fn unshare_pid_namespace() -> rustix::io::Result<()> {
    // SAFETY: it concerns children only.
    answer(unsafe { libc::unshare(libc::CLONE_NEWPID) }.into()).map(drop)
}
