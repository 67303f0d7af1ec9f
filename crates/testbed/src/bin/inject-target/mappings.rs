//! Cases that change their mappings.

use std::io::{Error, Result};
use std::time::Duration;

use uffd::{PAGE_SIZE, RegisterMode, ScratchMapping, UffdError, UffdFeatures, Userfaultfd};

use super::report::CaseReport;
use super::{sys, until_asked};

/// More than a process may have mappings (`vm.max_map_count`).
const PAGES: usize = 80_000;

/// Unmaps every other page of a large mapping, and maps and touches it again, again and again, as
/// allocators do. Where nobody tracks it the new pages merge with the old ones.
pub fn refill(report: &mut CaseReport) -> Result<()> {
    let memory = sys::ReservedMemory::new(PAGES).map_err(Error::from)?;
    let (mut failed, mut passes) = (0, 0);
    until_asked::watch();
    report.ready();
    while !until_asked::is_over() {
        for page in (0..PAGES).step_by(2) {
            if until_asked::is_over() {
                break;
            }
            failed += u64::from(memory.refill(page).is_err());
        }
        passes += 1;
    }
    report.put("failed calls", failed);
    report.put("any pass", passes > 0);
    Ok(())
}

/// Registers memory with a userfaultfd of its own, and if that fails closes it at once and tries
/// again later, as programs do that take it for a passing failure.
pub fn register(report: &mut CaseReport) -> Result<()> {
    const PAUSE: Duration = Duration::from_millis(300);
    let error = |error: UffdError| Error::other(error.to_string());
    let memory = ScratchMapping::anonymous(256 * PAGE_SIZE).map_err(error)?;
    memory.write(0);
    report.ready();
    let (mut tries, mut registered) = (0, None);
    // It begins only when it is tracked: at the first byte.
    let _ = std::io::Read::read(&mut std::io::stdin(), &mut [0])?;
    while registered.is_none() && !until_asked::is_over_within(PAUSE) {
        tries += 1;
        registered = try_to_register(&memory).ok();
    }
    report.put("tries", tries);
    report.put("registered", registered.is_some());
    Ok(())
}

fn try_to_register(memory: &ScratchMapping) -> std::result::Result<Userfaultfd, UffdError> {
    let uffd = Userfaultfd::open().or_else(|_| Userfaultfd::open_user_mode_only())?;
    uffd.enable(UffdFeatures::default())?;
    uffd.register(&memory.range(), RegisterMode::WP)?;
    Ok(uffd)
}

/// Has 100 GiB of memory that it never touches.
pub fn reserve(report: &mut CaseReport) -> Result<()> {
    let _memory = sys::ReservedMemory::new(100 << 18).map_err(Error::from)?;
    report.ready();
    until_asked::wait();
    Ok(())
}
