//! Restartable sequences (rseq(2)): code that the kernel aborts when its thread is preempted.
//!
//! A thread that we make run elsewhere loses its mark of being inside one, because the kernel sees
//! it return to an address outside. So we do for it what the kernel would have done: it goes on at
//! the abort handler.
#![forbid(unsafe_code)]

use std::fs::File;
use std::os::unix::fs::FileExt as _;

/// Where `struct rseq` holds the address of the current `struct rseq_cs`.
const RSEQ_CS: u64 = 8;

/// Where a thread that stopped at `rip` must go on; `area` is its `struct rseq`, `memory` its
/// memory.
pub(super) fn goes_on_at(rip: u64, area: Option<u64>, memory: &File) -> u64 {
    let sequence = area.and_then(|area| {
        let pointer = u64::from_ne_bytes(read(memory, area.checked_add(RSEQ_CS)?)?);
        (pointer != 0).then(|| read(memory, pointer))?
    });
    sequence
        .and_then(|sequence| abort_handler(rip, &sequence))
        .unwrap_or(rip)
}

/// The abort handler of a `struct rseq_cs` (version, flags, start, length, abort), if `rip` is
/// inside.
fn abort_handler(rip: u64, sequence: &[u8; 32]) -> Option<u64> {
    let field = |at: usize| {
        let bytes = sequence.get(at..at + 8)?;
        Some(u64::from_ne_bytes(bytes.try_into().ok()?))
    };
    let (start, length, abort) = (field(8)?, field(16)?, field(24)?);
    (rip.checked_sub(start)? < length).then_some(abort)
}

fn read<const N: usize>(memory: &File, at: u64) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    memory.read_exact_at(&mut bytes, at).ok()?;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn sequence(start: u64, length: u64, abort: u64) -> [u8; 32] {
        let words = [0, start, length, abort].map(u64::to_ne_bytes);
        words.concat().try_into().unwrap()
    }

    #[test]
    fn only_inside_is_aborted() {
        let sequence = sequence(0x1000, 0x10, 0x2000);
        assert_eq!(abort_handler(0xfff, &sequence), None);
        assert_eq!(abort_handler(0x1000, &sequence), Some(0x2000));
        assert_eq!(abort_handler(0x100f, &sequence), Some(0x2000));
        assert_eq!(abort_handler(0x1010, &sequence), None);
    }

    #[test]
    fn memory_is_followed_from_the_area_to_the_sequence() {
        let here = sequence(0x1000, 0x10, 0x2000);
        let area = [0u64, here.as_ptr().expose_provenance() as u64, 0, 0];
        let at = Some(area.as_ptr().expose_provenance() as u64);
        let memory = File::open("/proc/self/mem").unwrap();
        assert_eq!(goes_on_at(0x1008, at, &memory), 0x2000);
        assert_eq!(goes_on_at(0x1010, at, &memory), 0x1010);
        assert_eq!(goes_on_at(0x1008, None, &memory), 0x1008);
        assert_eq!(goes_on_at(0x1008, Some(8), &memory), 0x1008, "unmapped");
    }
}
