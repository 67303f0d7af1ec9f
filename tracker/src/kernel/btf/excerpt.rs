//! BTF with some of its types, each at its id, for who needs no more than ids.

use std::collections::BTreeMap;

use super::KernelBtf;
use super::raw::BtfKind;

const MAGIC: u16 = 0xeb9f;
const VERSION: u8 = 1;
const HEADER_LEN: u32 = 24;

impl KernelBtf {
    /// BTF in which the functions and typedefs of these names have the ids that they have here, and
    /// refer to nothing. All other types are forward declarations without a name.
    #[must_use]
    pub fn excerpt<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> Vec<u8> {
        let (mut kept, mut strings) = (BTreeMap::new(), vec![0]);
        for name in names {
            let offset = count(&strings);
            let named = self.named(name);
            let named =
                named.filter(|(_, one)| matches!(one.kind, BtfKind::Func | BtfKind::Typedef));
            kept.extend(named.map(|(id, record)| (id, (offset, record.kind))));
            strings.extend_from_slice(name.as_bytes());
            strings.push(0);
        }
        let last = kept.last_key_value().map_or(0, |(id, _)| *id);
        let types = (1..=last).flat_map(|id| {
            let (name, kind) = kept.get(&id).copied().unwrap_or((0, BtfKind::Fwd));
            // struct btf_type: name_off, info, type.
            [name, kind.number() << 24, 0]
        });
        let types: Vec<u8> = types.flat_map(u32::to_le_bytes).collect();
        let mut bytes = header(count(&types), count(&strings));
        bytes.extend(types);
        bytes.extend(strings);
        bytes
    }
}

/// `struct btf_header` of both sections, the strings after the types.
fn header(types: u32, strings: u32) -> Vec<u8> {
    let mut header = MAGIC.to_le_bytes().to_vec();
    header.extend([VERSION, 0]);
    for word in [HEADER_LEN, 0, types, types, strings] {
        header.extend(word.to_le_bytes());
    }
    header
}

/// The length, which is less than that of the whole BTF, whose offsets have 32 bits.
fn count(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}
