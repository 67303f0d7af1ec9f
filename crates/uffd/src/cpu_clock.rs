//! The CPU time of a process: who has run at all, has used some.

use std::mem::MaybeUninit;
use std::time::Duration;

/// CPU time of all threads of a process, those that have ended included, in the nanoseconds of the
/// scheduler (clock_getcpuclockid(3)). If it is the same as before, none of them has run since.
///
/// `pid` is its number in our own pid namespace, which is that of `/proc` only if
/// [`own_pid_in_proc`](crate::own_pid_in_proc) is our own. `None`: the process is gone.
#[must_use]
pub fn cpu_time(pid: u32) -> Option<Duration> {
    let pid = libc::pid_t::try_from(pid).ok().filter(|pid| *pid > 0)?;
    let mut clock = MaybeUninit::uninit();
    // SAFETY: the pointer is to a live variable.
    if unsafe { libc::clock_getcpuclockid(pid, clock.as_mut_ptr()) } != 0 {
        return None;
    }
    let mut time = MaybeUninit::<libc::timespec>::uninit();
    // SAFETY: the clock was initialised, since it was found; the pointer is to a live variable.
    if unsafe { libc::clock_gettime(clock.assume_init(), time.as_mut_ptr()) } != 0 {
        return None;
    }
    // SAFETY: initialised, since the clock was read.
    let time = unsafe { time.assume_init() };
    let seconds = u64::try_from(time.tv_sec).ok()?;
    Some(Duration::new(seconds, u32::try_from(time.tv_nsec).ok()?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use std::io::{Read as _, Write as _};
    use std::process::{Command, Stdio};

    #[test]
    fn who_has_run_has_used_some_and_who_waits_has_not() {
        let mut cat = Command::new("cat");
        cat.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut cat = cat.spawn().unwrap();
        let (mut to, mut from) = (cat.stdin.take().unwrap(), cat.stdout.take().unwrap());
        let mut say = || {
            to.write_all(b".").unwrap();
            from.read_exact(&mut [0]).unwrap();
            // It has answered, and waits for more once its clock stands still.
            let now = || cpu_time(cat.id()).unwrap();
            let mut before = now();
            loop {
                std::thread::sleep(Duration::from_millis(20));
                let after = now();
                if std::mem::replace(&mut before, after) == after {
                    return after;
                }
            }
        };
        let first = say();
        assert!(say() > first);
        cat.kill().unwrap();
        cat.wait().unwrap();
        assert_eq!(cpu_time(cat.id()), None);
        assert_eq!((cpu_time(0), cpu_time(u32::MAX)), (None, None));
    }
}
