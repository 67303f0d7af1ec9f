//! What becomes of the system call that an interruption met.
//!
//! A call that the kernel restarts by itself (`-ERESTARTSYS`, `-ERESTARTNOHAND`, `-ERESTARTNOINTR`,
//! `-ERESTART_RESTARTBLOCK` in rax) needs nothing: on detach it sees orig_rax and does the rest. Some calls
//! return `-EINTR` instead, although no signal came: signal(7) lists them. They get `-ERESTARTNOHAND`: the
//! kernel then begins them again, or says EINTR if a signal's handler did run meanwhile.

use super::super::CallTimeout;
use super::calls::CallMade;
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

/// What the registers of a thread that was interrupted, and not by a signal, ask for.
pub(super) fn repair(registers: &ThreadRegisters) -> CallRepair {
    let call = match CallMade::of(registers) {
        Some(call) if registers.rax as i64 == EINTR => call,
        _ => return CallRepair::None,
    };
    if call.number == libc::SYS_ioctl as u64 && call.arguments[1] == KVM_RUN {
        // A virtual CPU goes back into its guest, which its owner would make it do.
        return CallRepair::Again {
            name: "ioctl(KVM_RUN)",
            timeout: CallTimeout::None,
        };
    }
    let known = call.known();
    let again = known.and_then(|known| Some((known.name, known.timeout(&call)?)));
    again.map_or(CallRepair::Ended(call.number), |(name, timeout)| {
        CallRepair::Again { name, timeout }
    })
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
}
