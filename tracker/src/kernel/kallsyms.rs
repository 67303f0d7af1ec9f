//! `/proc/kallsyms`: which functions have a symbol, under which name, and where.
//!
//! A function can be in BTF and still have no symbol of its name: the compiler may have given it a
//! suffix (`.isra.0`), and then neither fentry nor a kprobe finds it by the name in the source.

use std::collections::HashSet;
use std::io::{self, BufRead};
use std::ops::Range;

use crate::kernel::name_index::NameIndex;

/// One line of `/proc/kallsyms`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KernelSymbol<'a> {
    /// Virtual address; 0 where the kernel hides it ([`Kallsyms::addresses_hidden`]).
    pub address: u64,
    /// The type letter of nm(1); lower case is local.
    pub kind: char,
    /// The name, with its suffix if it has one.
    pub name: &'a str,
    /// The module it belongs to; `None` for the kernel itself.
    pub module: Option<&'a str>,
}

impl<'a> KernelSymbol<'a> {
    /// Whether it is code.
    #[must_use]
    pub fn is_text(&self) -> bool {
        matches!(self.kind, 't' | 'T' | 'w' | 'W')
    }

    /// What the compiler appended to the name in the source: `.isra.0`, `.constprop.0.cold`; empty
    /// if nothing.
    #[must_use]
    pub fn suffix(&self) -> &'a str {
        self.name.find('.').map_or("", |dot| &self.name[dot..])
    }
}

/// A parsed `/proc/kallsyms`.
pub struct Kallsyms<'a> {
    symbols: Vec<KernelSymbol<'a>>,
    /// By the name in the source, without suffix.
    names: NameIndex,
    /// Addresses of the kernel's own code symbols, sorted.
    text: Vec<u64>,
}

impl<'a> Kallsyms<'a> {
    /// Reads the bytes of the file. Lines of another form are left out.
    #[must_use]
    pub fn parse(bytes: &'a [u8]) -> Self {
        let mut symbols = Vec::with_capacity(bytes.len() / 40);
        symbols.extend(bytes.split(|byte| *byte == b'\n').filter_map(parse_line));
        let names = NameIndex::build(symbols.iter().map(|symbol| source_name(symbol).as_bytes()));
        let own_text = symbols.iter().filter(|s| s.is_text() && s.module.is_none());
        let mut text: Vec<u64> = own_text.map(|symbol| symbol.address).collect();
        text.sort_unstable();
        text.dedup();
        Self {
            symbols,
            names,
            text,
        }
    }

    /// Whether there are none: the file was empty or is not kallsyms.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.symbols.is_empty()
    }

    /// Whether every address is 0: `kernel.kptr_restrict` is 2, or it is 1 (or
    /// `perf_event_paranoid` above 1) and this process has no `CAP_SYSLOG`
    /// (`kallsyms_show_value` in the kernel).
    #[must_use]
    pub fn addresses_hidden(&self) -> bool {
        !self.is_empty() && self.symbols.iter().all(|symbol| symbol.address == 0)
    }

    /// The kernel's own symbols of exactly that name. More than one means that the name is
    /// ambiguous: the kernel attaches to whichever it finds first, or refuses.
    pub fn exact(&self, name: &str) -> impl Iterator<Item = KernelSymbol<'a>> {
        self.family(name)
            .filter(move |symbol| symbol.name.len() == name.len())
    }

    /// The kernel's own symbols made of that function with a suffix (`.isra.0`, `.part.0`,
    /// `.cold`).
    pub fn variants(&self, name: &str) -> impl Iterator<Item = KernelSymbol<'a>> {
        self.family(name)
            .filter(move |symbol| symbol.name.len() > name.len())
    }

    /// The address of data or code of that name in the kernel itself; `None` if there is none, if
    /// it is hidden, or if several disagree.
    #[must_use]
    pub fn address(&self, name: &str) -> Option<u64> {
        let mut addresses = self.exact(name).map(|symbol| symbol.address);
        let first = addresses.next().filter(|address| *address != 0)?;
        addresses.all(|address| address == first).then_some(first)
    }

    /// The addresses of a function: from its symbol to the next code symbol after it (padding
    /// between functions counts as part of the first). Its `.cold` part lies elsewhere.
    ///
    /// `None` if it has no symbol, several, none after it, or if addresses are hidden.
    #[must_use]
    pub fn text_range(&self, name: &str) -> Option<Range<u64>> {
        self.exact(name).find(KernelSymbol::is_text)?;
        let start = self.address(name)?;
        let next = self.text.partition_point(|address| *address <= start);
        Some(start..*self.text.get(next)?)
    }

    fn family(&self, name: &str) -> impl Iterator<Item = KernelSymbol<'a>> {
        let own = self
            .candidates(name)
            .filter(|symbol| symbol.module.is_none());
        own.filter(move |symbol| source_name(symbol) == name)
    }

    fn candidates(&self, name: &str) -> impl Iterator<Item = KernelSymbol<'a>> {
        let positions = self.names.candidates(name.as_bytes());
        positions.filter_map(|at| self.symbols.get(usize::try_from(at).ok()?).copied())
    }
}

