//! From captured bytes to facts.

use std::collections::BTreeMap;
use std::fmt::Display;

use thiserror::Error;

use super::{
    FactSource, FolioFlags, FunctionFacts, KernelAddresses, KernelFacts, TracepointFacts,
    TriedFacts,
};
use crate::kernel::btf::{BtfError, KernelBtf};
use crate::kernel::capabilities::Privilege;
use crate::kernel::config::{self, ConfigError};
use crate::kernel::inputs::{KernelInput, KernelInputs};
use crate::kernel::kallsyms::{Kallsyms, KernelSymbol};
use crate::kernel::lockdown::Lockdown;
use crate::kernel::mounts::MountPoints;
use crate::kernel::offsets::FieldOffsets;
use crate::kernel::switches::KernelSwitches;
use crate::kernel::sysctl::{self, Sysctls};
use crate::kernel::tracefs::{self, AvailableEvents, FilterFunctions, KprobeBlacklist};

/// Why the bytes of a source are not understood.
#[derive(Debug, Error)]
enum SourceError {
    #[error(transparent)]
    Btf(#[from] BtfError),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("it holds no symbols")]
    NoSymbols,
    #[error("its form is not known")]
    UnknownForm,
}

impl KernelFacts {
    /// Reads the running kernel's files. What cannot be read is a fact as well: this never fails.
    #[must_use]
    pub fn gather(functions: &[&str], tracepoints: &[&str]) -> Self {
        let names = functions.iter().copied().chain(ADDRESSED).collect();
        Self::from_inputs(KernelInputs::gather(&names), functions, tracepoints)
    }

    /// The facts that captured bytes tell about those functions and tracepoints.
    #[must_use]
    pub fn from_inputs(inputs: KernelInputs, functions: &[&str], tracepoints: &[&str]) -> Self {
        let mut missing = MissingSources::default();
        let btf = missing.taken(FactSource::Btf, inputs.btf, |bytes| {
            Ok(KernelBtf::parse(bytes)?)
        });
        let kallsyms = missing.parsed(FactSource::Kallsyms, &inputs.kallsyms, |bytes| {
            let symbols = Kallsyms::parse(bytes);
            let some = (!symbols.is_empty()).then_some(symbols);
            some.ok_or(SourceError::NoSymbols)
        });
        let lists = FunctionLists {
            btf: btf.as_ref(),
            kallsyms: kallsyms.as_ref(),
            filter: missing.read(
                FactSource::FilterFunctions,
                &inputs.filter_functions,
                FilterFunctions::parse,
            ),
            blacklist: missing.read(
                FactSource::KprobeBlacklist,
                &inputs.kprobe_blacklist,
                KprobeBlacklist::parse,
            ),
            events: missing.read(FactSource::Events, &inputs.events, AvailableEvents::parse),
        };
        let lockdown = |bytes: &_| Lockdown::parse(bytes).ok_or(SourceError::UnknownForm);
        let pmu = |bytes: &_| tracefs::parse_pmu_type(bytes).ok_or(SourceError::UnknownForm);
        let status = missing
            .read(FactSource::Status, &inputs.status, |bytes| bytes)
            .unwrap_or_default();
        let value = |input: &KernelInput| input.as_deref().ok().and_then(sysctl::parse);
        let no_btf = || FieldOffsets::unavailable(missing.reason(FactSource::Btf));
        let offsets = btf.as_ref().map_or_else(no_btf, FieldOffsets::resolve);
        Self {
            preempt_rt: inputs.version.contains("PREEMPT_RT"),
            mounts: missing
                .read(FactSource::Mountinfo, &inputs.mountinfo, MountPoints::parse)
                .unwrap_or_default(),
            kprobe_pmu: missing.parsed(FactSource::KprobePmu, &inputs.kprobe_pmu, pmu),
            lockdown: missing.parsed(FactSource::Lockdown, &inputs.lockdown, lockdown),
            privilege: Privilege::parse(status, inputs.user_namespace.as_deref()),
            sysctls: Sysctls {
                unprivileged_bpf_disabled: value(&inputs.unprivileged_bpf_disabled),
                perf_event_paranoid: value(&inputs.perf_event_paranoid),
                kptr_restrict: value(&inputs.kptr_restrict),
                ftrace_enabled: value(&inputs.ftrace_enabled),
                bpf_jit_enable: value(&inputs.bpf_jit_enable),
                unprivileged_userfaultfd: value(&inputs.unprivileged_userfaultfd),
            },
            config: missing
                .parsed(FactSource::Config, &inputs.config, |bytes| {
                    Ok(config::parse(bytes)?)
                })
                .unwrap_or_default(),
            addresses_hidden: kallsyms.as_ref().is_some_and(Kallsyms::addresses_hidden),
            addresses: kallsyms.as_ref().map(addresses).unwrap_or_default(),
            functions: functions
                .iter()
                .map(|name| ((*name).to_owned(), lists.function(name)))
                .collect(),
            tracepoints: tracepoints
                .iter()
                .map(|name| ((*name).to_owned(), lists.tracepoint(name)))
                .collect(),
            offsets,
            folio_flags: btf.as_ref().and_then(folio_flags),
            switches: KernelSwitches::default(),
            tried: TriedFacts::default(),
            unavailable: missing.0,
            release: inputs.release,
            arch: inputs.arch,
        }
    }
}

/// Collects what could not be read while the facts are put together.
#[derive(Default)]
struct MissingSources(BTreeMap<FactSource, String>);

impl MissingSources {
    fn read<'a, T>(
        &mut self,
        source: FactSource,
        input: &'a KernelInput,
        parse: impl Fn(&'a [u8]) -> T,
    ) -> Option<T> {
        self.parsed(source, input, |bytes| Ok(parse(bytes)))
    }

