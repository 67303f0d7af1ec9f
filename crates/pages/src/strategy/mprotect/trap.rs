//! The SIGSEGV handler and what it shares with the rest: a table of areas with a bit per page.
//!
//! The handler first makes the page writable, then sets the bit; a round first takes the bits, then
//! protects. So the bit of a page that is writable is set, or will be, after the last time the bits
//! were taken.

use std::ops::Range;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use std::sync::{OnceLock, PoisonError};

use rustix::io::Errno;
use uffd::UffdError;

use super::super::area::TrackedArea;

/// How many areas one process can have.
const SLOTS: usize = 256;
/// How many accesses of an area just given back may be on their way to the handler.
const LATE: u64 = 1000;

static TABLE: [TrapSlot; SLOTS] = [const { TrapSlot::free() }; SLOTS];
static PREVIOUS: OnceLock<libc::sigaction> = OnceLock::new();

/// One area. It stays readable after it is given back, since a thread may be on its way to the
/// handler.
#[derive(Debug)]
pub(super) struct TrapSlot {
    used: AtomicBool,
    start: AtomicU64,
    end: AtomicU64,
    page: AtomicU64,
    /// A bit per page, in words; never freed, only replaced.
    bits: AtomicPtr<AtomicU64>,
    words: AtomicUsize,
    /// Accesses since the slot was given back.
    late: AtomicU64,
}

impl TrapSlot {
    const fn free() -> Self {
        Self {
            used: AtomicBool::new(false),
            start: AtomicU64::new(0),
            end: AtomicU64::new(0),
            page: AtomicU64::new(1),
            bits: AtomicPtr::new(ptr::null_mut()),
            words: AtomicUsize::new(0),
            late: AtomicU64::new(LATE),
        }
    }

    /// Reserves a slot for an area. Those given back last are reused last.
    pub(super) fn take(area: &TrackedArea) -> Result<&'static Self, UffdError> {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let begin = NEXT.fetch_add(1, Ordering::Relaxed);
        let mut slots = (0..SLOTS).map(|n| &TABLE[begin.wrapping_add(n) % SLOTS]);
        let free = slots.find(|slot| !slot.used.swap(true, Ordering::AcqRel));
        let slot = free.ok_or_else(|| {
            let on = format!("more than {SLOTS} areas with mprotect");
            UffdError::system("cannot track", on, Errno::NOSPC)
        })?;
        slot.end.store(0, Ordering::Release);
        let words = (area.range.end - area.range.start).div_ceil(area.page_size * 64) as usize;
        if slot.words.load(Ordering::Relaxed) < words {
            let bits: Vec<AtomicU64> = (0..words).map(|_| AtomicU64::new(0)).collect();
            slot.bits.store(
                Box::leak(bits.into_boxed_slice()).as_mut_ptr(),
                Ordering::Release,
            );
            slot.words.store(words, Ordering::Release);
        }
        slot.words()
            .iter()
            .for_each(|word| word.store(0, Ordering::Relaxed));
        slot.page.store(area.page_size, Ordering::Relaxed);
        slot.start.store(area.range.start, Ordering::Relaxed);
        slot.end.store(area.range.end, Ordering::Release);
        Ok(slot)
    }

    /// Makes the area writable again.
    pub(super) fn give_back(&self) -> Result<(), UffdError> {
        let range = self.start.load(Ordering::Relaxed)..self.end.load(Ordering::Relaxed);
        let result = change(&range, libc::PROT_READ | libc::PROT_WRITE);
        self.late.store(0, Ordering::Relaxed);
        self.used.store(false, Ordering::Release);
        result.map_err(|e| UffdError::system("cannot make writable", "a tracked area", e))
    }

    /// Makes a range of the area read-only.
    pub(super) fn protect(&self, range: &Range<u64>) -> Result<(), UffdError> {
        change(range, libc::PROT_READ).map_err(|e| {
            let on = format!("{:#x}-{:#x} (see vm.max_map_count)", range.start, range.end);
            UffdError::system("cannot make read-only", on, e)
        })
    }

    /// Hands over the pages written since the last time.
    pub(super) fn take_written(&self, mut each: impl FnMut(Range<u64>)) {
        let (start, page) = (
            self.start.load(Ordering::Relaxed),
            self.page.load(Ordering::Relaxed),
        );
        for (index, word) in self.words().iter().enumerate() {
            let mut bits = word.swap(0, Ordering::AcqRel);
            while bits != 0 {
                let bit = u64::from(bits.trailing_zeros());
                let at = start + (index as u64 * 64 + bit) * page;
                each(at..at + page);
                bits &= bits - 1;
            }
        }
    }

    /// In the signal handler: whether the address is in the area, whose page is then writable and
    /// noted.
    fn handle(&self, address: u64) -> bool {
        let end = self.end.load(Ordering::Acquire);
        let (start, page) = (
            self.start.load(Ordering::Relaxed),
            self.page.load(Ordering::Relaxed),
        );
        if !self.used.load(Ordering::Acquire) || !(start..end).contains(&address) {
            return false;
        }
        let index = (address - start) / page;
        let at = start + index * page;
        let writable = libc::PROT_READ | libc::PROT_WRITE;
        if change(&(at..at + page), writable).is_ok() {
            self.note(index);
        } else {
            // Too many VMAs: give up on the area for this round, and report all of it.
            let _ = change(&(start..end), writable);
            (0..(end - start) / page).for_each(|index| self.note(index));
        }
        true
    }

    /// In the signal handler: whether the address is in the area, which was given back so recently
    /// that the access may have come first. It is writable by now: repeating the access is enough.
    fn was_recently(&self, address: u64) -> bool {
        let end = self.end.load(Ordering::Acquire);
        (self.start.load(Ordering::Relaxed)..end).contains(&address)
            && self.late.fetch_add(1, Ordering::Relaxed) < LATE
    }

    fn note(&self, index: u64) {
        if let Some(word) = self.words().get((index / 64) as usize) {
            word.fetch_or(1 << (index % 64), Ordering::AcqRel);
        }
    }

    fn words(&self) -> &[AtomicU64] {
        let words = self.words.load(Ordering::Acquire);
        let bits = self.bits.load(Ordering::Acquire);
        if bits.is_null() {
            return &[];
        }
        // SAFETY: a leaked slice of at least that many words: its pointer is stored before its
        // length, and both only grow.
        unsafe { std::slice::from_raw_parts(bits, words) }
    }
}

