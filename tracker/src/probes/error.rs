//! What can go wrong with programs and their maps.

use std::io;

use aya::maps::MapError;
use aya::programs::ProgramError;
use aya::programs::links::LinkError;
use aya::{BtfError, EbpfError};
use thiserror::Error;
use uffd::UffdError;

use super::object::ObjectError;

/// Why programs cannot be loaded, or what they share with us cannot be read.
#[derive(Debug, Error)]
pub enum ProbeError {
    /// The object is damaged.
    #[error(transparent)]
    Object(#[from] ObjectError),
    /// aya cannot use BTF.
    #[error(transparent)]
    Btf(#[from] BtfError),
    /// The kernel's BTF cannot be read.
    #[error("cannot read /sys/kernel/btf/vmlinux: {0}")]
    ReadBtf(#[source] io::Error),
    /// The kernel's BTF is damaged.
    #[error(transparent)]
    KernelBtf(#[from] crate::kernel::btf::BtfError),
    /// The kernel refuses the object.
    #[error(transparent)]
    Load(#[from] EbpfError),
    /// The kernel refuses a program.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// A link is of another kind.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The kernel refuses a map, or an access to it.
    #[error(transparent)]
    Map(#[from] MapError),
    /// What the programs say cannot be read.
    #[error(transparent)]
    Log(#[from] aya_log::Error),
    /// The thread that proves hooks has ended.
    #[error("the thread that proves hooks has ended unexpectedly")]
    Exercise,
    /// The threads of a crowd cannot be on one CPU.
    #[error(transparent)]
    Crowd(#[from] UffdError),
    /// The object was built without this map.
    #[error("the object has no map {0}")]
    NoMap(&'static str),
    /// The object was built without this program.
    #[error("the object has no program {0}")]
    NoProgram(&'static str),
    /// A map is of another kind.
    #[error("not a BPF array")]
    NoArray,
    /// The kernel refuses to map memory, or to run an iterator.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The kernel or this privilege does not let address spaces be found, for this reason.
    #[error("cannot watch: {0}")]
    CannotWatch(String),
    /// As many are watched as can be.
    #[error("too many address spaces are watched")]
    TooManyWatches,
    /// The process has ended, or is a kernel thread.
    #[error("there is no process {0} with an address space")]
    NoProcess(u32),
    /// The ring is not read as it is written.
    #[error("the ring holds what is no event")]
    NoEvent,
}

impl From<ProbeError> for io::Error {
    fn from(error: ProbeError) -> Self {
        match error {
            ProbeError::Io(error) => error,
            ProbeError::NoProcess(_) => Self::new(io::ErrorKind::NotFound, error),
            _ => Self::other(error),
        }
    }
}
