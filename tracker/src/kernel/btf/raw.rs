//! The bytes of BTF: the header, the type records, and what follows each record.

use std::ops::Range;

use super::error::BtfError;

const MAGIC: u16 = 0xeb9f;
const HEADER_LEN: usize = 24;
const RECORD_LEN: usize = 12;

/// Reads a little-endian u32; `None` outside the bytes.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let end = at.checked_add(4)?;
    Some(u32::from_le_bytes(bytes.get(at..end)?.try_into().ok()?))
}

/// Where the two sections lie in the bytes.
#[derive(Debug, Clone, Default)]
pub(super) struct BtfHeader {
    pub types: Range<usize>,
    pub strings: Range<usize>,
}

impl BtfHeader {
    /// `struct btf_header`: magic, version, flags, hdr_len, type_off, type_len, str_off, str_len.
    pub fn parse(bytes: &[u8]) -> Result<Self, BtfError> {
        let Some(head) = bytes.first_chunk::<HEADER_LEN>() else {
            return Err(BtfError::TooShort(bytes.len()));
        };
        match u16::from_le_bytes([head[0], head[1]]) {
            MAGIC => {}
            other if other == MAGIC.swap_bytes() => return Err(BtfError::BigEndian),
            other => return Err(BtfError::BadMagic(other)),
        }
        if head[2] != 1 {
            return Err(BtfError::Version(head[2]));
        }
        let field = |at| u32_at(head, at).and_then(|value| usize::try_from(value).ok());
        // A longer header is a newer one; its further fields are not needed.
        let body = field(4).filter(|len| *len >= HEADER_LEN);
        let section = |section, off_at: usize| {
            let start = body.and_then(|body| body.checked_add(field(off_at)?));
            let end = start.and_then(|start| start.checked_add(field(off_at + 4)?));
            match (start, end) {
                (Some(start), Some(end)) if end <= bytes.len() => Ok(start..end),
                _ => Err(BtfError::Section {
                    section,
                    len: bytes.len(),
                }),
            }
        };
        Ok(Self {
            types: section("type", 8)?,
            strings: section("string", 16)?,
        })
    }
}

/// `BTF_KIND_*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BtfKind {
    Int,
    Ptr,
    Array,
    Struct,
    Union,
    Enum,
    Fwd,
    Typedef,
    Volatile,
    Const,
    Restrict,
    Func,
    FuncProto,
    Var,
    Datasec,
    Float,
    DeclTag,
    TypeTag,
    Enum64,
}

impl BtfKind {
    /// In the order of their numbers, from 1.
    const ALL: [Self; 19] = [
        Self::Int,
        Self::Ptr,
        Self::Array,
        Self::Struct,
        Self::Union,
        Self::Enum,
        Self::Fwd,
        Self::Typedef,
        Self::Volatile,
        Self::Const,
        Self::Restrict,
        Self::Func,
        Self::FuncProto,
        Self::Var,
        Self::Datasec,
        Self::Float,
        Self::DeclTag,
        Self::TypeTag,
        Self::Enum64,
    ];

    fn from_number(number: u32) -> Option<Self> {
        let index = usize::try_from(number).ok()?.checked_sub(1)?;
        Self::ALL.get(index).copied()
    }

    /// Its number in `include/uapi/linux/btf.h`.
    pub const fn number(self) -> u32 {
        self as u32 + 1
    }

    /// Whether it is another name, or a qualified form, of the type it refers to.
    pub fn is_alias(self) -> bool {
        matches!(
            self,
            Self::Typedef | Self::Volatile | Self::Const | Self::Restrict | Self::TypeTag
        )
    }

    /// How many bytes follow the record itself.
    fn tail_len(self, vlen: usize) -> usize {
        match self {
            Self::Int | Self::Var | Self::DeclTag => 4,
            Self::Array => 12,
            Self::Struct | Self::Union | Self::Datasec | Self::Enum64 => 12 * vlen,
            Self::Enum | Self::FuncProto => 8 * vlen,
            _ => 0,
        }
    }
}

/// `struct btf_type`, decoded.
#[derive(Debug, Clone, Copy)]
pub(super) struct BtfRecord {
    pub name_off: u32,
    pub kind: BtfKind,
    pub vlen: usize,
    /// Its meaning depends on the kind: of a struct, that member offsets carry bitfield sizes; of
    /// an enum, that values are signed; of a forward declaration, that it is a union.
    pub kind_flag: bool,
    /// The size in bytes, or the type id referred to: depends on the kind.
    pub size_or_type: u32,
    /// Where in the bytes the tail of the record begins.
    pub tail: usize,
}

