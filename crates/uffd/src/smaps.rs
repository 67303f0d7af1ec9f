//! `/proc/PID/smaps` and `maps`: the VMAs of a process, one at a time.
//!
//! Only smaps tells which VMAs are registered (`VmFlags: ... uw`). Both are read as a stream and as
//! bytes: a process can have 60,000 VMAs, and a path any bytes (of a newline the kernel makes
//! `\012`).

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read, Seek as _};
use std::ops::Range;

use crate::UffdError;
use crate::error::is_gone;

/// A VMA, as smaps or maps show it (proc_pid_maps(5), proc_pid_smaps(5)).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProcVma {
    /// First address.
    pub start: u64,
    /// Address after the last.
    pub end: u64,
    /// `rwxp` or `rwxs`.
    pub permissions: [u8; 4],
    /// Offset in the file, in bytes.
    pub offset: u64,
    /// Device of the file, major and minor; 0:0 without one.
    pub device: (u32, u32),
    /// Inode of the file; 0 without one.
    pub inode: u64,
    /// Path, `[heap]`, `[anon:...]`, or nothing.
    pub name: Vec<u8>,
    /// Bytes of a page (`KernelPageSize`): more than 4096 for hugetlb. 0 from maps.
    pub page_size: u64,
    /// Its flags (`VmFlags`); none from maps.
    pub flags: VmFlags,
}

/// The flags of a VMA, of two letters each (fs/proc/task_mmu.c `show_smap_vma_flags`); unknown ones
/// are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VmFlags(Vec<[u8; 2]>);

impl VmFlags {
    /// Whether this flag is there.
    #[must_use]
    pub fn has(&self, flag: &[u8; 2]) -> bool {
        self.0.contains(flag)
    }

    /// Registered with a userfaultfd for write protection (`uw`).
    #[must_use]
    pub fn uffd_wp(&self) -> bool {
        self.has(b"uw")
    }

    /// Registered with a userfaultfd for missing pages (`um`).
    #[must_use]
    pub fn uffd_missing(&self) -> bool {
        self.has(b"um")
    }

    /// Consists of huge pages of hugetlb (`ht`).
    #[must_use]
    pub fn hugetlb(&self) -> bool {
        self.has(b"ht")
    }

    /// Shared (`sh`).
    #[must_use]
    pub fn shared(&self) -> bool {
        self.has(b"sh")
    }

    /// As smaps shows them: `rd wr mr mw me ac sd uw`.
    #[must_use]
    pub fn text(&self) -> String {
        let words: Vec<_> = self
            .0
            .iter()
            .map(|flag| String::from_utf8_lossy(flag))
            .collect();
        words.join(" ")
    }

    fn parse(text: &[u8]) -> Self {
        let words = text.split(u8::is_ascii_whitespace);
        Self(
            words
                .filter_map(|word| <[u8; 2]>::try_from(word).ok())
                .collect(),
        )
    }
}

impl ProcVma {
    /// Its addresses.
    #[must_use]
    pub fn range(&self) -> Range<u64> {
        self.start..self.end
    }

    /// Whether other processes can map the same pages (`MAP_SHARED`).
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.permissions[3] == b's'
    }

    /// Whether it can be written to at the moment.
    #[must_use]
    pub fn is_writable(&self) -> bool {
        self.permissions[1] == b'w'
    }

    /// Whether there is no file behind it. There is one behind private hugetlb, too.
    #[must_use]
    pub fn is_anonymous(&self) -> bool {
        self.inode == 0 && self.device == (0, 0)
    }
}

/// The VMAs of a process, with flags and page size. The list ends where the process ends.
///
/// # Errors
/// [`UffdError::Gone`]: there is no such process. EACCES: it may not be traced. Each VMA can be
/// one, if the file cannot be read or understood.
pub fn smaps(
    pid: u32,
) -> Result<impl Iterator<Item = Result<ProcVma, UffdError>> + use<>, UffdError> {
    open(pid, "smaps").map(|(file, path)| VmaReader::new(file, path))
}

/// The VMAs of a process, without flags and page size: for smaps the kernel walks every page table,
/// for this none. The list ends where the process ends.
///
/// # Errors
/// As [`smaps()`].
pub fn maps(
    pid: u32,
) -> Result<impl Iterator<Item = Result<ProcVma, UffdError>> + use<>, UffdError> {
    open(pid, "maps").map(|(file, path)| VmaReader::new(file, path))
}

fn open(pid: u32, name: &str) -> Result<(File, String), UffdError> {
    let path = format!("/proc/{pid}/{name}");
    let file = File::open(&path).map_err(UffdError::of_process(pid, "cannot open", &path))?;
    Ok((file, path))
}

/// The open `/proc/PID/maps` of an address space: it does not follow the process to another
/// program, and it serves on when the first thread of the process has ended.
#[derive(Debug)]
pub struct MapsFile {
    file: File,
    path: String,
}

impl MapsFile {
    /// Of the address space that a process has now.
    ///
    /// # Errors
    /// [`UffdError::Gone`]: there is no such process. EACCES: it may not be traced.
    pub fn open(pid: u32) -> Result<Self, UffdError> {
        open(pid, "maps").map(|(file, path)| Self { file, path })
    }

