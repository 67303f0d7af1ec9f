//! Which address space a process has.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use rustix::io::Errno;

use crate::{MemoryFile, UffdError};

/// The address space that a process had at one moment: it can be told from the one that it has
/// later.
///
/// The kernel names no address space, and one can outlive its process: whoever shares it (clone(2)
/// with `CLONE_VM`) goes on in it when that process executes another program. But each program
/// begins with an auxiliary vector of its own (getauxval(3)), with addresses that are random and
/// with the address of 16 random bytes (`AT_RANDOM`). A file of `/proc` shows the address space
/// that was there when it was opened, so both can be read at the same moment.
#[derive(Debug)]
pub struct AddressSpace {
    pid: u32,
    auxv: File,
    /// Without the right to read memory the random bytes are not compared.
    memory: Option<MemoryFile>,
}

impl AddressSpace {
    /// The one that a process has now.
    ///
    /// # Errors
    /// [`UffdError::Gone`]: the process is gone. EACCES or EPERM: it may not be looked at.
    pub fn of(pid: u32) -> Result<Self, UffdError> {
        Ok(Self {
            pid,
            auxv: auxv(pid)?,
            memory: MemoryFile::open(pid).ok(),
        })
    }

    /// Whether it still is that of the process, whoever else uses it. `None`: the process shows
    /// none, because it is gone, its first thread has ended, or it may not be looked at any more.
    ///
    /// # Errors
    /// If it cannot be asked.
    pub fn is_current(&self) -> Result<Option<bool>, UffdError> {
        let now = match crate::unless_unseen(Self::of(self.pid)) {
            Ok(Some(now)) => now,
            Err(error) if !matches!(error.errno(), Some(Errno::ACCESS | Errno::PERM)) => {
                return Err(error);
            }
            Ok(None) | Err(_) => return Ok(None),
        };
        let (then, now) = (self, &now);
        let vector = now.vector()?;
        if vector.is_empty() {
            return Ok(None);
        }
        let same = vector == then.vector()? && now.random(&vector)? == then.random(&vector)?;
        Ok(Some(same))
    }

    fn vector(&self) -> Result<Vec<u8>, UffdError> {
        /// More than any kernel has (`AT_VECTOR_SIZE`).
        const MOST: usize = 1024;
        let mut bytes = vec![0; MOST];
        let read = self.auxv.read_at(&mut bytes, 0);
        let read = read.map_err(self.failed::<io::Error>("cannot read"))?;
        bytes.truncate(read);
        Ok(bytes)
    }

    /// The 16 bytes that the kernel gave the program. Nothing where they cannot be read.
    fn random(&self, vector: &[u8]) -> Result<Option<[u8; 16]>, UffdError> {
        let (Some(memory), Some(address)) = (&self.memory, random_address(vector)) else {
            return Ok(None);
        };
        let mut bytes = [0; 16];
        let read = crate::unless_unseen(memory.read(address, &mut bytes))?;
        Ok((read == Some(bytes.len())).then_some(bytes))
    }

    fn failed<E: Into<io::Error>>(&self, what: &'static str) -> impl FnOnce(E) -> UffdError {
        UffdError::of_process(self.pid, what, format!("/proc/{}/auxv", self.pid))
    }
}

fn auxv(pid: u32) -> Result<File, UffdError> {
    let path = format!("/proc/{pid}/auxv");
    File::open(&path).map_err(UffdError::of_process(pid, "cannot open", &path))
}

/// Where `AT_RANDOM` points to, in the vector of a 64-bit program.
fn random_address(vector: &[u8]) -> Option<u64> {
    const AT_RANDOM: u64 = 25;
    let (words, _) = vector.as_chunks::<8>();
    let words = words.iter().map(|word| u64::from_ne_bytes(*word));
    let words: Vec<u64> = words.collect();
    let (pairs, _) = words.as_chunks::<2>();
    let pair = pairs.iter().find(|[key, _]| *key == AT_RANDOM)?;
    Some(pair[1])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn ours_stays_ours_and_is_no_other() {
        let own = AddressSpace::of(std::process::id()).unwrap();
        assert_eq!(own.is_current().unwrap(), Some(true));
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let moved = AddressSpace {
            pid: child.id(),
            ..own
        };
        let other = moved.is_current();
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(other.unwrap(), Some(false));
        assert_eq!(moved.is_current().unwrap(), None, "nobody has that pid");
    }

    /// Whether a process waits in a system call.
    fn is_waiting(pid: u32) -> bool {
        let call = std::fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap();
        call.starts_with(|first: char| first.is_ascii_digit())
    }

    /// Two runs of a program without random addresses differ in their random bytes.
    #[test]
    fn the_random_bytes_tell_what_addresses_do_not() {
        let start = || {
            let mut command = std::process::Command::new("setarch");
            let mut child = command.args(["-R", "sleep", "60"]).spawn().unwrap();
            // Until it runs what it is to run: it has its name before its vector.
            while crate::comm(child.id()).unwrap() != b"sleep" || !is_waiting(child.id()) {
                assert!(child.try_wait().unwrap().is_none());
                std::thread::yield_now();
            }
            child
        };
        let (mut one, mut two) = (start(), start());
        let spaces = [&one, &two].map(|child| AddressSpace::of(child.id()).unwrap());
        let vectors = spaces.each_ref().map(|space| space.vector().unwrap());
        let random = |at: usize| spaces[at].random(&vectors[at]).unwrap();
        let (first, second) = (random(0), random(1));
        for child in [&mut one, &mut two] {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        assert_eq!(vectors[0], vectors[1]);
        assert!(first.is_some() && first != second);
    }
}
