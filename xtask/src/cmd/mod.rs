//! One file per command.

pub mod bench;
pub mod run;
pub mod test;
pub mod vm;

use crate::{cargo::Program, vm::GuestFile};

/// `programs` as files of a guest's `dir`.
fn guest_programs(programs: &[Program], dir: &str) -> Vec<GuestFile> {
    programs
        .iter()
        .map(|program| GuestFile {
            host: program.path.clone(),
            guest: format!("{dir}/{}", program.name),
        })
        .collect()
}
