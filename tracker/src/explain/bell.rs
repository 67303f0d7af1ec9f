//! Tells whoever reads of a process that its tracker has armed pages.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, eventfd};

/// An eventfd(2) that is readable when a call has armed pages that the reader does not know of, or
/// may have: a call that was lost.
pub(super) struct ArmingBell {
    bell: Arc<OwnedFd>,
    /// Whether there are such pages.
    wanted: bool,
    /// Calls that were lost until now.
    lost: u64,
    /// It does not ring before.
    rests: Instant,
}

impl ArmingBell {
    /// Makes the descriptor.
    ///
    /// # Errors
    /// EMFILE, ENFILE: there are too many descriptors.
    pub(super) fn descriptor() -> io::Result<Arc<OwnedFd>> {
        let flags = EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC;
        Ok(Arc::new(eventfd(0, flags)?))
    }

    /// Nothing is armed that the reader does not know of. `lost`: calls that were lost until now.
    pub(super) fn new(bell: Arc<OwnedFd>, lost: u64) -> Self {
        Self {
            bell,
            wanted: false,
            lost,
            rests: Instant::now(),
        }
    }

    /// The reader does not know all pages that were armed.
    pub(super) const fn want(&mut self) {
        self.wanted = true;
    }

    /// So many calls were lost until now: nobody knows what the latest have armed.
    pub(super) const fn lost(&mut self, lost: u64) {
        self.wanted |= lost > self.lost;
        self.lost = lost;
    }

    /// It does not ring for so long.
    pub(super) fn rest(&mut self, pause: Duration) {
        self.rests = Instant::now() + pause;
    }

    /// Rings if the reader is to be told, and it does not rest.
    pub(super) fn ring(&mut self) -> io::Result<()> {
        if self.wanted && Instant::now() >= self.rests {
            self.wanted = false;
            rustix::io::write(&self.bell, &1_u64.to_ne_bytes())?;
        }
        Ok(())
    }

    /// The reader knows everything by now.
    pub(super) fn hush(&mut self) {
        self.wanted = false;
        // Nothing to read: it has not rung.
        let _ = rustix::io::read(&self.bell, &mut [0; 8]);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn it_rings_once_for_what_is_wanted_and_not_while_it_rests() {
        let fd = ArmingBell::descriptor().unwrap();
        let rang = || rustix::io::read(&fd, &mut [0; 8]).is_ok();
        let mut bell = ArmingBell::new(Arc::clone(&fd), 5);
        bell.ring().unwrap();
        assert!(!rang());
        bell.want();
        bell.ring().unwrap();
        assert!(rang());
        bell.ring().unwrap();
        assert!(!rang());
        bell.want();
        bell.rest(Duration::from_secs(3600));
        bell.ring().unwrap();
        assert!(!rang());
        bell.rest(Duration::ZERO);
        bell.ring().unwrap();
        bell.hush();
        assert!(!rang());
    }
    #[test]
    fn it_rings_for_a_call_that_was_lost_and_only_once() {
        let fd = ArmingBell::descriptor().unwrap();
        let rang = || rustix::io::read(&fd, &mut [0; 8]).is_ok();
        let mut bell = ArmingBell::new(Arc::clone(&fd), 5);
        let heard = [5, 6, 6, 9].map(|lost| {
            bell.lost(lost);
            bell.ring().unwrap();
            rang()
        });
        assert_eq!(heard, [false, true, false, true]);
    }
}