/// The lines that tell about these names in the source, in a file of which only one line at a time
/// is in memory: those of their symbols, and those of the code symbols after them, where their code
/// ends. The kernel's own symbols come in the order of their addresses (`get_symbol_pos`).
///
/// # Errors
/// If the file cannot be read.
pub fn excerpt(mut file: impl BufRead, names: &HashSet<&str>) -> io::Result<Vec<u8>> {
    let (mut kept, mut line) = (Vec::new(), Vec::new());
    // Where code begins whose end has not come yet.
    let mut open: Option<u64> = None;
    let mut shows_addresses = false;
    while file.read_until(b'\n', &mut line)? > 0 {
        if let Some(symbol) = parse_line(&line) {
            let is_own_text = symbol.is_text() && symbol.module.is_none();
            let ends = is_own_text && open.is_some_and(|start| symbol.address > start);
            let is_named = names.contains(source_name(&symbol));
            // Whether any address is shown is asked, too.
            let is_first = kept.is_empty() || (symbol.address != 0 && !shows_addresses);
            if ends {
                open = None;
            }
            if is_named && is_own_text {
                open = Some(symbol.address);
            }
            if ends || is_named || is_first {
                shows_addresses |= symbol.address != 0;
                kept.extend_from_slice(&line);
            }
        }
        line.clear();
    }
    Ok(kept)
}

fn source_name<'a>(symbol: &KernelSymbol<'a>) -> &'a str {
    symbol.name.split('.').next().unwrap_or(symbol.name)
}

