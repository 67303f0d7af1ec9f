//! A userfaultfd of a process that does not cooperate, without a lasting trace in it.
//!
//! One thread of the target is stopped and made to have a userfaultfd opened, of which this process
//! gets the only copy; everything else (registering, arming, scanning) happens through that.
//! docs/inject.md says how, what the target can notice, and which window remains.
//!
//! A program that uses this calls [`helper_main`] first in its `main`: a process of its own does
//! the work.

mod attached;
mod error;
mod facts;
#[allow(unsafe_code, reason = "traces the program that it starts")]
mod launch;
#[allow(unsafe_code, reason = "calls kcmp(2)")]
mod lifeline;
#[cfg(target_arch = "x86_64")]
#[allow(
    unsafe_code,
    reason = "calls ptrace(2), and has the target make system calls"
)]
mod machine;
mod note;
mod permission;
mod ranges;
mod wire;

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use uffd::{ProcVma, UffdError, Userfaultfd};

pub use attached::UffdLease;
pub use error::InjectError;
pub use launch::{LaunchError, LaunchedProgram};
pub(crate) use lifeline::shares_memory_with_parent;
pub use lifeline::{ProcessLife, ProcessLifeline, share_memory};
pub use note::{CallTimeout, InjectNote, InterruptedCall};

/// How to get a userfaultfd of another process.
#[derive(Clone, Debug)]
pub struct InjectOptions {
    /// The program that runs the helper: one whose `main` begins with [`helper_main`].
    pub helper: PathBuf,
    /// What the userfaultfd must be able to do.
    pub kernel_faults: KernelFaults,
    /// How long to wait, with nobody stopped, for a tracer that may leave and for a thread that can
    /// be stopped.
    pub patience: Duration,
    /// How long threads may stand still, where all have to, before they are let go without a result.
    pub longest_stop: Duration,
}

impl Default for InjectOptions {
    fn default() -> Self {
        Self {
            helper: PathBuf::from("/proc/self/exe"),
            kernel_faults: KernelFaults::default(),
            patience: Duration::from_secs(2),
            longest_stop: Duration::from_millis(250),
        }
    }
}

/// Whether faults of the kernel (the target's read(2) into an armed page) must be handled, too.
///
/// The target needs CAP_SYS_PTRACE for that, unless `vm.unprivileged_userfaultfd` is 1. With
/// `WP_ASYNC` the kernel resolves all faults itself, and it makes no difference; without it, system
/// calls of the target would fail with EFAULT.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum KernelFaults {
    /// Take one that handles them if the target may have it.
    #[default]
    IfAllowed,
    /// Fail rather than take one that does not.
    Required,
}

/// A userfaultfd of another process.
#[derive(Debug)]
pub struct InjectedUffd {
    /// The descriptor, non-blocking, before `UFFDIO_API`.
    pub uffd: Userfaultfd,
    /// For how long threads of the target stood still.
    pub stopped: Duration,
    /// How many of them: one, as a rule.
    pub stopped_threads: usize,
    /// How many threads it had.
    pub threads: usize,
    /// Whether it handles faults of user code only.
    pub user_mode_only: bool,
    /// What the target's owner might notice.
    pub notes: Vec<InjectNote>,
    /// VMAs that cannot be registered: they belong to a userfaultfd of the target's, or of another
    /// tracker.
    pub occupied: Vec<ProcVma>,
    /// The target, in the address space that the descriptor belongs to.
    pub(crate) target: ProcessLifeline,
}

/// Gets a userfaultfd. Blocks for as long as the options say, plus some milliseconds.
///
/// # Errors
/// Whatever stands against it; the target is as before then.
pub fn userfaultfd(pid: u32, options: &InjectOptions) -> Result<InjectedUffd, InjectError> {
    #[cfg(target_arch = "x86_64")]
    return machine::userfaultfd(pid, options);
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = (pid, options);
        Err(InjectError::Architecture)
    }
}