    /// Its VMAs now, without flags and page size; none once nobody uses the address space.
    ///
    /// # Errors
    /// If the file cannot be read. Each VMA can be one, if it cannot be understood.
    pub fn read(&self) -> Result<impl Iterator<Item = Result<ProcVma, UffdError>>, UffdError> {
        let mut file = &self.file;
        file.rewind()
            .map_err(|e| UffdError::system("cannot read", &self.path, e))?;
        Ok(VmaReader::new(file, self.path.clone()))
    }

    /// How many VMAs it has now, but no more than `most`: `vm.max_map_count` bounds them. The
    /// kernel writes lines for all of them, some 0.4 µs each.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn count(&self, most: usize) -> Result<usize, UffdError> {
        let failed = |error| UffdError::system("cannot read", &self.path, error);
        let (mut file, mut lines) = (&self.file, 0);
        file.rewind().map_err(failed)?;
        let mut buffer = vec![0; 1 << 16];
        while lines < most {
            match file.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => lines += buffer[..read].iter().filter(|&&byte| byte == b'\n').count(),
                Err(error) if is_gone(&error) => break,
                Err(error) => return Err(failed(error)),
            }
        }
        Ok(lines.min(most))
    }
}

/// The VMAs in the text of an smaps or maps file.
struct VmaReader<R> {
    reader: BufReader<R>,
    path: String,
    line: Vec<u8>,
    /// The VMA whose lines are being read.
    current: Option<ProcVma>,
    ended: bool,
}

impl<R: Read> VmaReader<R> {
    /// `path` is for messages.
    fn new(file: R, path: impl Into<String>) -> Self {
        Self {
            reader: BufReader::with_capacity(1 << 16, file),
            path: path.into(),
            line: Vec::new(),
            current: None,
            ended: false,
        }
    }

    /// Reads the next line, without its newline; false at the end.
    fn next_line(&mut self) -> Result<bool, UffdError> {
        self.line.clear();
        let read = match self.reader.read_until(b'\n', &mut self.line) {
            Err(error) if is_gone(&error) => 0,
            result => result.map_err(|e| UffdError::system("cannot read", &self.path, e))?,
        };
        if self.line.last() == Some(&b'\n') {
            self.line.pop();
        }
        Ok(read != 0)
    }

    fn next_vma(&mut self) -> Result<Option<ProcVma>, UffdError> {
        while self.next_line()? {
            match (parse_line(&self.line), &mut self.current) {
                (Some(SmapsLine::Header(vma)), current) => {
                    if let Some(complete) = current.replace(*vma) {
                        return Ok(Some(complete));
                    }
                }
                (Some(SmapsLine::PageSize(bytes)), Some(vma)) => vma.page_size = bytes,
                (Some(SmapsLine::Flags(flags)), Some(vma)) => vma.flags = flags,
                (Some(SmapsLine::Other), Some(_)) => (),
                _ => return Err(UffdError::format(&self.path, &self.line)),
            }
        }
        Ok(self.current.take())
    }
}

impl<R: Read> Iterator for VmaReader<R> {
    type Item = Result<ProcVma, UffdError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let next = self.next_vma().transpose();
        self.ended = !matches!(next, Some(Ok(_)));
        next
    }
}

/// A line of smaps.
enum SmapsLine {
    Header(Box<ProcVma>),
    PageSize(u64),
    Flags(VmFlags),
    /// A field nobody asks for.
    Other,
}

fn parse_line(line: &[u8]) -> Option<SmapsLine> {
    if let Some(vma) = parse_header(line) {
        return Some(SmapsLine::Header(Box::new(vma)));
    }
    let colon = line.iter().position(|&byte| byte == b':')?;
    let (key, value) = (&line[..colon], &line[colon + 1..]);
    match key {
        b"KernelPageSize" => parse_kb(value).map(SmapsLine::PageSize),
        b"VmFlags" => Some(SmapsLine::Flags(VmFlags::parse(value))),
        _ if key
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_') =>
        {
            Some(SmapsLine::Other)
        }
        _ => None,
    }
}

/// `start-end perms offset major:minor inode    name`, numbers but the inode in hex.
fn parse_header(line: &[u8]) -> Option<ProcVma> {
    let mut words = line.splitn(6, |&byte| byte == b' ');
    let (start, end) = split_once(words.next()?, b'-')?;
    let (start, end) = (hex(start)?, hex(end)?);
    let permissions = words.next()?.try_into().ok()?;
    let offset = hex(words.next()?)?;
    let (major, minor) = split_once(words.next()?, b':')?;
    let device = (hex(major)?.try_into().ok()?, hex(minor)?.try_into().ok()?);
    let inode = std::str::from_utf8(words.next()?).ok()?.parse().ok()?;
    let name = words.next().unwrap_or_default().trim_ascii_start().to_vec();
    let flags = VmFlags::default();
    Some(ProcVma {
        start,
        end,
        permissions,
        offset,
        device,
        inode,
        name,
        page_size: 0,
        flags,
    })
}

