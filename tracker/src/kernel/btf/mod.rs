//! A reader of raw BTF (BPF Type Format), the kernel's description of its own types.
//!
//! [`KernelBtf::parse`] checks the whole type section once and builds an index by name; every
//! question after that is a lookup: [`KernelBtf::field`], [`KernelBtf::func`],
//! [`KernelBtf::enum_value`]. It only reads. Whatever the input, it returns an error and never
//! panics.
//!
//! Format: `Documentation/bpf/btf.rst` and `include/uapi/linux/btf.h`.

mod error;
mod excerpt;
mod fields;
mod func;
mod raw;
mod render;
#[cfg(test)]
mod tests;

pub use error::{BtfError, FieldError};
pub use fields::BtfField;
pub use func::{FuncParam, FuncProto, TypeClass};

use crate::kernel::name_index::NameIndex;
use raw::{BtfHeader, BtfKind, BtfRecord};

/// How deep typedefs, qualifiers and anonymous members may nest. The kernel's own limit is 32
/// (`MAX_RESOLVE_DEPTH` in kernel/bpf/btf.c).
const MAX_DEPTH: u32 = 32;

/// One parsed BTF blob, such as `/sys/kernel/btf/vmlinux`.
pub struct KernelBtf {
    bytes: Vec<u8>,
    header: BtfHeader,
    /// Offset in `bytes` of each type's record; index 0 is type id 1 (id 0 is `void`).
    records: Vec<u32>,
    /// Positions in `records`.
    names: NameIndex,
}

impl KernelBtf {
    /// Checks and indexes raw BTF.
    ///
    /// # Errors
    /// If the bytes are no little-endian BTF of version 1, or a type record is cut off or of an
    /// unknown kind.
    pub fn parse(bytes: impl Into<Vec<u8>>) -> Result<Self, BtfError> {
        let bytes = bytes.into();
        let header = BtfHeader::parse(&bytes)?;
        let records = raw::index_records(&bytes, &header)?;
        let mut btf = Self {
            bytes,
            header,
            records,
            names: NameIndex::default(),
        };
        btf.names = NameIndex::build((1..=btf.last_id()).map(|id| btf.indexed_name(id)));
        Ok(btf)
    }

    /// How many types it describes, apart from `void`.
    #[must_use]
    pub fn type_count(&self) -> usize {
        self.records.len()
    }

    /// The value of an enumerator, such as `FAULT_FLAG_WRITE`, in whichever enum has it.
    ///
    /// `None` if no enum has it, or if two give it different values.
    #[must_use]
    pub fn enum_value(&self, enumerator: &str) -> Option<i128> {
        let mut values = (1..=self.last_id())
            .filter_map(|id| self.record(id))
            .flat_map(|record| raw::enumerators(&self.bytes, record))
            .filter(|(name_off, _)| self.string_is(*name_off, enumerator))
            .map(|(_, value)| value);
        let first = values.next()?;
        values.all(|value| value == first).then_some(first)
    }

    /// Whether a typedef of that name exists. The kernel describes each tracepoint as a typedef
    /// `btf_trace_NAME`, which is how BTF tracepoints are found.
    #[must_use]
    pub fn has_typedef(&self, name: &str) -> bool {
        self.named(name)
            .any(|(_, record)| record.kind == BtfKind::Typedef)
    }

    fn last_id(&self) -> u32 {
        u32::try_from(self.records.len()).unwrap_or(u32::MAX)
    }

    /// The record of a type id; `None` for `void` and for ids that do not exist.
    fn record(&self, id: u32) -> Option<BtfRecord> {
        let index = usize::try_from(id).ok()?.checked_sub(1)?;
        let at = usize::try_from(*self.records.get(index)?).ok()?;
        BtfRecord::decode(&self.bytes, at)
    }

    /// Follows typedefs, qualifiers and type tags to what the type is.
    fn strip(&self, mut id: u32) -> Option<BtfRecord> {
        for _ in 0..MAX_DEPTH {
            let record = self.record(id)?;
            if !record.kind.is_alias() {
                return Some(record);
            }
            id = record.size_or_type;
        }
        None
    }

    /// The name under which a type is looked up; empty for kinds that nobody asks for by name.
    fn indexed_name(&self, id: u32) -> &[u8] {
        let wanted = |kind| {
            matches!(
                kind,
                BtfKind::Struct | BtfKind::Union | BtfKind::Typedef | BtfKind::Func
            )
        };
        match self.record(id) {
            Some(record) if wanted(record.kind) => self.string_bytes(record.name_off),
            _ => &[],
        }
    }

    /// All types of that name, with their ids.
    fn named(&self, name: &str) -> impl Iterator<Item = (u32, BtfRecord)> {
        self.names
            .candidates(name.as_bytes())
            .filter_map(|position| Some((position + 1, self.record(position + 1)?)))
            .filter(move |(_, record)| self.string_is(record.name_off, name))
    }

    /// The structs and unions of that name; typedefs of one only if there is none.
    fn aggregates(&self, name: &str) -> impl Iterator<Item = BtfRecord> {
        let direct = self
            .named(name)
            .map(|(_, record)| record)
            .filter(BtfRecord::is_aggregate);
        let mut direct = direct.peekable();
        let has_direct = direct.peek().is_some();
        let typedefs = self
            .named(name)
            .filter(move |(_, record)| !has_direct && record.kind == BtfKind::Typedef)
            .filter_map(|(id, _)| self.strip(id))
            .filter(BtfRecord::is_aggregate);
        direct.chain(typedefs)
    }

    /// The string at an offset of the string section; empty if there is none or it is not UTF-8.
    fn string(&self, offset: u32) -> &str {
        std::str::from_utf8(self.string_bytes(offset)).unwrap_or("")
    }

    fn string_bytes(&self, offset: u32) -> &[u8] {
        let strings = self
            .bytes
            .get(self.header.strings.clone())
            .unwrap_or_default();
        let from = usize::try_from(offset)
            .ok()
            .and_then(|at| strings.get(at..));
        let from = from.unwrap_or_default();
        let end = from
            .iter()
            .position(|byte| *byte == 0)
            .unwrap_or(from.len());
        &from[..end]
    }

    fn string_is(&self, offset: u32, name: &str) -> bool {
        // Compare from the front: a long string that differs is not walked to its end.
        let strings = self
            .bytes
            .get(self.header.strings.clone())
            .unwrap_or_default();
        let from = usize::try_from(offset)
            .ok()
            .and_then(|at| strings.get(at..));
        from.and_then(|from| from.strip_prefix(name.as_bytes()))
            .is_some_and(|rest| rest.first().is_none_or(|byte| *byte == 0))
    }
}
