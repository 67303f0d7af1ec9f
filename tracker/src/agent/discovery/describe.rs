//! What else is known about a process with uffd-wp VMAs: its cgroup and its page tables.

use uffd::unless_gone;

use crate::model::ProcessFacts;

/// Reads both, by a thread of it that has memory. A process that ends meanwhile has neither.
///
/// # Errors
/// If a file cannot be read or understood.
pub fn describe(thread: u32) -> Result<ProcessFacts, uffd::UffdError> {
    let cgroup = unless_gone(uffd::cgroup_path(thread))?;
    Ok(ProcessFacts {
        cgroup: cgroup.filter(|path| !path.is_empty()),
        page_table_bytes: unless_gone(uffd::page_table_bytes(thread))?.flatten(),
    })
}
