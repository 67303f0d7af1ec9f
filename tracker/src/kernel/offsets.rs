//! Where the fields that the programs read are in this kernel's structs, by its BTF.
//!
//! An offset that BTF does not give is never guessed: the reason is kept, and programs that read
//! the field do not run.

use std::collections::BTreeMap;
use std::ops::{Index, IndexMut};

use serde::{Deserialize, Serialize};
use thiserror::Error;
use tracker_ebpf::{FieldPresence, KernelField};

use super::btf::{FieldError, KernelBtf};

/// One offset, or why there is none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FieldOffset {
    /// Bytes from the start of the struct.
    At(u32),
    /// Why it is not known.
    Missing(FieldGap),
}

/// Why the offset of a field is not known.
#[derive(Debug, Clone, PartialEq, Eq, Error, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FieldGap {
    /// There is no BTF, for this reason.
    #[error("{0}")]
    NoBtf(String),
    /// BTF does not tell.
    #[error(transparent)]
    Btf(FieldError),
    /// A member of another size is another thing by the same name.
    #[error(
        "{path} has {} bytes in this kernel's BTF instead of {wanted}",
        .found.map_or_else(|| "no".to_owned(), |size| size.to_string())
    )]
    OtherSize {
        /// The struct and the member.
        path: String,
        /// Its size in this kernel, if its type has one.
        found: Option<u32>,
        /// The size that the programs read.
        wanted: u32,
    },
}

impl FieldOffset {
    /// The offset in bytes, if it is known.
    #[must_use]
    pub const fn get(&self) -> Option<u32> {
        match self {
            Self::At(offset) => Some(*offset),
            Self::Missing(_) => None,
        }
    }

    /// Why it is not known; `None` if it is.
    #[must_use]
    pub const fn gap(&self) -> Option<&FieldGap> {
        match self {
            Self::At(_) => None,
            Self::Missing(gap) => Some(gap),
        }
    }

    /// Whether the kernel has no such struct at all.
    #[must_use]
    pub const fn lacks_struct(&self) -> bool {
        let gap = self.gap();
        matches!(gap, Some(FieldGap::Btf(FieldError::NoStruct { .. })))
    }

    fn resolve(btf: &KernelBtf, field: KernelField) -> Self {
        let wanted = u32::try_from(field.size()).unwrap_or(u32::MAX);
        match btf.field(field.owner(), field.member()) {
            Ok(found) if found.size == Some(wanted) => Self::At(found.offset),
            Ok(found) => Self::Missing(FieldGap::OtherSize {
                path: format!("{}.{}", field.owner(), field.member()),
                found: found.size,
                wanted,
            }),
            Err(error) => Self::Missing(FieldGap::Btf(error)),
        }
    }
}

/// The offset of each [`KernelField`], or why there is none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    try_from = "BTreeMap<String, FieldOffset>",
    into = "BTreeMap<String, FieldOffset>"
)]
pub struct FieldOffsets([FieldOffset; KernelField::ALL.len()]);

impl FieldOffsets {
    /// Looks each of them up.
    #[must_use]
    pub fn resolve(btf: &KernelBtf) -> Self {
        Self(KernelField::ALL.map(|field| FieldOffset::resolve(btf, field)))
    }

    /// None of them known, all for the same reason (no BTF).
    #[must_use]
    pub fn unavailable(reason: &str) -> Self {
        let missing = || FieldOffset::Missing(FieldGap::NoBtf(reason.to_owned()));
        Self(KernelField::ALL.map(|_| missing()))
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (KernelField, &FieldOffset)> {
        KernelField::ALL.into_iter().zip(&self.0)
    }

    /// Why a program that reads this field cannot run here; `None` if it can.
    #[must_use]
    pub fn obstacle(&self, field: KernelField) -> Option<&FieldGap> {
        let offset = &self[field];
        match field.presence() {
            FieldPresence::Required => offset.gap(),
            FieldPresence::Optional => None,
            FieldPresence::WithStruct => offset.gap().filter(|_| !offset.lacks_struct()),
        }
    }
}

impl Index<KernelField> for FieldOffsets {
    type Output = FieldOffset;

    fn index(&self, field: KernelField) -> &FieldOffset {
        &self.0[field as usize]
    }
}

impl IndexMut<KernelField> for FieldOffsets {
    fn index_mut(&mut self, field: KernelField) -> &mut FieldOffset {
        &mut self.0[field as usize]
    }
}

/// A field that captured facts do not tell of.
#[derive(Debug, Error)]
#[error("there is no offset of {0}")]
pub struct OffsetLeftOut(&'static str);

impl TryFrom<BTreeMap<String, FieldOffset>> for FieldOffsets {
    type Error = OffsetLeftOut;

    fn try_from(mut named: BTreeMap<String, FieldOffset>) -> Result<Self, OffsetLeftOut> {
        let mut all = Self::unavailable("");
        for field in KernelField::ALL {
            let offset = named.remove(field.name());
            all[field] = offset.ok_or(OffsetLeftOut(field.name()))?;
        }
        Ok(all)
    }
}

impl From<FieldOffsets> for BTreeMap<String, FieldOffset> {
    fn from(offsets: FieldOffsets) -> Self {
        let names = KernelField::ALL.map(|field| field.name().to_owned());
        names.into_iter().zip(offsets.0).collect()
    }
}