/// `   4 kB` in bytes.
pub(crate) fn parse_kb(value: &[u8]) -> Option<u64> {
    let number = value.trim_ascii().strip_suffix(b"kB")?.trim_ascii_end();
    std::str::from_utf8(number)
        .ok()?
        .parse::<u64>()
        .ok()?
        .checked_mul(1024)
}

fn hex(text: &[u8]) -> Option<u64> {
    u64::from_str_radix(std::str::from_utf8(text).ok()?, 16).ok()
}

fn split_once(text: &[u8], separator: u8) -> Option<(&[u8], &[u8])> {
    let at = text.iter().position(|&byte| byte == separator)?;
    Some((&text[..at], &text[at + 1..]))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use proptest::prelude::*;

    const CAPTURED: &[u8] = b"\
100000000000-100000400000 rw-p 00000000 00:00 0 
Size:               4096 kB
KernelPageSize:        4 kB
MMUPageSize:           4 kB
Pss_Dirty:             0 kB
THPeligible:           0
ProtectionKey:         0
VmFlags: rd wr mr mw me ac nh um uw 
7f2db6000000-7f2db6200000 rw-s 00010000 00:0f 2087                       /anon_hugepage (deleted)
KernelPageSize:     2048 kB
VmFlags: rd wr sh mr mw me ms de ht zz
7ffc0c5a0000-7ffc0c5c1000 rw-p 00000000 fe:01 9                          /tmp/a b\\012\xff c
KernelPageSize:        4 kB
VmFlags: rd wr
";

    fn all(text: &[u8]) -> Result<Vec<ProcVma>, UffdError> {
        VmaReader::new(text, "test").collect()
    }

    #[test]
    fn vmas_with_their_flags_sizes_and_names() {
        let vmas = all(CAPTURED).unwrap();
        assert_eq!(vmas.len(), 3);
        assert_eq!(vmas[0].range(), 0x1000_0000_0000..0x1000_0040_0000);
        assert!(vmas[0].flags.uffd_wp() && vmas[0].flags.uffd_missing());
        assert!(vmas[0].is_anonymous() && vmas[0].name.is_empty());
        assert_eq!(
            (vmas[1].page_size, vmas[1].inode, vmas[1].device),
            (2 << 20, 2087, (0, 15))
        );
        assert!(vmas[1].flags.hugetlb() && vmas[1].flags.shared() && vmas[1].flags.has(b"zz"));
        assert_eq!(vmas[2].name, b"/tmp/a b\\012\xff c");
    }

    #[test]
    fn a_line_that_is_neither_header_nor_field_is_reported() {
        let error = all(b"1000-2000 rw-p 00000000 00:00 0\nwhat is this\n").unwrap_err();
        assert!(error.to_string().contains("\"what is this\""), "{error}");
        assert!(all(b"VmFlags: rd\n").is_err(), "a field before any header");
    }

    #[test]
    fn the_end_of_a_process_is_the_end_of_the_list() {
        struct Dying(bool);
        impl std::io::Read for Dying {
            fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
                if std::mem::replace(&mut self.0, true) {
                    return Err(rustix::io::Errno::SRCH.into());
                }
                let line = b"1000-2000 rw-p 00000000 00:00 0\n";
                buffer[..line.len()].copy_from_slice(line);
                Ok(line.len())
            }
        }
        let vmas: Result<Vec<_>, UffdError> = VmaReader::new(Dying(false), "test").collect();
        assert_eq!(vmas.unwrap().len(), 1);
    }

    #[test]
    fn sixty_thousand_vmas_stream() {
        let text: Vec<u8> = (1..=60_000u64)
            .flat_map(|n| {
                format!(
                    "{:x}-{:x} rw-p 0 00:00 0\nVmFlags: uw\n",
                    n << 12,
                    (n + 1) << 12
                )
                .into_bytes()
            })
            .collect();
        let armed =
            VmaReader::new(&text[..], "test").filter(|vma| vma.as_ref().unwrap().flags.uffd_wp());
        assert_eq!(armed.count(), 60_000);
    }

    #[test]
    fn our_own() {
        let here = std::ptr::from_ref(&CAPTURED).addr() as u64;
        let mut vmas = smaps(std::process::id()).unwrap().map(Result::unwrap);
        let ours = vmas.find(|vma| vma.range().contains(&here)).unwrap();
        assert_eq!(ours.page_size, 4096);
        assert!(ours.flags.has(b"rd"));
    }

    #[test]
    fn a_process_that_never_was() {
        assert!(smaps(u32::MAX).err().unwrap().is_gone());
    }

    proptest! {
        #[test]
        fn any_bytes_parse_or_are_refused(text: Vec<u8>) {
            let _ = all(&text);
        }

        #[test]
        fn any_change_of_one_byte_parses_or_is_refused(at in 0..CAPTURED.len(), byte: u8) {
            let mut text = CAPTURED.to_vec();
            text[at] = byte;
            let _ = all(&text);
        }
    }
}
