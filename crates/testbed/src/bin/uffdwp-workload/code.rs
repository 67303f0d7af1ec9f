//! Code in files that nobody should trust: it stores, while its file or its perf map is not what it
//! was, or lies. Whoever names it must not hang, die or take all memory.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use rustix::mm::{MapFlags, ProtFlags, mmap, mmap_anonymous};
use uffd::PAGE_SIZE;

/// Bytes that it stores to.
const AREA: usize = 1 << 20;
/// A structure of the ELF: a section header, and what a compressed section begins with.
const SECTION: usize = 64;
const SHF_COMPRESSED: u64 = 1 << 11;
const ELFCOMPRESS_ZSTD: u32 = 2;

std::arch::global_asm!(
    ".globl uffdwp_store_pages",
    ".type uffdwp_store_pages,@function",
    "uffdwp_store_pages:",
    "lea rcx, [rdi + rsi]",
    "2: mov byte ptr [rdi], dl",
    "add rdi, 4096",
    "cmp rdi, rcx",
    "jb 2b",
    "ret",
    ".size uffdwp_store_pages, . - uffdwp_store_pages",
);

unsafe extern "C" {
    fn uffdwp_store_pages(start: *mut u8, bytes: usize, value: u8);
}

type StorePages = unsafe extern "C" fn(*mut u8, usize, u8);

#[derive(clap::Args)]
pub struct CodeArguments {
    /// What is wrong with it
    kind: CodeKind,
    /// Directory for files
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    dir: PathBuf,
}

#[derive(Clone, Copy, ValueEnum)]
enum CodeKind {
    /// Its file loses its end, which has names and debug information, and gets it back
    CutOff,
    /// A section of its file says that it unpacks to 16 TiB
    Lies,
    /// Its perf map is a file and a pipe by turns
    PerfMap,
}

/// Stores until it is killed.
pub fn run(arguments: &CodeArguments) -> Result<()> {
    let store = match arguments.kind {
        CodeKind::PerfMap => swapped_perf_map()?,
        CodeKind::CutOff => {
            let path = arguments.dir.join("cut-off");
            let all = fs::read("/proc/self/exe")?;
            fs::write(&path, &all)?;
            let store = from_file(&path)?;
            let file = OpenOptions::new().write(true).open(&path)?;
            thread::spawn(move || cut(&file, &all));
            store
        }
        CodeKind::Lies => {
            let path = arguments.dir.join("lies");
            let mut all = fs::read("/proc/self/exe")?;
            lie(&mut all).context("no debug information to lie about")?;
            fs::write(&path, &all)?;
            from_file(&path)?
        }
    };
    // SAFETY: a new mapping, where the kernel likes it.
    let area = unsafe {
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        mmap_anonymous(std::ptr::null_mut(), AREA, protection, MapFlags::PRIVATE)?
    };
    println!("ready");
    for value in (0..=u8::MAX).cycle() {
        // SAFETY: the code is that of `uffdwp_store_pages`, and the area is ours.
        unsafe { store(area.cast(), AREA, value) };
        thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

/// Maps the function out of a copy of this program.
fn from_file(path: &Path) -> Result<StorePages> {
    let address = uffdwp_store_pages as StorePages as usize as u64;
    let maps = uffd::maps(std::process::id())?;
    let here = maps.map_while(std::result::Result::ok);
    let vma = { here }.find(|vma| (vma.start..vma.end).contains(&address));
    let vma = vma.context("our own code is not mapped")?;
    let offset = vma.offset + (address - vma.start);
    let file = File::open(path)?;
    let within = offset % PAGE_SIZE;
    // SAFETY: a new mapping, where the kernel likes it.
    let code = unsafe {
        mmap(
            std::ptr::null_mut(),
            2 * PAGE_SIZE as usize,
            ProtFlags::READ | ProtFlags::EXEC,
            MapFlags::PRIVATE,
            file.as_fd(),
            offset - within,
        )?
    };
    let address = code as usize + within as usize;
    // SAFETY: the same bytes as at `uffdwp_store_pages`, which depend on no address.
    Ok(unsafe { std::mem::transmute::<usize, StorePages>(address) })
}

/// Takes the last part of a file away and puts it back, without end.
fn cut(file: &File, all: &[u8]) {
    // Sections come after what is mapped.
    let (keep, end) = all.split_at(all.len() / 2);
    loop {
        thread::sleep(Duration::from_millis(1));
        let cut = file.set_len(keep.len() as u64);
        thread::sleep(Duration::from_millis(1));
        let back = file.write_all_at(end, keep.len() as u64);
        if cut.and(back).is_err() {
            return;
        }
    }
}

/// Makes the debug information say that it is compressed, and of what size.
fn lie(elf: &mut [u8]) -> Option<()> {
    let at = |elf: &[u8], from: usize| Some(u64::from_le_bytes(*elf.get(from..)?.first_chunk()?));
    let two = |elf: &[u8], from: usize| Some(u16::from_le_bytes(*elf.get(from..)?.first_chunk()?));
    let table = at(elf, 0x28)? as usize;
    let header = |number: u16| table + usize::from(number) * SECTION;
    let names = at(elf, header(two(elf, 0x3e)?) + 24)? as usize;
    let found = (0..two(elf, 0x3c)?).map(header).find(|header| {
        let name = at(elf, *header).map(|word| names + (word as u32) as usize);
        name.and_then(|name| elf.get(name..))
            .is_some_and(|name| name.starts_with(b".debug_info\0"))
    })?;
    let flags = at(elf, found + 8)? | SHF_COMPRESSED;
    let contents = at(elf, found + 24)? as usize;
    elf.get_mut(found + 8..)?
        .first_chunk_mut()
        .map(|place| *place = flags.to_le_bytes())?;
    let head = [
        u64::from(ELFCOMPRESS_ZSTD).to_le_bytes(),
        (1_u64 << 44).to_le_bytes(),
        1_u64.to_le_bytes(),
    ];
    elf.get_mut(contents..contents + 24)?
        .copy_from_slice(head.as_flattened());
    Some(())
}

/// Code in anonymous memory, with a perf map that is a pipe half of the time.
fn swapped_perf_map() -> Result<StorePages> {
    // SAFETY: a new mapping, where the kernel likes it.
    let code = unsafe {
        let all = ProtFlags::READ | ProtFlags::WRITE | ProtFlags::EXEC;
        mmap_anonymous(std::ptr::null_mut(), 4096, all, MapFlags::PRIVATE)?
    };
    let from = uffdwp_store_pages as StorePages as usize as *const u8;
    // SAFETY: the function is shorter than 64 bytes, and code follows it; the mapping is a page.
    unsafe { std::ptr::copy_nonoverlapping(from, code.cast(), 64) };
    let pid = std::process::id();
    let map = PathBuf::from(format!("/tmp/perf-{pid}.map"));
    let pipe = PathBuf::from(format!("/tmp/perf-{pid}.pipe"));
    writeln!(File::create(&map)?, "{:x} 40 made_up_store", code as usize)?;
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0)?;
    thread::spawn(move || {
        let here = rustix::fs::CWD;
        let exchange = rustix::fs::RenameFlags::EXCHANGE;
        while rustix::fs::renameat_with(here, &map, here, &pipe, exchange).is_ok() {
            thread::sleep(Duration::from_micros(50));
        }
    });
    // SAFETY: the same bytes as at `uffdwp_store_pages`, which depend on no address.
    Ok(unsafe { std::mem::transmute::<usize, StorePages>(code as usize) })
}
