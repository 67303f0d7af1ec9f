//! Functions that have set up no frame where they are, by what their file says for unwinders.
//!
//! The kernel walks frame pointers. A function that sets none up, as memcpy(3) and Go's
//! memclrNoHeapPointers, hides its caller from that walk: but it returns to what is on top of the
//! stack, and call frame information (.eh_frame, .debug_frame) says of which instructions that is
//! true.

use std::borrow::Cow;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use flate2::read::ZlibDecoder;
use gimli::{
    BaseAddresses, CfaRule, CieOrFde, DebugFrame, EhFrame, EndianSlice, LittleEndian, RegisterRule,
    UnwindContext, UnwindSection, UnwindTableRow, X86_64,
};
use object::read::elf::ElfFile64;
use object::{CompressionFormat, Object as _, ObjectSection as _, ObjectSegment as _, ReadCache};

/// Bytes of a section that is compressed, at most: more are not read.
const SECTION: u64 = 256 << 20;

type ElfInput<'a> = ElfFile64<'a, object::LittleEndian, &'a ReadCache<File>>;
type FrameBytes<'a> = EndianSlice<'a, LittleEndian>;

/// Those of these offsets in a file at which a function has set up no frame. Of a file that says
/// nothing, or cannot be read, none.
pub(super) fn frameless(path: &Path, offsets: &[u64]) -> Vec<u64> {
    let Ok(file) = File::open(path) else {
        return Vec::new();
    };
    let cache = ReadCache::new(file);
    let Ok(elf) = ElfFile64::<object::LittleEndian, _>::parse(&cache) else {
        return Vec::new();
    };
    let mut wanted: Vec<_> = offsets
        .iter()
        .filter_map(|offset| Some((address(&elf, *offset)?, *offset)))
        .collect();
    wanted.sort_unstable();
    let mut found = Vec::new();
    if let Some((start, bytes)) = section(&elf, ".eh_frame") {
        let bases = bases(&elf).set_eh_frame(start);
        let mut frames = EhFrame::new(&bytes, LittleEndian);
        frames.set_address_size(8);
        search(&frames, &bases, &wanted, &mut found);
    }
    if let Some((_, bytes)) = section(&elf, ".debug_frame") {
        let mut frames = DebugFrame::new(&bytes, LittleEndian);
        frames.set_address_size(8);
        search(&frames, &BaseAddresses::default(), &wanted, &mut found);
    }
    found.sort_unstable();
    found.dedup();
    found
}

/// The address for which an offset in the file is linked.
fn address(elf: &ElfInput<'_>, offset: u64) -> Option<u64> {
    elf.segments().find_map(|segment| {
        let (start, size) = segment.file_range();
        let within = offset.checked_sub(start).filter(|within| *within < size)?;
        segment.address().checked_add(within)
    })
}

fn bases(elf: &ElfInput<'_>) -> BaseAddresses {
    let start = |name| elf.section_by_name(name).map_or(0, |it| it.address());
    BaseAddresses::default()
        .set_text(start(".text"))
        .set_got(start(".got"))
}

/// The address and the bytes of a section. Go compresses what is for debuggers.
fn section<'a>(elf: &ElfInput<'a>, name: &str) -> Option<(u64, Cow<'a, [u8]>)> {
    let section = elf.section_by_name(name)?;
    let data = section.compressed_data().ok()?;
    let bytes = match data.format {
        CompressionFormat::None => Cow::Borrowed(data.data),
        CompressionFormat::Zlib => {
            let mut bytes = Vec::new();
            let decoder = ZlibDecoder::new(data.data);
            decoder.take(SECTION).read_to_end(&mut bytes).ok()?;
            Cow::Owned(bytes)
        }
        _ => return None,
    };
    Some((section.address(), bytes))
}

/// Looks for the addresses in all functions that a section tells of. What is damaged ends it.
fn search<'a, S>(section: &S, bases: &BaseAddresses, wanted: &[(u64, u64)], found: &mut Vec<u64>)
where
    S: UnwindSection<FrameBytes<'a>>,
    S::Offset: gimli::UnwindOffset<usize>,
{
    let mut context = UnwindContext::new();
    let mut entries = section.entries(bases);
    while let Ok(Some(entry)) = entries.next() {
        let CieOrFde::Fde(partial) = entry else {
            continue;
        };
        let Ok(function) = partial.parse(S::cie_from_offset) else {
            continue;
        };
        let start = function.initial_address();
        let end = start.saturating_add(function.len());
        let from = wanted.partition_point(|(address, _)| *address < start);
        let here = wanted.get(from..).unwrap_or_default();
        for (address, offset) in here.iter().take_while(|(address, _)| *address < end) {
            let row = function.unwind_info_for_address(section, bases, &mut context, *address);
            if row.is_ok_and(returns_to_top) {
                found.push(*offset);
            }
        }
    }
}

/// Whether the return address is on top of the stack.
fn returns_to_top(row: &UnwindTableRow<usize>) -> bool {
    let top = CfaRule::RegisterAndOffset {
        register: X86_64::RSP,
        offset: 8,
    };
    *row.cfa() == top && row.register(X86_64::RA) == Some(RegisterRule::Offset(-8))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    /// A function of libc's that keeps no frame, and one that has to: it calls others.
    #[test]
    fn of_a_function_without_a_frame_the_file_says_so() {
        let maps = uffd::maps(std::process::id()).unwrap();
        let libc = maps.map(Result::unwrap).find(|vma| {
            vma.permissions[2] == b'x' && String::from_utf8_lossy(&vma.name).contains("libc.so")
        });
        let libc = libc.unwrap();
        let path = String::from_utf8_lossy(&libc.name).into_owned();
        let offset = |address: usize| address as u64 - libc.start + libc.offset;
        // At its first instruction any function returns to the top of the stack; in the middle of
        // one that has pushed something, none does.
        let start = offset(libc_function());
        let found = frameless(Path::new(&path), &[start]);
        assert_eq!(found, [start]);
        let all: Vec<u64> = (libc.offset..libc.offset + (libc.end - libc.start))
            .step_by(16)
            .collect();
        let found = frameless(Path::new(&path), &all);
        assert!(
            found.len() > 100 && found.len() < all.len(),
            "{}",
            found.len()
        );
    }

    /// The address of some function of libc.
    fn libc_function() -> usize {
        libc::getppid as *const () as usize
    }

    #[test]
    fn what_is_no_such_file_says_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("no.elf");
        assert!(frameless(&path, &[1]).is_empty());
        std::fs::write(&path, b"no elf").unwrap();
        assert!(frameless(&path, &[1]).is_empty());
    }
}
