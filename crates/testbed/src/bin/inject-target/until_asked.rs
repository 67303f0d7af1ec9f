//! Standard input, whose end ends a case.

use std::io::Read as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};

static ASKED: AtomicBool = AtomicBool::new(false);

/// Has a thread wait for it.
pub fn watch() {
    std::thread::spawn(wait);
}

/// Waits for it.
pub fn wait() {
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    ASKED.store(true, Ordering::SeqCst);
}

/// Whether the thread has seen it.
pub fn is_over() -> bool {
    ASKED.load(Ordering::SeqCst)
}

/// Looks for it without a thread; waits for so long.
pub fn is_over_within(time: Duration) -> bool {
    let time = Timespec {
        tv_sec: time.as_secs() as i64,
        tv_nsec: time.subsec_nanos().into(),
    };
    let stdin = std::io::stdin();
    let mut input = [PollFd::new(&stdin, PollFlags::IN)];
    rustix::event::poll(&mut input, Some(&time)).is_ok_and(|ready| ready > 0)
}