    fn parsed<'a, T>(
        &mut self,
        source: FactSource,
        input: &'a KernelInput,
        parse: impl Fn(&'a [u8]) -> Result<T, SourceError>,
    ) -> Option<T> {
        self.taken(source, input.as_deref(), parse)
    }

    fn taken<B, T>(
        &mut self,
        source: FactSource,
        input: Result<B, impl Display>,
        parse: impl FnOnce(B) -> Result<T, SourceError>,
    ) -> Option<T> {
        let reason = match input {
            Ok(bytes) => match parse(bytes) {
                Ok(value) => return Some(value),
                Err(error) => format!("cannot use {}: {error}", source.name()),
            },
            Err(error) => error.to_string(),
        };
        self.0.insert(source, reason);
        None
    }

    fn reason(&self, source: FactSource) -> &str {
        self.0.get(&source).map_or("", String::as_str)
    }
}

/// The parsed sources that functions and tracepoints are looked up in.
struct FunctionLists<'a> {
    btf: Option<&'a KernelBtf>,
    kallsyms: Option<&'a Kallsyms<'a>>,
    filter: Option<FilterFunctions<'a>>,
    blacklist: Option<KprobeBlacklist<'a>>,
    events: Option<AvailableEvents<'a>>,
}

impl FunctionLists<'_> {
    fn function(&self, name: &str) -> FunctionFacts {
        let count = |symbols: &Kallsyms<'_>| {
            u32::try_from(symbols.exact(name).filter(|s| s.is_text()).count()).unwrap_or(u32::MAX)
        };
        let variants = self
            .kallsyms
            .into_iter()
            .flat_map(|symbols| symbols.variants(name));
        let variants = variants.filter(KernelSymbol::is_text);
        let mut variants: Vec<_> = variants.map(|symbol| symbol.suffix().to_owned()).collect();
        variants.sort_unstable();
        FunctionFacts {
            signature: self.btf.and_then(|btf| btf.func(name)),
            symbols: self.kallsyms.map(count),
            variants,
            traceable: self.filter.as_ref().map(|list| list.contains(name)),
            kprobe_blacklisted: self.blacklist.as_ref().map(|list| list.contains(name)),
        }
    }

    fn tracepoint(&self, name: &str) -> TracepointFacts {
        let event = name.split_once(':').map_or(name, |(_, event)| event);
        let typedef = format!("btf_trace_{event}");
        TracepointFacts {
            in_btf: self.btf.is_some_and(|btf| btf.has_typedef(&typedef)),
            in_tracefs: self.events.as_ref().map(|list| list.contains(name)),
        }
    }
}

/// The symbols that [`addresses`] looks up.
const ADDRESSED: [&str; 5] = [
    "__handle_mm_fault",
    "handle_mm_fault",
    "zap_huge_pmd",
    "__split_huge_pmd",
    "page_offset_base",
];

fn addresses(symbols: &Kallsyms<'_>) -> KernelAddresses {
    let text = |name| symbols.text_range(name);
    let [fault, outer_fault, zap_huge, split, page_offset_base] = ADDRESSED;
    KernelAddresses {
        fault_text: text(fault).or_else(|| text(outer_fault)),
        zap_huge_text: text(zap_huge),
        split_text: text(split),
        page_offset_base: symbols.address(page_offset_base),
    }
}

fn folio_flags(btf: &KernelBtf) -> Option<FolioFlags> {
    let flag = |name| 1_u64.checked_shl(u32::try_from(btf.enum_value(name)?).ok()?);
    Some(FolioFlags {
        swapbacked: flag("PG_swapbacked")?,
        head: flag("PG_head")?,
    })
}
