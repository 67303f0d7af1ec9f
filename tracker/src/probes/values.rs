//! The values that the programs need of the running kernel, from facts.

use thiserror::Error;
use tracker_ebpf::{KernelField, KernelValue, kernel};

use crate::kernel::facts::{FactSource, KernelFacts};

/// Sizes of the shared maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapSizes {
    /// VMA records, the unusable record 0 among them. A record takes 272 bytes, and 64 bytes more
    /// in each shard.
    pub vma_records: u32,
    /// Process records, the unusable record 0 among them. A record takes 320 bytes.
    pub mm_records: u32,
    /// Shards of the fault counters: a power of two.
    pub shards: u32,
}

impl MapSizes {
    /// Nothing is counted.
    pub const NONE: Self = Self {
        vma_records: 1,
        mm_records: 1,
        shards: 1,
    };

    /// Sizes for so many VMAs and processes, and a shard per CPU up to 16.
    #[must_use]
    pub fn new(vmas: u32, processes: u32, cpus: usize) -> Self {
        let shards = u32::try_from(cpus.clamp(1, 16))
            .unwrap_or(16)
            .next_power_of_two();
        Self {
            vma_records: vmas.saturating_add(1),
            mm_records: processes.saturating_add(1),
            shards,
        }
    }
}

/// Why a value is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ValueGap {
    /// No marker was seen.
    #[error("no pte marker could be made to learn its bits from")]
    NoMarker,
    /// kallsyms shows no addresses.
    #[error(
        "the address of {0} is needed and /proc/kallsyms hides it \
         (kernel.kptr_restrict, CAP_SYSLOG)"
    )]
    AddressHidden(&'static str),
    /// kallsyms does not have the symbol.
    #[error("/proc/kallsyms does not have {0}")]
    NoSymbol(&'static str),
    /// kallsyms cannot be read, or is empty.
    #[error("the address of {0} is needed and /proc/kallsyms is not there to be read")]
    NoSymbols(&'static str),
    /// BTF has no `enum pageflags`.
    #[error("the kernel's BTF does not have the flags of folios")]
    NoFolioFlags,
}

/// A value, or why it is not known: then the programs that use it do not run.
///
/// # Errors
/// If the facts do not tell.
pub fn value(value: KernelValue, facts: &KernelFacts, sizes: MapSizes) -> Result<u64, ValueGap> {
    let text = &facts.addresses;
    let address = |known: Option<u64>, name| {
        known.ok_or(if facts.addresses_hidden {
            ValueGap::AddressHidden(name)
        } else if facts.has(FactSource::Kallsyms) {
            ValueGap::NoSymbol(name)
        } else {
            ValueGap::NoSymbols(name)
        })
    };
    let start = |text: &Option<std::ops::Range<u64>>| text.as_ref().map(|text| text.start);
    let end = |text: &Option<std::ops::Range<u64>>| text.as_ref().map(|text| text.end);
    let flags = facts.folio_flags.ok_or(ValueGap::NoFolioFlags);
    Ok(match value {
        KernelValue::marker_pte => facts.tried.marker_pte.ok_or(ValueGap::NoMarker)?,
        KernelValue::uffd_bit => kernel::PAGE_UFFD_WP,
        KernelValue::fault_text_start => address(start(&text.fault_text), "__handle_mm_fault")?,
        KernelValue::fault_text_end => address(end(&text.fault_text), "__handle_mm_fault")?,
        KernelValue::zap_huge_text_start => address(start(&text.zap_huge_text), "zap_huge_pmd")?,
        KernelValue::zap_huge_text_end => address(end(&text.zap_huge_text), "zap_huge_pmd")?,
        KernelValue::split_text_start => address(start(&text.split_text), "__split_huge_pmd")?,
        KernelValue::split_text_end => address(end(&text.split_text), "__split_huge_pmd")?,
        KernelValue::page_offset_symbol => page_offset_symbol(facts)?,
        KernelValue::shard_mask => u64::from(sizes.shards - 1),
        KernelValue::vma_records => u64::from(sizes.vma_records),
        KernelValue::mm_records => u64::from(sizes.mm_records),
        KernelValue::wp_range_vma_arg => u64::from(first_is_mm("uffd_wp_range", facts)),
        KernelValue::move_takes_control => {
            u64::from(!facts.offsets[KernelField::move_new].lacks_struct())
        }
        KernelValue::faultin_takes_mm => u64::from(first_is_mm("faultin_page_range", facts)),
        KernelValue::table_address_mask => kernel::PTE_PFN_MASK,
        KernelValue::folio_swapbacked => flags?.swapbacked,
        KernelValue::folio_head => flags?.head,
        KernelValue::ioctl_unregisters => u64::from(!facts.has_function("userfaultfd_clear_vma")),
    })
}

/// A kernel without CONFIG_RANDOMIZE_MEMORY does not have the variable, which kallsyms tells unless
/// it hides addresses.
fn page_offset_symbol(facts: &KernelFacts) -> Result<u64, ValueGap> {
    const NAME: &str = "page_offset_base";
    match facts.addresses.page_offset_base {
        Some(address) => Ok(address),
        None if facts.addresses_hidden => Err(ValueGap::AddressHidden(NAME)),
        None if facts.has(FactSource::Kallsyms) => Ok(0),
        None => Err(ValueGap::NoSymbols(NAME)),
    }
}

fn first_is_mm(function: &str, facts: &KernelFacts) -> bool {
    let known = facts.functions.get(function);
    let first = known.and_then(|known| known.signature.as_ref()?.params.first());
    first.is_some_and(|param| param.type_name.contains("mm_struct"))
}
