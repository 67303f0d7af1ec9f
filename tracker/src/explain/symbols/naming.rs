//! What is asked of the child that names code, and what it answers: JSON, one object a line.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// All that is to be named.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct NamingRequest {
    pub modules: Vec<NamingModule>,
}

/// Addresses in one file, or in what is like one.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct NamingModule {
    /// Which one, in answers.
    pub number: usize,
    pub source: NamingSource,
    pub addresses: Vec<u64>,
}

/// Where names are.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) enum NamingSource {
    /// An ELF file, by offsets in it; `lines`: with what DWARF says.
    Elf { path: PathBuf, lines: bool },
    /// A perf map, by addresses.
    PerfMap { path: PathBuf },
    /// The kernel's code for processes, by offsets in it.
    Vdso,
}

/// A line of answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum NamingAnswer {
    /// It looks at this module now: if it dies, that is why.
    Begins { module: usize },
    /// An address has a name.
    Named {
        module: usize,
        address: u64,
        frames: Vec<NamedFrame>,
    },
    /// Functions have set up no frame where they have come to these addresses: they return to what
    /// is on top of the stack.
    Frameless { module: usize, addresses: Vec<u64> },
    /// It has looked at all of this module.
    Ends { module: usize },
}

/// A function at an address; several if some were inlined, the innermost first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct NamedFrame {
    pub function: String,
    pub line: Option<(String, u32)>,
    pub inlined: bool,
}
