//! A process, and the address space that it had when we began to look at it.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::{Errno, retry_on_intr};
use rustix::process::{Pid, PidfdFlags};
use uffd::{AddressSpace, PAGE_SIZE, Pagemap, PagemapEntry, ProcessGone, UffdError, unless_unseen};

/// How long to wait for the end of a vfork(2). posix_spawn(3) returns before its child has executed
/// the program: the kernel lets the parent go on (`exec_mm_release`) before the child has memory of
/// its own.
const VFORK: Duration = Duration::from_secs(2);

/// What became of an address space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcessLife {
    /// It still is the process's.
    Same,
    /// The process executes another program: nothing of the old memory is left.
    Replaced,
    /// The process has ended.
    Ended,
}

/// Tells whether a process lives, and in the address space that it had. A pid alone may mean
/// another process by now.
#[derive(Debug)]
pub struct ProcessLifeline {
    pid: u32,
    process: OwnedFd,
    memory: Pagemap,
    space: AddressSpace,
}

impl ProcessLifeline {
    /// Opens a process; one without memory is gone. Waits a while for a child of vfork(2) to
    /// execute its program: until then its memory is that of its parent, which lives on.
    ///
    /// # Errors
    /// If we may not look at it.
    pub fn open(pid: u32) -> Result<Self, UffdError> {
        let gone = ProcessGone { pid };
        let raw = i32::try_from(pid).ok().and_then(Pid::from_raw);
        let raw = raw.ok_or(gone)?;
        let process = match rustix::process::pidfd_open(raw, PidfdFlags::empty()) {
            Ok(process) => process,
            // EINVAL: a thread's id.
            Err(Errno::SRCH | Errno::INVAL) => return Err(gone.into()),
            Err(e) => {
                return Err(UffdError::system(
                    "cannot open the pidfd of",
                    pid.to_string(),
                    e,
                ));
            }
        };
        // What is kept is this process: that `/proc` shows another one was ruled out of a number.
        if uffd::number_in_proc(&process).is_some_and(|there| there != pid) {
            uffd::check_pid_namespace(pid)?;
        }
        let begin = Instant::now();
        while shares_memory_with_parent(pid) && begin.elapsed() < VFORK {
            std::thread::sleep(Duration::from_millis(1));
        }
        let (space, memory) = (AddressSpace::of(pid)?, Pagemap::open(pid)?);
        Ok(Self {
            pid,
            process,
            memory,
            space,
        })
    }

    /// Its process id.
    #[must_use]
    pub const fn pid(&self) -> u32 {
        self.pid
    }

    /// A descriptor that is readable once the process has ended.
    #[must_use]
    pub const fn pidfd(&self) -> &OwnedFd {
        &self.process
    }

    /// What became of the address space. Cheap: some ten system calls.
    ///
    /// Others may use it still, when the process has ended or executes another program.
    ///
    /// # Errors
    /// If it cannot be asked.
    pub fn life(&self) -> Result<ProcessLife, UffdError> {
        Ok(if self.has_ended()? {
            ProcessLife::Ended
        } else if self.has_memory()? && self.space.is_current()? != Some(false) {
            ProcessLife::Same
        } else {
            ProcessLife::Replaced
        })
    }

    fn has_ended(&self) -> Result<bool, UffdError> {
        let mut ended = [PollFd::new(&self.process, PollFlags::IN)];
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        // A signal interrupts even what does not wait.
        let ready = retry_on_intr(|| rustix::event::poll(&mut ended, Some(&now)))
            .map_err(|e| UffdError::system("cannot poll", "a pidfd", e))?;
        Ok(ready != 0)
    }

    /// Whether the address space has a user: only then can the entry of its first page be read,
    /// mapped or not.
    pub(super) fn has_memory(&self) -> Result<bool, UffdError> {
        let mut entry = [PagemapEntry::default()];
        let read = self.memory.read(&(0..PAGE_SIZE), &mut entry);
        Ok(unless_unseen(read)?.is_some())
    }
}

/// Whether a process has the address space of its parent (kcmp(2)). No if nobody can tell: without
/// `CONFIG_KCMP`, or if we may not look at the parent.
pub(crate) fn shares_memory_with_parent(pid: u32) -> bool {
    uffd::stat(pid).is_ok_and(|stat| share_memory(pid, stat.parent))
}

