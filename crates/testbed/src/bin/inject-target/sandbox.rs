//! A process whose seccomp filter kills it for userfaultfd(2).

use std::io::Result;
use std::time::Duration;

use super::report::CaseReport;
use super::sys;

pub fn kills_userfaultfd(report: &mut CaseReport) -> Result<()> {
    sys::kill_for(libc::SYS_userfaultfd)?;
    report.ready();
    while !report.is_over() {
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}
