//! What the programs say about themselves: lines of aya-log, at level debug.
//!
//! Unless debug is logged, the programs are loaded with this switched off, and the verifier removes
//! the code for it.

use aya::Ebpf;
use aya_log::EbpfLogger;
use log::Log;

use super::error::ProbeError;

/// The target of their lines begins with this.
const TARGET: &str = "tracker_ebpf";
/// `aya_log_common::Level::Debug`
const DEBUG: u8 = 4;
const SILENT: u8 = 0;

/// The level to load the programs with.
pub fn level() -> u8 {
    if log::log_enabled!(target: TARGET, log::Level::Debug) {
        DEBUG
    } else {
        SILENT
    }
}

/// The lines of loaded programs.
pub struct ProgramLog(EbpfLogger<&'static dyn Log>);

impl ProgramLog {
    /// Takes the log from the object before its programs are loaded; `None` if they are silent.
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Option<Self>, ProbeError> {
        if level() == SILENT {
            return Ok(None);
        }
        Ok(Some(Self(EbpfLogger::init(ebpf)?)))
    }

    /// Logs the lines that have come since the last call.
    pub fn flush(&mut self) {
        self.0.flush();
    }
}
