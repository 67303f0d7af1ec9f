//! What else is known about a process with uffd-wp VMAs: its cgroup and its page tables.

use uffd::unless_gone;

use crate::model::ProcessFacts;

/// Reads both. A process that ends meanwhile has neither.
///
/// # Errors
/// If a file cannot be read or understood.
pub fn describe(pid: u32) -> Result<ProcessFacts, uffd::UffdError> {
    let cgroup = unless_gone(uffd::cgroup_path(pid))?;
    Ok(ProcessFacts {
        cgroup: cgroup.filter(|path| !path.is_empty()),
        page_table_bytes: unless_gone(uffd::page_table_bytes(pid))?.flatten(),
    })
}