impl BtfRecord {
    pub fn decode(bytes: &[u8], at: usize) -> Option<Self> {
        let info = u32_at(bytes, at.checked_add(4)?)?;
        Some(Self {
            name_off: u32_at(bytes, at)?,
            kind: BtfKind::from_number((info >> 24) & 0x1f)?,
            vlen: usize::try_from(info & 0xffff).ok()?,
            kind_flag: info >> 31 == 1,
            size_or_type: u32_at(bytes, at.checked_add(8)?)?,
            tail: at + RECORD_LEN,
        })
    }

    pub fn is_aggregate(&self) -> bool {
        matches!(self.kind, BtfKind::Struct | BtfKind::Union)
    }
}

/// The offset of every type record. Once this succeeds, each record and its tail are there.
pub(super) fn index_records(bytes: &[u8], header: &BtfHeader) -> Result<Vec<u32>, BtfError> {
    let end = header.types.end;
    let mut records = Vec::with_capacity(header.types.len() / 24);
    let mut at = header.types.start;
    while at < end {
        let id = records.len() + 1;
        let truncated = BtfError::Truncated { id };
        let section = bytes.get(..end).ok_or_else(|| truncated.clone())?;
        let Some(record) = BtfRecord::decode(section, at) else {
            return Err(match u32_at(section, at + 4) {
                Some(info) if at + RECORD_LEN <= end => BtfError::UnknownKind {
                    id,
                    kind: (info >> 24) & 0x1f,
                },
                _ => truncated,
            });
        };
        records.push(u32::try_from(at).map_err(|_| truncated.clone())?);
        at = record.tail + record.kind.tail_len(record.vlen);
        if at > end {
            return Err(truncated);
        }
    }
    Ok(records)
}

/// `struct btf_member`.
#[derive(Debug, Clone, Copy)]
pub(super) struct BtfMember {
    pub name_off: u32,
    pub type_id: u32,
    /// From the start of the struct, in bits.
    pub bit_offset: u32,
    /// 0 for what is no bitfield (or for old BTF, where the integer type tells).
    pub bit_size: u32,
}

/// The members of a struct or union; nothing for another kind.
pub(super) fn members(bytes: &[u8], record: BtfRecord) -> impl Iterator<Item = BtfMember> {
    let count = if record.is_aggregate() {
        record.vlen
    } else {
        0
    };
    (0..count).map_while(move |index| {
        let at = record.tail + 12 * index;
        let offset = u32_at(bytes, at + 8)?;
        let (bit_offset, bit_size) = if record.kind_flag {
            (offset & 0x00ff_ffff, offset >> 24)
        } else {
            (offset, 0)
        };
        let name_off = u32_at(bytes, at)?;
        Some(BtfMember {
            name_off,
            type_id: u32_at(bytes, at + 4)?,
            bit_offset,
            bit_size,
        })
    })
}

/// Name offset and type id of each parameter of a function prototype.
pub(super) fn params(bytes: &[u8], record: BtfRecord) -> impl Iterator<Item = (u32, u32)> {
    let count = if record.kind == BtfKind::FuncProto {
        record.vlen
    } else {
        0
    };
    (0..count).map_while(move |index| {
        let at = record.tail + 8 * index;
        Some((u32_at(bytes, at)?, u32_at(bytes, at + 4)?))
    })
}

/// Name offset and value of each enumerator of an enum; nothing for another kind.
pub(super) fn enumerators(bytes: &[u8], record: BtfRecord) -> impl Iterator<Item = (u32, i128)> {
    let (count, step) = match record.kind {
        BtfKind::Enum => (record.vlen, 8),
        BtfKind::Enum64 => (record.vlen, 12),
        _ => (0, 0),
    };
    (0..count).map_while(move |index| {
        let at = record.tail + step * index;
        let low = u32_at(bytes, at + 4)?;
        let value = if record.kind == BtfKind::Enum {
            // The flag says signed. Kernels before 6.0 never set it, whatever the sign.
            if record.kind_flag {
                i128::from(low.cast_signed())
            } else {
                i128::from(low)
            }
        } else {
            let wide = u64::from(u32_at(bytes, at + 8)?) << 32 | u64::from(low);
            if record.kind_flag {
                i128::from(wide.cast_signed())
            } else {
                i128::from(wide)
            }
        };
        Some((u32_at(bytes, at)?, value))
    })
}

/// Element type id and element count of an array; `None` for another kind.
pub(super) fn array(bytes: &[u8], record: BtfRecord) -> Option<(u32, u32)> {
    if record.kind != BtfKind::Array {
        return None;
    }
    Some((u32_at(bytes, record.tail)?, u32_at(bytes, record.tail + 8)?))
}

/// Bit offset and bit size of an integer's value within its bytes; `None` for another kind.
pub(super) fn int_bits(bytes: &[u8], record: BtfRecord) -> Option<(u32, u32)> {
    if record.kind != BtfKind::Int {
        return None;
    }
    let encoding = u32_at(bytes, record.tail)?;
    Some(((encoding >> 16) & 0xff, encoding & 0xff))
}
