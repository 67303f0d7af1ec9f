//! What else is known about a process with uffd-wp VMAs: its cgroup and its page tables.

use crate::model::ProcessFacts;

/// Reads it. A process may end meanwhile, and then has neither.
///
/// # Errors
/// If a file cannot be read or understood.
pub fn describe(pid: u32) -> uffd::Result<ProcessFacts> {
    let cgroup = uffd::cgroup_path(pid)?.filter(|path| !path.is_empty());
    Ok(ProcessFacts {
        cgroup,
        page_table_bytes: uffd::page_table_bytes(pid)?,
    })
}
