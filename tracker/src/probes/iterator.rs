//! Runs a loaded BPF iterator and reads what it writes.

use std::io::Read;

use aya::Ebpf;
use aya::programs::Iter;

use super::error::ProbeError;

/// Opens the iterator of that name; reading the file runs it.
///
/// # Errors
/// If it is not loaded, or the kernel does not open it.
pub fn open(ebpf: &mut Ebpf, name: &'static str) -> Result<impl Read + use<>, ProbeError> {
    let program = ebpf.program_mut(name).ok_or(ProbeError::NoProgram(name))?;
    let program: &mut Iter = program.try_into()?;
    let link = program.attach()?;
    let link = program.take_link(link)?;
    Ok(link.into_file()?)
}

/// Runs the iterator of that name to its end.
///
/// # Errors
/// As [`open`], or if it cannot be read.
pub fn run(ebpf: &mut Ebpf, name: &'static str) -> Result<Vec<u8>, ProbeError> {
    let mut bytes = Vec::new();
    open(ebpf, name)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}
