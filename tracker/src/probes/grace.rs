//! Waits until no BPF program is running that was running before.

use std::io;

/// `MEMBARRIER_CMD_GLOBAL` (include/uapi/linux/membarrier.h).
const GLOBAL: libc::c_int = 1;

/// Returns when every program that runs now has ended: programs run within an RCU read section, and
/// `membarrier_global_begin` of old, now `sys_membarrier`, waits with synchronize_rcu().
///
/// # Errors
/// If the kernel does not have it, or has CPUs without ticks (`nohz_full`).
pub(super) fn wait_for_programs() -> io::Result<()> {
    // SAFETY: numbers only.
    match unsafe { libc::syscall(libc::SYS_membarrier, GLOBAL, 0, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