/// A process of which no thread runs, until this is dropped, this program ends in any way, or half a
/// minute has passed.
pub struct FrozenProcess(#[cfg(target_arch = "x86_64")] machine::HeldProcess);

impl FrozenProcess {
    /// How many threads stand still.
    #[must_use]
    pub const fn threads(&self) -> usize {
        #[cfg(target_arch = "x86_64")]
        return self.0.threads();
        #[cfg(not(target_arch = "x86_64"))]
        0
    }

    /// What the process's owner might notice.
    #[must_use]
    pub fn notes(&self) -> &[InjectNote] {
        #[cfg(target_arch = "x86_64")]
        return self.0.notes();
        #[cfg(not(target_arch = "x86_64"))]
        &[]
    }

    /// Lets it go on; returns for how long it stood still. `None`: it ran before this.
    #[must_use]
    pub fn release(self) -> Option<Duration> {
        #[cfg(target_arch = "x86_64")]
        return self.0.release();
        #[cfg(not(target_arch = "x86_64"))]
        None
    }
}

/// Stops all threads of a process as a debugger does, or none if that takes longer than
/// `options.longest_stop`. Calls that the kernel would end with EINTR are made to go on; transfers
/// come back short (docs/inject.md).
///
/// # Errors
/// If it cannot be stopped; it runs on then.
pub fn freeze(pid: u32, options: &InjectOptions) -> Result<FrozenProcess, InjectError> {
    #[cfg(target_arch = "x86_64")]
    return machine::freeze(pid, options).map(FrozenProcess);
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = (pid, options);
        Err(InjectError::Architecture)
    }
}

/// A process beside this one that lets go of everything that is registered with a userfaultfd, once
/// this process stands still for two seconds, or ends. Dropping this sends it away.
pub(crate) struct UffdGuard {
    pid: u32,
    uffd: OwnedFd,
    options: InjectOptions,
    #[cfg(target_arch = "x86_64")]
    held: machine::GuardedUffd,
}

#[cfg(target_arch = "x86_64")]
impl UffdGuard {
    /// Sets a guard for a process.
    pub(crate) fn set(
        pid: u32,
        uffd: &Userfaultfd,
        options: &InjectOptions,
    ) -> Result<Self, InjectError> {
        let uffd = uffd.as_fd().try_clone_to_owned();
        let uffd = uffd.map_err(|error| InjectError::Helper {
            pid,
            why: format!("cannot be given a descriptor: {error}"),
        })?;
        Ok(Self {
            pid,
            held: machine::guard(pid, uffd.as_fd(), options)?,
            uffd,
            options: options.clone(),
        })
    }

    /// Sets another one after that one has ended.
    pub(crate) fn renew(&mut self) -> Result<(), InjectError> {
        self.held = machine::guard(self.pid, self.uffd.as_fd(), &self.options)?;
        Ok(())
    }

    /// Whether it is not frozen together with this process.
    pub(crate) const fn is_apart(&self) -> bool {
        self.held.is_apart()
    }

    /// Whether it has let go of everything, or is gone itself.
    pub(crate) fn has_ended(&self) -> bool {
        self.held.has_ended()
    }
}

#[cfg(not(target_arch = "x86_64"))]
impl UffdGuard {
    /// Nobody can be attached to here.
    pub(crate) const fn set(
        _: u32,
        _: &Userfaultfd,
        _: &InjectOptions,
    ) -> Result<Self, InjectError> {
        Err(InjectError::Architecture)
    }

    /// The same.
    pub(crate) const fn renew(&mut self) -> Result<(), InjectError> {
        Err(InjectError::Architecture)
    }

    /// The same.
    pub(crate) const fn is_apart(&self) -> bool {
        false
    }

    /// The same.
    pub(crate) const fn has_ended(&self) -> bool {
        false
    }
}

/// Serves as the helper if this program was started as one; `main` then ends with that status.
pub fn helper_main() -> Option<ExitCode> {
    #[cfg(target_arch = "x86_64")]
    return machine::helper_main();
    #[cfg(not(target_arch = "x86_64"))]
    None
}

/// The same with a pause before each step with a thread, for tests that end something between two
/// steps.
pub fn slow_helper_main(pause: Duration) -> Option<ExitCode> {
    #[cfg(target_arch = "x86_64")]
    return machine::slow_helper_main(pause);
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = pause;
        None
    }
}

/// The VMAs of a process that belong to some userfaultfd already.
///
/// # Errors
/// If smaps cannot be read, or the process is gone.
pub fn occupied(pid: u32) -> Result<Vec<ProcVma>, UffdError> {
    let taken = |vma: &ProcVma| [b"uw", b"um", b"ui"].iter().any(|flag| vma.flags.has(flag));
    uffd::smaps(pid)?
        .filter(|vma| vma.as_ref().map_or(true, taken))
        .collect()
}
