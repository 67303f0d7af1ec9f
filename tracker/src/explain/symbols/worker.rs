//! The child that names code: it reads files that somebody else made, within limits of memory and
//! time. Whatever they do to it is no harm to tracker, nor to the process, which is free by then.

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Read as _, Write};
use std::path::Path;

use blazesym::symbolize::source::{self, Elf, Source};
use blazesym::symbolize::{CodeInfo, Input, Sym, Symbolized, Symbolizer};
use rustix::process::{Resource, Rlimit, setrlimit};

use super::frameless::frameless;
use super::naming::{NamedFrame, NamingAnswer, NamingModule, NamingRequest, NamingSource};
use super::perf_map::PerfMapLine;
use crate::print::json::line;

/// Bytes that it may allocate.
const MEMORY: u64 = 1 << 30;
/// Seconds of CPU time that it may take.
const CPU: u64 = 20;
/// The longest name that is told, in bytes: a template may have any.
const NAME: usize = 4096;
/// The longest line of a perf map that is read, in bytes.
const LINE: u64 = 1 << 16;

/// Answers the request on standard input, on standard output.
///
/// # Errors
/// If the request cannot be read, or the answers cannot be written.
pub(crate) fn run() -> anyhow::Result<()> {
    limit(Resource::Data, MEMORY)?;
    limit(Resource::Cpu, CPU)?;
    limit(Resource::Core, 0)?;
    let mut request = Vec::new();
    io::stdin().lock().read_to_end(&mut request)?;
    let request: NamingRequest = serde_json::from_slice(&request)?;
    // Files are mapped, as often as twice, and take no memory of ours by that.
    let files: u64 = request
        .modules
        .iter()
        .map(bytes)
        .fold(0, u64::saturating_add);
    let own = 1 << 30;
    limit(
        Resource::As,
        files.saturating_mul(2).saturating_add(MEMORY + own),
    )?;
    let mut out = io::stdout().lock();
    for module in &request.modules {
        // Each line at once: what was named before it dies is known.
        name(module, &mut |answer| {
            out.write_all(line(answer)?.as_bytes())?;
            out.flush()
        })?;
    }
    Ok(())
}

fn limit(resource: Resource, most: u64) -> io::Result<()> {
    let most = Some(most);
    let limit = Rlimit {
        current: most,
        maximum: most,
    };
    Ok(setrlimit(resource, limit)?)
}

fn bytes(module: &NamingModule) -> u64 {
    match &module.source {
        NamingSource::Elf { path, .. } => fs::metadata(path).map_or(0, |meta| meta.len()),
        NamingSource::PerfMap { .. } | NamingSource::Vdso => 0,
    }
}

/// Names the addresses of one module.
pub(super) fn name(
    module: &NamingModule,
    tell: &mut dyn FnMut(&NamingAnswer) -> io::Result<()>,
) -> io::Result<()> {
    let number = module.number;
    tell(&NamingAnswer::Begins { module: number })?;
    let mut named = |address, frames| {
        tell(&NamingAnswer::Named {
            module: number,
            address,
            frames,
        })
    };
    match &module.source {
        NamingSource::Elf { path, lines } => {
            let mut elf = Elf::new(path);
            elf.debug_syms = *lines;
            in_source(&elf.into(), module, Input::FileOffset, &mut named)?;
            // Told apart from names: what lies in one of them leaves the other.
            if *lines {
                let addresses = frameless(path, &module.addresses);
                tell(&NamingAnswer::Frameless {
                    module: number,
                    addresses,
                })?;
            }
        }
        NamingSource::Vdso => {
            if let Some(start) = own_vdso() {
                let mut own = source::Process::new(std::process::id().into());
                own.perf_map = false;
                let at = |offset| Input::AbsAddr(start.saturating_add(offset));
                in_source(&own.into(), module, at, &mut named)?;
            }
        }
        NamingSource::PerfMap { path } => in_perf_map(path, &module.addresses, &mut named)?,
    }
    tell(&NamingAnswer::Ends { module: number })
}

type TellNamed<'a> = &'a mut dyn FnMut(u64, Vec<NamedFrame>) -> io::Result<()>;

fn in_source(
    source: &Source<'_>,
    module: &NamingModule,
    input: impl Fn(u64) -> Input<u64>,
    named: TellNamed<'_>,
) -> io::Result<()> {
    let symbolizer = Symbolizer::new();
    for address in &module.addresses {
        let told = symbolizer.symbolize_single(source, input(*address));
        if let Some(symbol) = told.ok().and_then(Symbolized::into_sym) {
            named(*address, frames(&symbol))?;
        }
    }
    Ok(())
}

/// The vdso is the same in all processes of this kernel.
fn own_vdso() -> Option<u64> {
    let maps = uffd::maps(std::process::id()).ok()?;
    let mut maps = maps.map_while(Result::ok);
    maps.find(|vma| vma.name == b"[vdso]").map(|vma| vma.start)
}

/// The frames of a symbol, after those of what was inlined into it.
pub(super) fn frames(symbol: &Sym<'_>) -> Vec<NamedFrame> {
    let frame = |name: &str, info: Option<&CodeInfo<'_>>, inlined| NamedFrame {
        function: short(name),
        line: info.and_then(code_line),
        inlined,
    };
    let inlined = symbol.inlined.iter().rev();
    let inlined = inlined.map(|f| frame(&f.name, f.code_info.as_ref(), true));
    let outer = frame(&symbol.name, symbol.code_info.as_deref(), false);
    inlined.chain([outer]).collect()
}

fn code_line(info: &CodeInfo<'_>) -> Option<(String, u32)> {
    let file = short(&info.to_path().to_string_lossy());
    info.line.map(|line| (file, line))
}

fn short(name: &str) -> String {
    let end = name.floor_char_boundary(NAME);
    name.get(..end).unwrap_or_default().to_owned()
}

/// Reads a perf map line by line, and keeps none of it.
fn in_perf_map(path: &Path, addresses: &[u64], named: TellNamed<'_>) -> io::Result<()> {
    // A file that is gone names nothing.
    let Ok(file) = File::open(path) else {
        return Ok(());
    };
    let mut file = BufReader::new(file);
    let mut text = Vec::new();
    loop {
        text.clear();
        let read = file.by_ref().take(LINE).read_until(b'\n', &mut text);
        if read.unwrap_or(0) == 0 {
            return Ok(());
        }
        let Some(told) = PerfMapLine::parse(&text) else {
            continue;
        };
        for address in addresses.iter().filter(|at| told.range.contains(at)) {
            let frame = NamedFrame {
                function: short(&String::from_utf8_lossy(told.name)),
                line: None,
                inlined: false,
            };
            named(*address, vec![frame])?;
        }
    }
}