/// `ffffffff81000000 t name`, and for modules a tab and `[module]`.
fn parse_line(line: &[u8]) -> Option<KernelSymbol<'_>> {
    let line = std::str::from_utf8(line).ok()?;
    let mut words = line.split_ascii_whitespace();
    let address = u64::from_str_radix(words.next()?, 16).ok()?;
    let mut kind = words.next()?.chars();
    let symbol = KernelSymbol {
        address,
        kind: kind.next()?,
        name: words.next()?,
        module: match words.next() {
            Some(module) => Some(module.strip_prefix('[')?.strip_suffix(']')?),
            None => None,
        },
    };
    (kind.next().is_none() && words.next().is_none()).then_some(symbol)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use proptest::prelude::*;

    use super::*;

    const SAMPLE: &[u8] = b"\
0000000000000000 A fixed_percpu_data
ffffffff81000000 T _stext
ffffffff81000000 T _text
ffffffff81000100 T do_wp_page
ffffffff81000140 t __pfx_wp_page_copy
ffffffff81000150 t wp_page_copy
ffffffff81000300 t free_pte
ffffffff81000400 t free_pte
ffffffff81000500 t unmap_single_vma.isra.0
ffffffff81000600 t unmap_single_vma.isra.0.cold
ffffffff81000700 t do_wp_page.cold
ffffffff82000000 D shmem_vm_ops
not a line
ffffffff81000800 tt too_long_kind
ffffffffc0000000 t kvm_init\t[kvm]
ffffffffc0000100 t do_wp_page\t[odd]
";

    #[test]
    fn exact_variants_duplicates_and_modules() {
        let symbols = Kallsyms::parse(SAMPLE);
        let variants = |name| {
            symbols
                .variants(name)
                .map(|s| s.suffix())
                .collect::<Vec<_>>()
        };
        assert_eq!(symbols.symbols.len(), 14, "two lines are none");
        assert_eq!(
            symbols.exact("do_wp_page").count(),
            1,
            "the module's is apart"
        );
        let last = symbols.symbols.last().unwrap();
        assert_eq!((last.name, last.module), ("do_wp_page", Some("odd")));
        assert_eq!(variants("do_wp_page"), [".cold"]);
        assert_eq!(symbols.exact("unmap_single_vma").count(), 0);
        assert_eq!(variants("unmap_single_vma"), [".isra.0", ".isra.0.cold"]);
        assert_eq!(symbols.exact("free_pte").count(), 2);
        assert_eq!(symbols.exact("wp_page").count(), 0);
    }

    #[test]
    fn ranges_end_at_the_next_code_symbol() {
        let symbols = Kallsyms::parse(SAMPLE);
        assert_eq!(
            symbols.text_range("do_wp_page"),
            Some(0xffff_ffff_8100_0100..0xffff_ffff_8100_0140)
        );
        assert_eq!(symbols.text_range("free_pte"), None, "ambiguous");
        assert_eq!(symbols.text_range("shmem_vm_ops"), None, "no code");
        assert_eq!(symbols.address("shmem_vm_ops"), Some(0xffff_ffff_8200_0000));
    }

    #[test]
    fn hidden_addresses_are_a_fact_and_not_an_address() {
        let text = String::from_utf8_lossy(SAMPLE).replace("ffffffff8", "000000000");
        let text = text.replace("ffffffffc0000", "0000000000000");
        let hidden: String = text
            .lines()
            .map(|line| {
                line.split_once(' ')
                    .map_or(String::new(), |(_, rest)| format!("0 {rest}\n"))
            })
            .collect();
        let symbols = Kallsyms::parse(hidden.as_bytes());
        assert!(symbols.addresses_hidden());
        assert_eq!(symbols.address("do_wp_page"), None);
        assert_eq!(symbols.text_range("do_wp_page"), None);
        assert_eq!(
            symbols.exact("do_wp_page").count(),
            1,
            "names are still known"
        );
        assert!(!Kallsyms::parse(SAMPLE).addresses_hidden());
        assert!(
            !Kallsyms::parse(b"").addresses_hidden(),
            "nothing is not hidden"
        );
    }

    #[test]
    fn an_excerpt_tells_the_same_about_its_names() {
        let all = Kallsyms::parse(SAMPLE);
        let names: HashSet<&str> = all.symbols.iter().map(source_name).collect();
        for name in names {
            let kept = excerpt(SAMPLE, &HashSet::from([name])).unwrap();
            let some = Kallsyms::parse(&kept);
            let told = |symbols: &Kallsyms<'_>| {
                let exact = symbols.exact(name).map(|symbol| symbol.address);
                let exact: Vec<_> = exact.collect();
                let suffixes = symbols.variants(name).map(|one| one.suffix().to_owned());
                let suffixes: Vec<_> = suffixes.collect();
                let place = (symbols.text_range(name), symbols.address(name));
                (exact, suffixes, place, symbols.addresses_hidden())
            };
            assert_eq!(told(&some), told(&all), "{name}");
        }
        let none = excerpt(SAMPLE, &HashSet::new()).unwrap();
        assert!(none.len() < SAMPLE.len() && !Kallsyms::parse(&none).addresses_hidden());
        let hidden = b"0 T a\n0 T b\n0 T c\n";
        let kept = excerpt(&hidden[..], &HashSet::from(["b"])).unwrap();
        assert_eq!(kept, b"0 T a\n0 T b\n");
        assert!(Kallsyms::parse(&kept).addresses_hidden());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let symbols = Kallsyms::parse(&bytes);
            let _ = (symbols.addresses_hidden(), symbols.text_range("a"), symbols.address("a"));
        }
    }
}
