//! The signatures of kernel functions.

use serde::{Deserialize, Serialize};

use super::KernelBtf;
use super::raw::{self, BtfKind, BtfRecord};

/// What a parameter or a return value is to a tracing program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TypeClass {
    /// Nothing is returned.
    Void,
    /// An integer, a boolean or an enum.
    Scalar,
    /// Any pointer.
    Pointer,
    /// A struct or union by value, such as `pte_t`. The verifier refuses fexit on a function that
    /// returns one.
    Aggregate,
    /// Anything else: a floating point number, or what this BTF does not define.
    Other,
}

/// One parameter of a function.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FuncParam {
    /// Its name in the source; empty if it has none.
    pub name: String,
    /// Its type as C writes it.
    #[serde(rename = "type")]
    pub type_name: String,
    /// What it is to a tracing program.
    pub class: TypeClass,
}

/// The signature of a kernel function.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FuncProto {
    /// Its parameters in order: as many as there are arguments for a tracing program.
    pub params: Vec<FuncParam>,
    /// Whether it ends in `...`, which no tracing program can read.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub variadic: bool,
    /// The return type as C writes it.
    pub returns: String,
    /// What the return type is to a tracing program.
    pub return_class: TypeClass,
}

impl KernelBtf {
    /// The signature of a kernel function; `None` if BTF does not describe it, for example because
    /// every call was inlined. (A function whose symbol got a suffix such as `.isra.0` is
    /// described; only kallsyms tells that.)
    ///
    /// Of several functions with one name, the one with the lowest id counts: the kernel, too,
    /// attaches to that one (`btf_find_by_name_kind`).
    #[must_use]
    pub fn func(&self, name: &str) -> Option<FuncProto> {
        let func = self
            .named(name)
            .map(|(_, record)| record)
            .find(|r| r.kind == BtfKind::Func)?;
        let proto = self
            .record(func.size_or_type)
            .filter(|r| r.kind == BtfKind::FuncProto)?;
        Some(self.proto(proto))
    }

    fn proto(&self, proto: BtfRecord) -> FuncProto {
        let mut raw_params: Vec<_> = raw::params(&self.bytes, proto).collect();
        // "..." is a last parameter without name and type.
        let variadic = raw_params.last() == Some(&(0, 0));
        if variadic {
            raw_params.pop();
        }
        let params = raw_params.into_iter().map(|(name_off, type_id)| FuncParam {
            name: self.string(name_off).to_owned(),
            type_name: self.type_name(type_id),
            class: self.class(type_id),
        });
        FuncProto {
            params: params.collect(),
            variadic,
            returns: self.type_name(proto.size_or_type),
            return_class: self.class(proto.size_or_type),
        }
    }

    fn class(&self, id: u32) -> TypeClass {
        if id == 0 {
            return TypeClass::Void;
        }
        match self.strip(id).map(|record| record.kind) {
            Some(BtfKind::Int | BtfKind::Enum | BtfKind::Enum64) => TypeClass::Scalar,
            Some(BtfKind::Ptr) => TypeClass::Pointer,
            Some(BtfKind::Struct | BtfKind::Union) => TypeClass::Aggregate,
            _ => TypeClass::Other,
        }
    }
}
