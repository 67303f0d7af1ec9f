//! What becomes of a system call that the stop interrupted.
//!
//! A call that the kernel restarts by itself (`-ERESTARTSYS`, `-ERESTARTNOHAND`, `-ERESTARTNOINTR`,
//! `-ERESTART_RESTARTBLOCK` in rax) needs nothing: on detach it sees orig_rax and does the rest.
//! Some calls return `-EINTR` instead, although no signal came: signal(7) lists them. They get
//! `-ERESTARTNOHAND`: the kernel then begins them again, or says EINTR if a signal's handler did
//! run meanwhile.

use super::super::CallTimeout;
use super::ptrace::ThreadRegisters;

/// "Begin again unless a handler runs" (include/linux/errno.h).
pub(super) const ERESTARTNOHAND: i64 = -514;

const EINTR: i64 = -(libc::EINTR as i64);
const KVM_RUN: u64 = 0xae80;

/// What to do about an interrupted call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CallRepair {
    /// Nothing: not in a call, or the kernel knows what to do.
    None,
    /// Put [`ERESTARTNOHAND`] into rax: it may be begun again, because it has done nothing by then.
    Again {
        /// The call.
        name: &'static str,
        /// Whether it has a timeout, which begins anew.
        timeout: CallTimeout,
    },
    /// It ends with EINTR: doing it again might do it twice. The number of the call.
    Ended(u64),
}

/// Where a call says how long it waits.
enum CallLimit {
    /// Nowhere: it waits forever.
    Never,
    /// Milliseconds in an argument, forever if negative.
    Milliseconds(usize),
    /// Argument that points to a time; null: forever.
    Pointer(usize),
    /// The socket's.
    Socket,
}

use CallLimit::{Milliseconds, Never, Pointer, Socket};

/// Calls that return EINTR without a signal, having done nothing.
const AGAIN: [(i64, &str, CallLimit); 22] = [
    (libc::SYS_epoll_wait, "epoll_wait", Milliseconds(3)),
    (libc::SYS_epoll_pwait, "epoll_pwait", Milliseconds(3)),
    (libc::SYS_epoll_pwait2, "epoll_pwait2", Pointer(3)),
    (libc::SYS_rt_sigtimedwait, "rt_sigtimedwait", Pointer(2)),
    (libc::SYS_semop, "semop", Never),
    (libc::SYS_semtimedop, "semtimedop", Pointer(3)),
    (libc::SYS_io_getevents, "io_getevents", Pointer(4)),
    (libc::SYS_io_uring_enter, "io_uring_enter", Never),
    // With a time that is in read-only memory; else the kernel restarts them.
    (libc::SYS_select, "select", Pointer(4)),
    (libc::SYS_pselect6, "pselect6", Pointer(4)),
    (libc::SYS_ppoll, "ppoll", Pointer(2)),
    (libc::SYS_accept, "accept", Socket),
    (libc::SYS_accept4, "accept4", Socket),
    (libc::SYS_connect, "connect", Socket),
    (libc::SYS_read, "read", Socket),
    (libc::SYS_readv, "readv", Socket),
    (libc::SYS_recvfrom, "recvfrom", Socket),
    (libc::SYS_recvmsg, "recvmsg", Socket),
    (libc::SYS_recvmmsg, "recvmmsg", Socket),
    (libc::SYS_write, "write", Socket),
    (libc::SYS_sendto, "sendto", Socket),
    (libc::SYS_sendmsg, "sendmsg", Socket),
];

/// Calls that set a signal mask for as long as they wait. A thread in one is the last to choose:
/// the mask that it gets back is the one from before the call, until the kernel begins the call
/// again.
pub(super) fn masks_signals(registers: &ThreadRegisters) -> bool {
    /// libc has no name for it.
    const IO_PGETEVENTS: i64 = 333;
    const CALLS: [i64; 7] = [
        libc::SYS_ppoll,
        libc::SYS_pselect6,
        libc::SYS_epoll_pwait,
        libc::SYS_epoll_pwait2,
        libc::SYS_rt_sigsuspend,
        IO_PGETEVENTS,
        libc::SYS_io_uring_enter,
    ];
    in_call(registers) && CALLS.contains(&(registers.orig_rax as i64))
}

/// Whether the thread stopped on its way out of a system call.
pub(super) fn in_call(registers: &ThreadRegisters) -> bool {
    registers.orig_rax as i64 >= 0
}

