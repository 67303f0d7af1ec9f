//! Runs a loaded BPF iterator and reads what it writes.

use std::io::{self, Read};

use aya::Ebpf;
use aya::programs::Iter;

/// Opens the iterator of that name; reading the file runs it.
///
/// # Errors
/// If it is not loaded, or the kernel does not open it.
pub fn open(ebpf: &mut Ebpf, name: &str) -> io::Result<impl Read + use<>> {
    let program = ebpf.program_mut(name);
    let program = program.ok_or_else(|| io::Error::other(format!("no program {name}")))?;
    let program: &mut Iter = program.try_into().map_err(io::Error::other)?;
    let link = program.attach().map_err(io::Error::other)?;
    let link = program.take_link(link).map_err(io::Error::other)?;
    link.into_file().map_err(io::Error::other)
}

/// Runs the iterator of that name to its end.
///
/// # Errors
/// As [`open`], or if it cannot be read.
pub fn run(ebpf: &mut Ebpf, name: &str) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(ebpf, name)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}
