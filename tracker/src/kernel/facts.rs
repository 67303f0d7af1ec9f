//! All facts about a kernel and about this process's privilege in one value, which can be written
//! to JSON and read back: the input of the probe ladder, and its test fixtures.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::btf::{Btf, FuncProto};
use super::capabilities::Privilege;
use super::config;
use super::inputs::{Input, Inputs};
use super::kallsyms::{Kallsyms, Symbol};
use super::lockdown::Lockdown;
use super::mounts::Mounts;
use super::offsets::Offsets;
use super::sysctl::{self, Sysctls};
use super::tracefs::{self, AvailableEvents, FilterFunctions, KprobeBlacklist};

/// What is known about a kernel, and about what this process may do on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// `uname -r`.
    pub release: String,
    /// `uname -m`.
    pub arch: String,
    /// Sources that could not be read or understood, each with the reason.
    pub unavailable: BTreeMap<Source, String>,
    /// Where the kernel's own file systems are mounted.
    pub mounts: Mounts,
    /// The perf PMU type that creates kprobes; `None` if this kernel has none.
    pub kprobe_pmu: Option<u32>,
    /// The lockdown level; `None` if it could not be read, as on kernels without lockdown.
    pub lockdown: Option<Lockdown>,
    /// What this process may do.
    pub privilege: Privilege,
    /// Settings that decide about tracing.
    pub sysctls: Sysctls,
    /// Options the kernel was built with, without `CONFIG_`; empty if not readable.
    pub config: BTreeMap<String, String>,
    /// Whether kallsyms shows 0 for every address.
    pub addresses_hidden: bool,
    /// What is known about each function asked for.
    pub functions: BTreeMap<String, FunctionFacts>,
    /// What is known about each tracepoint asked for.
    pub tracepoints: BTreeMap<String, TracepointFacts>,
    /// Offsets of the fields that the programs read.
    pub offsets: Offsets,
    /// What trial loads found, by function: filled by who tries.
    #[serde(default)]
    pub trial: BTreeMap<String, TrialOutcome>,
}

/// A file that facts come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// `/sys/kernel/btf/vmlinux`
    Btf,
    /// `/proc/kallsyms`
    Kallsyms,
    /// `/proc/self/mountinfo`
    Mountinfo,
    /// `available_filter_functions` of tracefs
    FilterFunctions,
    /// `available_events` of tracefs
    Events,
    /// `kprobes/blacklist` of debugfs
    KprobeBlacklist,
    /// `/sys/bus/event_source/devices/kprobe/type`
    KprobePmu,
    /// `lockdown` of securityfs
    Lockdown,
    /// `/proc/self/status`
    Status,
    /// `/proc/config.gz` or `/boot/config-RELEASE`
    Config,
}

/// What is known about one kernel function.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FunctionFacts {
    /// Its signature in BTF; `None` if BTF has no such function (it was inlined, or does not exist
    /// in this kernel) or could not be read ([`Source::Btf`]).
    pub signature: Option<FuncProto>,
    /// Code symbols of exactly that name in the kernel itself: usually 1. 0 with a signature means
    /// that the compiler renamed it; more than 1 that its name is ambiguous. `None` if kallsyms
    /// could not be read.
    pub symbols: Option<u32>,
    /// Suffixes of its code symbols' variants, such as `.isra.0`, `.constprop.0.cold`.
    pub variants: Vec<String>,
    /// Whether ftrace can hook its entry; `None` if the list could not be read.
    pub traceable: Option<bool>,
    /// Whether kprobes on it are refused; `None` if the list could not be read.
    pub kprobe_blacklisted: Option<bool>,
}

/// What is known about one tracepoint, written `category:event`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TracepointFacts {
    /// Whether BTF describes it, so that a BTF tracepoint program can attach. Those of single
    /// system calls never are.
    pub in_btf: bool,
    /// Whether tracefs lists it; `None` if the list could not be read.
    pub in_tracefs: Option<bool>,
}

/// What came of trying to attach to a function.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum TrialOutcome {
    /// It attached, and was detached again.
    Attached,
    /// The kernel refused.
    Refused {
        /// At which step.
        stage: TrialStage,
        /// The error number; 524 is the kernel's internal `ENOTSUPP`.
        errno: i32,
        /// What the kernel said, as far as it said anything.
        message: String,
    },
}

/// The steps of attaching a BPF program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TrialStage {
    /// Loading: the verifier, and looking up the target.
    Load,
    /// Attaching: patching the function's entry.
    Attach,
}

impl Facts {
    /// Reads the running kernel's files. What cannot be read is a fact as well: this never fails.
    #[must_use]
    pub fn gather(functions: &[&str], tracepoints: &[&str]) -> Self {
        Self::from_inputs(&Inputs::gather(), functions, tracepoints)
    }

