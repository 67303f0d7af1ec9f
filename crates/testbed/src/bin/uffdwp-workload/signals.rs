//! Waits for SIGTERM or SIGINT.

use std::mem::MaybeUninit;

use anyhow::{Result, bail};

fn ending_signals() -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: sigemptyset initialises the set, sigaddset adds valid signals.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), libc::SIGTERM);
        libc::sigaddset(set.as_mut_ptr(), libc::SIGINT);
        set.assume_init()
    }
}

/// Blocks both signals, for [`wait`]. Call it before the first thread starts: threads inherit it.
pub fn block() {
    // SAFETY: the set is initialised; no old set is asked for.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &ending_signals(), std::ptr::null_mut()) };
}

/// Waits for either signal.
pub fn wait() -> Result<()> {
    let mut signal = 0;
    // SAFETY: both pointers are to live variables.
    match unsafe { libc::sigwait(&ending_signals(), &raw mut signal) } {
        0 => Ok(()),
        errno => bail!("sigwait: {}", std::io::Error::from_raw_os_error(errno)),
    }
}
