//! What the process does with itself and its children.

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use std::ptr;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::area::MappedArea;

/// Forks; the child stores to its copy of the pages, and checks the whole area.
pub fn fork(area: &MappedArea, value: u64, pages: &[u64]) -> Result<()> {
    let before: Vec<u64> = (0..area.pages()).map(|page| area.word(page)).collect();
    let mut expected = before.clone();
    for &page in pages {
        *expected
            .get_mut(page as usize)
            .context("a page outside the area")? = value;
    }
    // SAFETY: there is no other thread; the child allocates nothing and leaves by _exit.
    let child = unsafe { libc::fork() };
    if child == 0 {
        pages.iter().for_each(|page| area.store(*page, value));
        let right = expected
            .iter()
            .zip(0..)
            .all(|(word, page)| area.word(page) == *word);
        // SAFETY: ends the child.
        unsafe { libc::_exit(i32::from(!right)) };
    }
    ensure!(
        child > 0,
        "cannot fork: {}",
        std::io::Error::last_os_error()
    );
    let mut status = 0;
    // SAFETY: waits for our child and writes one int.
    let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
    ensure!(waited == child, "cannot wait for the child");
    ensure!(
        status == 0,
        "the child found wrong content, or was killed: {status:#x}"
    );
    let same = before
        .iter()
        .zip(0..)
        .all(|(word, page)| area.word(page) == *word);
    ensure!(same, "the child changed its parent's memory");
    Ok(())
}

/// What a process that shares our memory works on.
struct SharedWork {
    area: MappedArea,
    pages: Vec<u64>,
}

/// Starts a process, not a thread, that has the memory of this one (clone(2) with `CLONE_VM`), and
/// stores to the pages for ever. It ends with this process, whatever program that executes.
pub fn share(area: &MappedArea, pages: Vec<u64>) -> Result<()> {
    const STACK: usize = 64 << 10;
    let area = *area;
    let work = Box::leak(Box::new(SharedWork { area, pages }));
    let stack = Box::leak(vec![0_u128; STACK / size_of::<u128>()].into_boxed_slice());
    let top = stack.as_mut_ptr_range().end;
    let flags = libc::CLONE_VM | libc::SIGCHLD;
    // SAFETY: the stack and the work are never freed, and nobody else uses them.
    let child = unsafe { libc::clone(work_on, top.cast(), flags, ptr::from_mut(work).cast()) };
    ensure!(
        child > 0,
        "cannot clone: {}",
        std::io::Error::last_os_error()
    );
    Ok(())
}

/// Calls nothing that needs a thread of its own: it runs on the thread-local memory of its parent.
extern "C" fn work_on(work: *mut libc::c_void) -> libc::c_int {
    // SAFETY: what was given to clone(2) lives for ever; system calls of numbers and one constant.
    unsafe {
        let work = &*work.cast::<SharedWork>();
        libc::syscall(libc::SYS_prctl, libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        let pause = libc::timespec {
            tv_sec: 0,
            tv_nsec: 1_000_000,
        };
        for value in 1.. {
            work.pages
                .iter()
                .for_each(|page| work.area.store(*page, value));
            libc::syscall(libc::SYS_nanosleep, &raw const pause, 0);
        }
    }
    0
}

/// Starts this program by vfork(2), as C libraries do, and waits for its end.
pub fn spawn() -> Result<()> {
    let status = Command::new("/proc/self/exe")
        .arg("list")
        .stdout(std::process::Stdio::null())
        .status()
        .context("cannot start a child")?;
    ensure!(status.success(), "the child ended: {status}");
    Ok(())
}

/// Executes this program anew in this process; returns only if that fails.
pub fn execute_anew(directory: &Path) -> anyhow::Error {
    let mut command = Command::new("/proc/self/exe");
    command.arg("script").arg("--dir").arg(directory);
    anyhow::Error::new(command.exec()).context("cannot execute this program")
}

/// A thread whose end the kernel tells by clearing a word of an area (set_tid_address(2)), which is
/// how C libraries wait for threads.
pub struct TellingThread {
    tid: u32,
    word: (MappedArea, u64),
    go: Sender<()>,
}

impl TellingThread {
    /// Starts one, whose word is on that page.
    pub fn start(area: &MappedArea, page: u64) -> Result<Self> {
        let (go, going) = channel::<()>();
        let (tell, told) = channel();
        let area = *area;
        area.store(page, 1);
        std::thread::spawn(move || {
            // SAFETY: the word is in an area, which outlives the thread; nobody waits for it.
            let tid = unsafe { libc::syscall(libc::SYS_set_tid_address, area.byte(page)) };
            // Whoever started it waits for this.
            let _ = tell.send(tid as u32);
            let _ = going.recv();
            // SAFETY: what is on its stack stays there.
            unsafe { libc::syscall(libc::SYS_exit, 0) };
        });
        let tid = told.recv().context("the thread does not begin")?;
        let word = (area, page);
        Ok(Self { tid, word, go })
    }

    /// Ends it; what its word is then.
    pub fn end(self) -> u64 {
        drop(self.go);
        let task = format!("/proc/self/task/{}", self.tid);
        while Path::new(&task).exists() {
            std::thread::sleep(Duration::from_millis(1));
        }
        let (area, page) = self.word;
        area.word(page)
    }
}

/// Ends the calling thread but not the process: the thread `serving` continues, and ends the
/// process at its own end.
pub fn end_this_thread(serving: JoinHandle<Result<bool>>) -> ! {
    std::thread::spawn(move || {
        let served = serving.join();
        std::process::exit(i32::from(!matches!(served, Ok(Ok(false)))));
    });
    // SAFETY: the first thread of a program may end by exit(2); what is on its stack stays there.
    unsafe { libc::syscall(libc::SYS_exit, 0) };
    unreachable!("the thread has ended")
}
