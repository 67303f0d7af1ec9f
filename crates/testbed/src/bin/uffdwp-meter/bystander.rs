//! The same kinds of faults, in a process that does not use uffd-wp.

use std::io::Error;

use anyhow::{Context as _, Result, bail};
use uffd::{PAGE_SIZE, PMD_SIZE, ScratchMapping};

use crate::clock::{PAGES, at_once, event, of_pages};
use crate::tracked::{STRIDE, TABLES};

/// Measures in a process that has never registered anything.
pub fn measure() -> Result<()> {
    let memory = ScratchMapping::anonymous(PAGES * PAGE_SIZE)?;
    event("no uffd-wp: first write", || {
        memory.drop_pages()?;
        // Some kernels free the table along with the pages (CONFIG_PT_RECLAIM).
        memory.write(0);
        Ok(of_pages(1..PAGES, |page| memory.write(page)))
    })?;
    event("no uffd-wp: copy on write", || {
        (0..PAGES).for_each(|page| memory.write(page));
        let child = StoppedChild::stopped()?;
        let measured = of_pages(0..PAGES, |page| memory.write(page));
        drop(child);
        Ok(measured)
    })?;
    event("no uffd-wp: first write that allocates a table", || {
        let fresh = ScratchMapping::anonymous((TABLES + 1) * PMD_SIZE)?;
        fresh.write(0);
        Ok(of_pages(0..TABLES, |table| {
            fresh.write((table + 1) * STRIDE);
        }))
    })?;
    let table = ScratchMapping::anonymous(PMD_SIZE)?;
    event("no uffd-wp: drop a page (MADV_DONTNEED of 512)", || {
        (0..STRIDE).for_each(|page| table.write(page));
        at_once(STRIDE, || table.drop_pages())
    })
}

/// A forked child that only shares the pages of this process.
struct StoppedChild(libc::pid_t);

impl StoppedChild {
    /// Forks, and waits until the child is stopped.
    fn stopped() -> Result<Self> {
        // SAFETY: one thread; the child calls nothing but raise and _exit.
        let pid = unsafe { libc::fork() };
        match pid {
            -1 => bail!("cannot fork: {}", Error::last_os_error()),
            0 => {
                // SAFETY: it stops here, and is killed from there.
                unsafe {
                    libc::raise(libc::SIGSTOP);
                    libc::_exit(0)
                }
            }
            _ => {}
        }
        let child = Self(pid);
        child
            .wait(libc::WUNTRACED)
            .context("cannot wait for a child")?;
        Ok(child)
    }

    fn wait(&self, options: i32) -> std::io::Result<()> {
        let mut status = 0;
        // SAFETY: writes one int of ours.
        match unsafe { libc::waitpid(self.0, &raw mut status, options) } {
            -1 => Err(Error::last_os_error()),
            _ => Ok(()),
        }
    }
}

impl Drop for StoppedChild {
    fn drop(&mut self) {
        // SAFETY: the child is ours and not yet waited for, so the pid is still its own.
        unsafe { libc::kill(self.0, libc::SIGKILL) };
        // It only fails if there is no such child any more.
        let _ = self.wait(0);
    }
}