/// Whether two processes have one address space (clone(2) with `CLONE_VM`), as kcmp(2) says. No if
/// nobody can tell: without `CONFIG_KCMP`, or if we may not look at both.
#[must_use]
pub fn share_memory(pid: u32, other: u32) -> bool {
    /// linux/kcmp.h
    const KCMP_VM: libc::c_int = 1;
    // SAFETY: takes numbers only, and reads no memory.
    let order = unsafe { libc::syscall(libc::SYS_kcmp, pid, other, KCMP_VM, 0, 0) };
    order == 0
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::ffi::CString;
    use std::os::unix::ffi::OsStrExt as _;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::{fs, ptr, thread};

    use rustix::fs::{CWD, Mode, mkfifoat};
    use rustix::process::{Signal, WaitOptions, kill_process, waitpid};

    use super::*;

    #[test]
    fn a_signal_that_comes_meanwhile_is_no_failure() {
        extern "C" fn nothing(_: i32) {}
        let us = ProcessLifeline::open(std::process::id()).unwrap();
        let handler: extern "C" fn(i32) = nothing;
        // SAFETY: the handler does nothing, and no other test uses this signal.
        let this = unsafe {
            libc::signal(libc::SIGURG, handler as libc::sighandler_t);
            libc::pthread_self()
        };
        let done = AtomicBool::new(false);
        let failed = thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    // SAFETY: that thread lives until this one has ended.
                    unsafe { libc::pthread_kill(this, libc::SIGURG) };
                }
            });
            let failed = (0..20_000).find_map(|_| us.life().err());
            done.store(true, Ordering::Relaxed);
            failed
        });
        assert!(failed.is_none(), "{failed:?}");
    }

    /// A child that lives in the address space of this process, and waits in open(2).
    fn child() -> Option<u32> {
        let us = std::process::id();
        let pids = fs::read_dir("/proc").unwrap().filter_map(|entry| {
            let name = entry.ok()?.file_name();
            name.to_str()?.parse::<u32>().ok()
        });
        pids.into_iter().find(|pid| {
            let parent = uffd::stat(*pid).ok().map(|stat| stat.parent);
            let call = fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap_or_default();
            let opens = call.starts_with(&format!("{} ", libc::SYS_openat));
            parent == Some(us) && opens && shares_memory_with_parent(*pid)
        })
    }

    /// posix_spawn(3) of `sleep`, which has to open a file on the way.
    fn spawn(gate: &CString) -> u32 {
        let program = c"sleep";
        let argv = [
            program.as_ptr().cast_mut(),
            c"1000".as_ptr().cast_mut(),
            ptr::null_mut(),
        ];
        let envp = [c"PATH=/usr/bin:/bin".as_ptr().cast_mut(), ptr::null_mut()];
        let mut pid = 0;
        // SAFETY: all of it is initialised by its own function, and every pointer outlives the
        // call.
        let error = unsafe {
            let mut actions = std::mem::zeroed();
            libc::posix_spawn_file_actions_init(&raw mut actions);
            libc::posix_spawn_file_actions_addopen(
                &raw mut actions,
                0,
                gate.as_ptr(),
                libc::O_RDONLY,
                0,
            );
            let error = libc::posix_spawnp(
                &raw mut pid,
                program.as_ptr(),
                &raw const actions,
                ptr::null(),
                argv.as_ptr(),
                envp.as_ptr(),
            );
            libc::posix_spawn_file_actions_destroy(&raw mut actions);
            error
        };
        assert_eq!(error, 0);
        pid.unsigned_abs()
    }

    #[test]
    fn a_child_of_vfork_is_not_taken_for_its_parent() {
        let dir = tempfile::tempdir().unwrap();
        let gate = CString::new(dir.path().join("gate").as_os_str().as_bytes()).unwrap();
        mkfifoat(CWD, &gate, Mode::RUSR | Mode::WUSR).unwrap();
        thread::scope(|scope| {
            let spawned = scope.spawn(|| spawn(&gate));
            // It cannot execute its program before somebody opens the other end.
            let pid = loop {
                if let Some(pid) = child() {
                    break pid;
                }
                assert!(!spawned.is_finished());
            };
            let opened = scope.spawn(move || ProcessLifeline::open(pid).unwrap());
            thread::sleep(Duration::from_millis(50));
            let waits = !opened.is_finished();
            let other_end = fs::OpenOptions::new()
                .write(true)
                .open(dir.path().join("gate"));
            let (pid, lifeline) = (spawned.join().unwrap(), opened.join().unwrap());
            let before = lifeline.life().unwrap();
            let child = Pid::from_raw(pid as i32).unwrap();
            kill_process(child, Signal::KILL).unwrap();
            waitpid(Some(child), WaitOptions::empty()).unwrap();
            assert!(waits);
            assert_eq!(lifeline.pid(), pid);
            let lives = [before, lifeline.life().unwrap()];
            assert_eq!(lives, [ProcessLife::Same, ProcessLife::Ended]);
            drop(other_end);
        });
    }
}
