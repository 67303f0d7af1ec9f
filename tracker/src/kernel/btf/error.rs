//! What can be wrong with BTF, and with what is asked of it.

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Why bytes were not accepted as BTF.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BtfError {
    /// It is shorter than a header.
    #[error("this is no BTF: {0} bytes are fewer than its header has")]
    TooShort(usize),
    /// It does not start with 0xeb9f.
    #[error("this is no BTF: it starts with {0:#06x} instead of 0xeb9f")]
    BadMagic(u16),
    /// The magic number is there in the other byte order.
    #[error("this BTF is of a big-endian kernel; only little-endian ones are supported")]
    BigEndian,
    /// It is not version 1.
    #[error("BTF version {0} is not known; version 1 is supported")]
    Version(u8),
    /// A section lies outside the bytes.
    #[error("damaged BTF: its {section} section does not fit into the {len} bytes there are")]
    Section {
        /// `type` or `string`.
        section: &'static str,
        /// How many bytes there are in all.
        len: usize,
    },
    /// A kind newer than this reader. Its record's length is unknown, so nothing after it can be
    /// read.
    #[error("type {id} is of kind {kind}, which this version of tracker does not know")]
    UnknownKind {
        /// The type's id.
        id: usize,
        /// The kind's number in `include/uapi/linux/btf.h`.
        kind: u32,
    },
    /// The type section ends inside a record.
    #[error("damaged BTF: type {id} is cut off")]
    Truncated {
        /// The type's id.
        id: usize,
    },
}

/// Why BTF does not tell where a field is.
#[derive(Debug, Clone, PartialEq, Eq, Error, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FieldError {
    /// No such struct or union.
    #[error("this kernel's BTF has no struct {name}")]
    NoStruct {
        /// The name asked for.
        name: String,
    },
    /// The struct has no such member, neither directly nor in an anonymous one.
    #[error("struct {owner} has no member {member} in this kernel's BTF")]
    NoMember {
        /// The struct, or the path walked so far.
        owner: String,
        /// The member asked for.
        member: String,
    },
    /// A bitfield has no address.
    #[error("{path} is a bitfield in this kernel's BTF and cannot be read at a byte offset")]
    Bitfield {
        /// The whole path asked for.
        path: String,
    },
    /// The path goes on after something that is no struct or union.
    #[error("{path} is no struct or union in this kernel's BTF, so it has no member {member}")]
    NotAggregate {
        /// The path up to that.
        path: String,
        /// The member asked for.
        member: String,
    },
    /// Several types of that name, which disagree.
    #[error("this kernel's BTF has several types named {name}, which differ in {what}")]
    Ambiguous {
        /// The name asked for.
        name: String,
        /// What they disagree on.
        what: String,
    },
    /// The type graph loops or nests too deep.
    #[error("damaged BTF: the members of {name} could not be walked")]
    Malformed {
        /// The name asked for.
        name: String,
    },
}