/// What the registers of a thread that was interrupted, and not by a signal, ask for.
pub(super) fn repair(registers: &ThreadRegisters) -> CallRepair {
    if !in_call(registers) || registers.rax as i64 != EINTR {
        return CallRepair::None;
    }
    let number = registers.orig_rax;
    if number == libc::SYS_ioctl as u64 && registers.rsi == KVM_RUN {
        // A virtual CPU goes back into its guest, which its owner would make it do.
        return CallRepair::Again {
            name: "ioctl(KVM_RUN)",
            timeout: CallTimeout::None,
        };
    }
    let known = AGAIN
        .iter()
        .find(|(call, ..)| u64::try_from(*call) == Ok(number));
    known.map_or(CallRepair::Ended(number), |(_, name, limit)| {
        CallRepair::Again {
            name,
            timeout: limit.of(registers),
        }
    })
}

impl CallLimit {
    fn of(&self, registers: &ThreadRegisters) -> CallTimeout {
        let argument = |index: usize| {
            let r = registers;
            [r.rdi, r.rsi, r.rdx, r.r10, r.r8, r.r9][index]
        };
        let finite = match *self {
            Never => false,
            // An int: the upper half of the register says nothing.
            Milliseconds(index) => argument(index) as i32 >= 0,
            Pointer(index) => argument(index) != 0,
            Socket => return CallTimeout::Socket,
        };
        if finite {
            CallTimeout::Finite
        } else {
            CallTimeout::None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registers(call: i64, rax: i64) -> ThreadRegisters {
        // SAFETY: a user_regs_struct is integers only.
        let mut registers: ThreadRegisters = unsafe { std::mem::zeroed() };
        registers.orig_rax = call as u64;
        registers.rax = rax as u64;
        registers
    }

    fn timeout(registers: &ThreadRegisters) -> Option<CallTimeout> {
        match repair(registers) {
            CallRepair::Again { timeout, .. } => Some(timeout),
            _ => None,
        }
    }

    #[test]
    fn what_the_kernel_restarts_is_left_to_it() {
        for error in [-512, -513, -514, -516, 0, 17] {
            let there = registers(libc::SYS_nanosleep, error);
            assert_eq!(repair(&there), CallRepair::None, "{error}");
        }
    }

    #[test]
    fn user_code_is_left_alone_whatever_is_in_its_rax() {
        assert_eq!(repair(&registers(-1, EINTR)), CallRepair::None);
        assert!(!in_call(&registers(-1, 0)) && in_call(&registers(0, 0)));
    }

    #[test]
    fn epoll_wait_begins_again_with_or_without_a_timeout() {
        let mut there = registers(libc::SYS_epoll_wait, EINTR);
        there.r10 = 0xffff_ffff;
        assert_eq!(timeout(&there), Some(CallTimeout::None), "an int of -1");
        there.r10 = u64::MAX;
        assert_eq!(timeout(&there), Some(CallTimeout::None));
        there.r10 = 100;
        assert_eq!(timeout(&there), Some(CallTimeout::Finite));
    }

    #[test]
    fn times_by_pointer() {
        let mut there = registers(libc::SYS_rt_sigtimedwait, EINTR);
        assert_eq!(timeout(&there), Some(CallTimeout::None));
        there.rdx = 0x7fff_0000;
        assert_eq!(timeout(&there), Some(CallTimeout::Finite));
        assert_eq!(
            timeout(&registers(libc::SYS_semop, EINTR)),
            Some(CallTimeout::None)
        );
        let receive = registers(libc::SYS_recvfrom, EINTR);
        assert_eq!(timeout(&receive), Some(CallTimeout::Socket));
    }

    /// close(2) has closed by then, and another thread may own the number.
    #[test]
    fn what_may_have_happened_is_not_done_twice() {
        let close = registers(libc::SYS_close, EINTR);
        assert_eq!(repair(&close), CallRepair::Ended(libc::SYS_close as u64));
        let mut ioctl = registers(libc::SYS_ioctl, EINTR);
        assert_eq!(repair(&ioctl), CallRepair::Ended(16));
        ioctl.rsi = KVM_RUN;
        assert_eq!(timeout(&ioctl), Some(CallTimeout::None));
    }

    #[test]
    fn masks() {
        assert!(masks_signals(&registers(libc::SYS_rt_sigsuspend, -514)));
        assert!(!masks_signals(&registers(libc::SYS_read, -512)));
    }
}
