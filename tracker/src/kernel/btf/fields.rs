//! Where a field lies in a struct.

use super::error::FieldError;
use super::raw::{self, BtfKind, BtfMember, BtfRecord};
use super::{KernelBtf, MAX_DEPTH};

/// How many members to look at for one field. The largest kernel structs have a few hundred; in
/// damaged bytes, anonymous structs could contain each other without end.
const MAX_MEMBERS: u32 = 100_000;

/// A field found by [`KernelBtf::field`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BtfField {
    /// Bytes from the start of the struct that was asked about.
    pub offset: u32,
    /// The size of the field in bytes; `None` if its type has none (a function, an incomplete
    /// struct).
    pub size: Option<u32>,
    pub(super) type_id: u32,
}

impl KernelBtf {
    /// Where a field lies in struct, union or typedef `owner`, and its size.
    ///
    /// `path` may go through members by name (`vm_userfaultfd_ctx.ctx`). Members of anonymous
    /// structs and unions are found as in C, as if they were `owner`'s own.
    ///
    /// # Errors
    /// If there is no such struct or member, if the path goes through a pointer or ends in a
    /// bitfield, or if types of the same name disagree ([`FieldError::Ambiguous`]).
    pub fn field(&self, owner: &str, path: &str) -> Result<BtfField, FieldError> {
        let mut answers = self
            .aggregates(owner)
            .map(|record| self.walk(owner, record, path));
        let no_struct = || FieldError::NoStruct {
            name: owner.to_owned(),
        };
        let first = answers.next().ok_or_else(no_struct)?;
        let same = |other: &Result<BtfField, FieldError>| match (&first, other) {
            (Ok(one), Ok(two)) => (one.offset, one.size) == (two.offset, two.size),
            (one, two) => one == two,
        };
        if answers.all(|answer| same(&answer)) {
            return first;
        }
        Err(FieldError::Ambiguous {
            name: owner.to_owned(),
            what: path.to_owned(),
        })
    }

    fn walk(&self, owner: &str, start: BtfRecord, path: &str) -> Result<BtfField, FieldError> {
        let mut budget = MAX_MEMBERS;
        let mut walked = owner.to_owned();
        let mut bits = 0u64;
        let mut record = start;
        let mut names = path.split('.').peekable();
        let malformed = || FieldError::Malformed {
            name: owner.to_owned(),
        };
        while let Some(name) = names.next() {
            let found = self
                .search(record, name, MAX_DEPTH, &mut budget)
                .map_err(|()| malformed())?
                .ok_or_else(|| FieldError::NoMember {
                    owner: walked.clone(),
                    member: name.to_owned(),
                })?;
            bits += found.bits;
            walked = format!("{walked}.{name}");
            if names.peek().is_none() {
                return self.finish(found.member, bits, walked, malformed);
            }
            record = self
                .strip(found.member.type_id)
                .filter(BtfRecord::is_aggregate)
                .ok_or_else(|| FieldError::NotAggregate {
                    path: walked.clone(),
                    member: names
                        .peek()
                        .map_or_else(String::new, |name| (*name).to_owned()),
                })?;
        }
        Err(malformed())
    }

    fn finish(
        &self,
        member: BtfMember,
        bits: u64,
        path: String,
        malformed: impl Fn() -> FieldError,
    ) -> Result<BtfField, FieldError> {
        if self.is_bitfield(member) || !bits.is_multiple_of(8) {
            return Err(FieldError::Bitfield { path });
        }
        let offset = u32::try_from(bits / 8).map_err(|_| malformed())?;
        Ok(BtfField {
            offset,
            size: self.size_of(member.type_id),
            type_id: member.type_id,
        })
    }

    /// Finds a member by name, going into anonymous structs and unions. `Err` when the budget or
    /// the depth is used up.
    fn search(
        &self,
        record: BtfRecord,
        name: &str,
        depth: u32,
        budget: &mut u32,
    ) -> Result<Option<FoundMember>, ()> {
        let depth = depth.checked_sub(1).ok_or(())?;
        for member in raw::members(&self.bytes, record) {
            *budget = budget.checked_sub(1).ok_or(())?;
            let bits = u64::from(member.bit_offset);
            if !self.string_bytes(member.name_off).is_empty() {
                if self.string_is(member.name_off, name) {
                    return Ok(Some(FoundMember { member, bits }));
                }
                continue;
            }
            let Some(inner) = self.strip(member.type_id).filter(BtfRecord::is_aggregate) else {
                continue;
            };
            if let Some(found) = self.search(inner, name, depth, budget)? {
                return Ok(Some(FoundMember {
                    member: found.member,
                    bits: bits + found.bits,
                }));
            }
        }
        Ok(None)
    }

    fn is_bitfield(&self, member: BtfMember) -> bool {
        if member.bit_size != 0 {
            return true;
        }
        // Without the flag of the struct, the width of a bitfield is in its integer type.
        let Some(record) = self.strip(member.type_id) else {
            return false;
        };
        raw::int_bits(&self.bytes, record).is_some_and(|(offset, bits)| {
            offset != 0 || bits != record.size_or_type.saturating_mul(8)
        })
    }

    /// Size of a type in bytes; `None` if it has none or it does not fit.
    pub(super) fn size_of(&self, id: u32) -> Option<u32> {
        let mut id = id;
        let mut count = 1u32;
        for _ in 0..MAX_DEPTH {
            let record = self.strip(id)?;
            match record.kind {
                BtfKind::Array => {
                    let (element, elements) = raw::array(&self.bytes, record)?;
                    count = count.checked_mul(elements)?;
                    id = element;
                }
                // The size of a pointer is not in BTF; every kernel that we read has 64 bits.
                BtfKind::Ptr => return count.checked_mul(8),
                BtfKind::Int
                | BtfKind::Enum
                | BtfKind::Enum64
                | BtfKind::Float
                | BtfKind::Struct
                | BtfKind::Union => return count.checked_mul(record.size_or_type),
                _ => return None,
            }
        }
        None
    }
}

/// A member that was searched for.
struct FoundMember {
    member: BtfMember,
    /// From the start of the record that was searched.
    bits: u64,
}
