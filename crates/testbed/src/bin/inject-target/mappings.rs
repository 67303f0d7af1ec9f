//! Cases that change their mappings.

use std::io::{Error, Result};

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