fn change(range: &Range<u64>, protection: i32) -> Result<(), Errno> {
    let (start, length) = (range.start as usize, (range.end - range.start) as usize);
    let start = ptr::without_provenance_mut(start);
    // SAFETY: whoever created the strategy vouched for the memory; a write to it while it is
    // read-only comes to our handler.
    match unsafe { libc::mprotect(start, length, protection) } {
        0 => Ok(()),
        _ => Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)),
    }
}

/// Installs the handler, once.
pub(super) fn install() -> Result<(), UffdError> {
    static ONCE: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _alone = ONCE.lock().unwrap_or_else(PoisonError::into_inner);
    if PREVIOUS.get().is_some() {
        return Ok(());
    }
    // SAFETY: all zeroes is a valid sigaction; it is filled in before it is used.
    let (mut action, mut previous): (libc::sigaction, libc::sigaction) =
        unsafe { (std::mem::zeroed(), std::mem::zeroed()) };
    // SAFETY: both point to a sigaction of ours; the kernel only writes the second.
    let asked = unsafe { libc::sigaction(libc::SIGSEGV, ptr::null(), &raw mut previous) };
    let _ = PREVIOUS.set(previous);
    action.sa_sigaction = on_fault as *const () as usize;
    // On the alternate stack where there is one, as Rust's own handler of stack overflows needs it.
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_NODEFER;
    // SAFETY: the handler has the signature that SA_SIGINFO asks for and is async-signal-safe.
    let set = unsafe { libc::sigaction(libc::SIGSEGV, &raw const action, ptr::null_mut()) };
    if asked == 0 && set == 0 {
        Ok(())
    } else {
        let why = std::io::Error::last_os_error();
        Err(UffdError::system("cannot handle", "SIGSEGV", why))
    }
}

/// Uses atomics and mprotect(2) only, and leaves errno as it was.
extern "C" fn on_fault(signal: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel hands over a siginfo of a fault, and errno is this thread's.
    let (address, errno) = unsafe { ((*info).si_addr().addr() as u64, libc::__errno_location()) };
    // SAFETY: errno is an int of this thread.
    let saved = unsafe { *errno };
    let ours = TABLE.iter().any(|slot| slot.handle(address))
        || TABLE.iter().any(|slot| slot.was_recently(address));
    // SAFETY: as above.
    unsafe { *errno = saved };
    if !ours {
        pass_on(signal, info, context);
    }
}

fn pass_on(signal: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    type WithInfo = extern "C" fn(i32, *mut libc::siginfo_t, *mut libc::c_void);
    let previous = PREVIOUS.get();
    let handler = previous.map_or(libc::SIG_DFL, |previous| previous.sa_sigaction);
    if handler == libc::SIG_DFL || handler == libc::SIG_IGN {
        // Returning repeats the access, which ends the process as it would have without us.
        // SAFETY: setting a default disposition is async-signal-safe.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
        return;
    }
    // SAFETY: a handler that was installed by sigaction(2). Taking arguments that it may not have
    // is harmless on x86-64, where they come in registers.
    let handler = unsafe { std::mem::transmute::<usize, WithInfo>(handler) };
    handler(signal, info, context);
}