    /// The facts that captured bytes tell about those functions and tracepoints.
    #[must_use]
    pub fn from_inputs(inputs: &Inputs, functions: &[&str], tracepoints: &[&str]) -> Self {
        let mut missing = Unavailable::default();
        let btf = missing.parsed(Source::Btf, &inputs.btf, |bytes| {
            Btf::parse(bytes).map_err(|error| error.to_string())
        });
        let kallsyms = missing.parsed(Source::Kallsyms, &inputs.kallsyms, |bytes| {
            let symbols = Kallsyms::parse(bytes);
            if symbols.is_empty() {
                Err("it holds no symbols".to_owned())
            } else {
                Ok(symbols)
            }
        });
        let lists = Lists {
            btf: btf.as_ref(),
            kallsyms: kallsyms.as_ref(),
            filter: missing.read(
                Source::FilterFunctions,
                &inputs.filter_functions,
                FilterFunctions::parse,
            ),
            blacklist: missing.read(
                Source::KprobeBlacklist,
                &inputs.kprobe_blacklist,
                KprobeBlacklist::parse,
            ),
            events: missing.read(Source::Events, &inputs.events, AvailableEvents::parse),
        };
        let form = || "it is not of the known form".to_owned();
        let lockdown = |bytes: &_| Lockdown::parse(bytes).ok_or_else(form);
        let pmu = |bytes: &_| tracefs::parse_pmu_type(bytes).ok_or_else(form);
        let status = missing
            .read(Source::Status, &inputs.status, |bytes| bytes)
            .unwrap_or_default();
        let no_btf = || Offsets::unavailable(missing.reason(Source::Btf));
        let offsets = btf.as_ref().map_or_else(no_btf, Offsets::resolve);
        Self {
            release: inputs.release.clone(),
            arch: inputs.arch.clone(),
            mounts: missing
                .read(Source::Mountinfo, &inputs.mountinfo, Mounts::parse)
                .unwrap_or_default(),
            kprobe_pmu: missing.parsed(Source::KprobePmu, &inputs.kprobe_pmu, pmu),
            lockdown: missing.parsed(Source::Lockdown, &inputs.lockdown, lockdown),
            privilege: Privilege::parse(status, inputs.user_namespace.as_deref()),
            sysctls: sysctls(inputs),
            config: missing
                .parsed(Source::Config, &inputs.config, config::parse)
                .unwrap_or_default(),
            addresses_hidden: kallsyms.as_ref().is_some_and(Kallsyms::addresses_hidden),
            functions: functions
                .iter()
                .map(|name| ((*name).to_owned(), lists.function(name)))
                .collect(),
            tracepoints: tracepoints
                .iter()
                .map(|name| ((*name).to_owned(), lists.tracepoint(name)))
                .collect(),
            offsets,
            trial: BTreeMap::new(),
            unavailable: missing.0,
        }
    }

    /// Whether a source could be read and understood.
    #[must_use]
    pub fn has(&self, source: Source) -> bool {
        !self.unavailable.contains_key(&source)
    }
}

/// Collects what could not be read while the facts are put together.
#[derive(Default)]
struct Unavailable(BTreeMap<Source, String>);

impl Unavailable {
    fn read<'a, T>(
        &mut self,
        source: Source,
        input: &'a Input,
        parse: impl Fn(&'a [u8]) -> T,
    ) -> Option<T> {
        self.parsed(source, input, |bytes| Ok(parse(bytes)))
    }

    fn parsed<'a, T>(
        &mut self,
        source: Source,
        input: &'a Input,
        parse: impl Fn(&'a [u8]) -> Result<T, String>,
    ) -> Option<T> {
        let reason = match input {
            Ok(bytes) => match parse(bytes) {
                Ok(value) => return Some(value),
                Err(reason) => reason,
            },
            Err(reason) => reason.clone(),
        };
        self.0.insert(source, reason);
        None
    }

    fn reason(&self, source: Source) -> &str {
        self.0.get(&source).map_or("", String::as_str)
    }
}

/// The parsed sources that functions and tracepoints are looked up in.
struct Lists<'a> {
    btf: Option<&'a Btf>,
    kallsyms: Option<&'a Kallsyms<'a>>,
    filter: Option<FilterFunctions<'a>>,
    blacklist: Option<KprobeBlacklist<'a>>,
    events: Option<AvailableEvents<'a>>,
}

impl Lists<'_> {
    fn function(&self, name: &str) -> FunctionFacts {
        let count = |symbols: &Kallsyms<'_>| {
            u32::try_from(symbols.exact(name).filter(|s| s.is_text()).count()).unwrap_or(u32::MAX)
        };
        let variants = self
            .kallsyms
            .into_iter()
            .flat_map(|symbols| symbols.variants(name));
        let variants = variants.filter(Symbol::is_text);
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

fn sysctls(inputs: &Inputs) -> Sysctls {
    let value = |input: &Input| input.as_deref().ok().and_then(sysctl::parse);
    Sysctls {
        unprivileged_bpf_disabled: value(&inputs.unprivileged_bpf_disabled),
        perf_event_paranoid: value(&inputs.perf_event_paranoid),
        kptr_restrict: value(&inputs.kptr_restrict),
        ftrace_enabled: value(&inputs.ftrace_enabled),
        bpf_jit_enable: value(&inputs.bpf_jit_enable),
        unprivileged_userfaultfd: value(&inputs.unprivileged_userfaultfd),
    }
}
