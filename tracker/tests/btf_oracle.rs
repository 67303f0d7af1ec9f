//! Our BTF reader on a real kernel: against btf-rs over every struct and every function, and on
//! damaged bytes. The kernel is this host's, or the raw BTF file that TRACKER_TEST_BTF names.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::collections::HashMap;

use btf_rs::{Btf, Type};
use proptest::prelude::*;
use tracker::kernel::btf::{FieldError, KernelBtf};
use tracker::kernel::offsets::FieldOffsets;

/// The bytes to test on; `None` if this host has no BTF.
fn real_btf() -> Option<Vec<u8>> {
    if let Some(path) = std::env::var_os("TRACKER_TEST_BTF") {
        return Some(std::fs::read(path).unwrap());
    }
    let bytes = std::fs::read("/sys/kernel/btf/vmlinux").ok();
    if bytes.is_none() {
        eprintln!("not run: this host has no /sys/kernel/btf/vmlinux; set TRACKER_TEST_BTF");
    }
    bytes
}

/// Every type but void. That both count the same is part of the comparison.
fn all_types(oracle: &Btf, btf: &KernelBtf) -> Vec<Type> {
    let count = u32::try_from(btf.type_count()).unwrap();
    assert!(oracle.resolve_type_by_id(count + 1).is_err());
    (1..=count)
        .map(|id| oracle.resolve_type_by_id(id).unwrap())
        .collect()
}

/// Follows typedefs and qualifiers.
fn strip(oracle: &Btf, mut ty: Type) -> Type {
    while matches!(
        ty,
        Type::Typedef(_)
            | Type::Const(_)
            | Type::Volatile(_)
            | Type::Restrict(_)
            | Type::TypeTag(_)
    ) {
        let next = oracle.resolve_chained_type(ty.as_btf_type().unwrap());
        // A qualified void refers to no type.
        let Ok(next) = next else { return Type::Void };
        ty = next;
    }
    ty
}

/// What the oracle says of a member: its offset in bits, and whether it is a bitfield.
type MemberPlace = (u32, bool);

/// All members by name as C sees them, including those of anonymous structs.
fn flatten(oracle: &Btf, ty: &btf_rs::Struct, base: u32, out: &mut Vec<(String, MemberPlace)>) {
    for member in &ty.members {
        let name = oracle.resolve_name(member).unwrap();
        let bits = base + member.bit_offset();
        let inner = strip(oracle, oracle.resolve_chained_type(member).unwrap());
        match inner {
            Type::Struct(inner) | Type::Union(inner) if name.is_empty() => {
                flatten(oracle, &inner, bits, out);
            }
            _ if name.is_empty() => {}
            _ => {
                let is_bitfield = member.bitfield_size().is_some_and(|size| size > 0);
                out.push((name, (bits, is_bitfield)));
            }
        }
    }
}

#[test]
fn every_field_of_every_struct() {
    let Some(bytes) = real_btf() else { return };
    let oracle = Btf::from_bytes(&bytes).unwrap();
    let btf = KernelBtf::parse(bytes).unwrap();
    // Of each struct name, the members that each struct of that name has.
    let mut structs: HashMap<String, Vec<Vec<(String, MemberPlace)>>> = HashMap::new();
    for ty in all_types(&oracle, &btf) {
        let (Type::Struct(ty) | Type::Union(ty)) = ty else {
            continue;
        };
        let name = oracle.resolve_name(&ty).unwrap();
        if name.is_empty() {
            continue;
        }
        let mut members = Vec::new();
        flatten(&oracle, &ty, 0, &mut members);
        structs.entry(name).or_default().push(members);
    }
    let mut compared = 0;
    for (name, same_named) in &structs {
        for (member, (bits, is_bitfield)) in same_named.iter().flatten() {
            let found = btf.field(name, member).map(|field| field.offset);
            match found {
                Ok(offset) => assert_eq!(
                    (offset * 8, false),
                    (*bits, *is_bitfield),
                    "{name}.{member}"
                ),
                Err(FieldError::Bitfield { .. }) => assert!(is_bitfield, "{name}.{member}"),
                Err(FieldError::Ambiguous { .. }) => {
                    assert!(same_named.len() > 1, "{name}.{member}")
                }
                Err(error) => panic!("{name}.{member}: {error}"),
            }
            compared += 1;
        }
    }
    assert!(compared > 30_000, "only {compared} fields compared");
}

#[test]
fn every_function() {
    let Some(bytes) = real_btf() else { return };
    let oracle = Btf::from_bytes(&bytes).unwrap();
    let btf = KernelBtf::parse(bytes).unwrap();
    let mut compared = 0;
    let mut seen = std::collections::HashSet::new();
    for ty in all_types(&oracle, &btf) {
        let Type::Func(func) = ty else { continue };
        let name = oracle.resolve_name(&func).unwrap();
        if !seen.insert(name.clone()) {
            continue;
        }
        let Type::FuncProto(proto) = oracle.resolve_chained_type(&func).unwrap() else {
            panic!("{name} has no prototype");
        };
        let ours = btf.func(&name).unwrap();
        let named = proto.parameters.iter().filter(|param| !param.is_variadic());
        let expected: Vec<_> = named
            .map(|param| oracle.resolve_name(param).unwrap())
            .collect();
        let names: Vec<_> = ours.params.iter().map(|param| param.name.clone()).collect();
        assert_eq!(names, expected, "{name}");
        let variadic = proto.parameters.iter().any(|param| param.is_variadic());
        assert_eq!(ours.variadic, variadic, "{name}");
        compared += 1;
    }
    assert!(compared > 30_000, "only {compared} functions compared");
}

proptest! {
    // Few cases: each parses some 5 MB.
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn damaged_bytes_never_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        name in "[a-z_]{0,12}",
    ) {
        let Some(mut bytes) = real_btf() else { return Ok(()) };
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(btf) = KernelBtf::parse(bytes) {
            let _ = (FieldOffsets::resolve(&btf), btf.func("hugetlb_fault"), btf.func(&name));
            let _ = btf.enum_value("FAULT_FLAG_WRITE");
        }
    }
}
