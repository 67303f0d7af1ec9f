//! Names of system calls.

use syscalls::Sysno;

/// The name of a system call of this machine: `read`, or `syscall 9999` for one that is not known
/// yet.
pub(in crate::explain) fn syscall_name(number: u64) -> String {
    let known = usize::try_from(number).ok().and_then(Sysno::new);
    known.map_or_else(
        || format!("syscall {number}"),
        |known| known.name().to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn numbers_have_names() {
        assert_eq!(syscall_name(0), "read");
        assert_eq!(syscall_name(310), "process_vm_readv");
        assert_eq!(syscall_name(u64::MAX), format!("syscall {}", u64::MAX));
    }
}
