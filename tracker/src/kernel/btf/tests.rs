//! Tests on hand-written BTF: every kind, every refusal, and damaged bytes.
#![allow(clippy::unwrap_used, reason = "tests")]

use proptest::prelude::*;

use super::{BtfError, FieldError, KernelBtf, TypeClass};

/// Writes BTF. Ids count from 1 in the order of the calls.
#[derive(Default)]
struct BtfWriter {
    types: Vec<u8>,
    strings: Vec<u8>,
    count: u32,
}

const INT: u32 = 1;
const PTR: u32 = 2;
const ARRAY: u32 = 3;
const STRUCT: u32 = 4;
const UNION: u32 = 5;
const ENUM: u32 = 6;
const FWD: u32 = 7;
const TYPEDEF: u32 = 8;
const VOLATILE: u32 = 9;
const CONST: u32 = 10;
const RESTRICT: u32 = 11;
const FUNC: u32 = 12;
const FUNC_PROTO: u32 = 13;
const VAR: u32 = 14;
const DATASEC: u32 = 15;
const FLOAT: u32 = 16;
const DECL_TAG: u32 = 17;
const TYPE_TAG: u32 = 18;
const ENUM64: u32 = 19;

impl BtfWriter {
    fn name(&mut self, name: &str) -> u32 {
        if self.strings.is_empty() {
            self.strings.push(0);
        }
        if name.is_empty() {
            return 0;
        }
        let at = self.strings.len();
        self.strings.extend_from_slice(name.as_bytes());
        self.strings.push(0);
        at.try_into().unwrap()
    }

    fn push(&mut self, name: &str, kind: u32, vlen: u32, size_or_type: u32, tail: &[u32]) -> u32 {
        let name = self.name(name);
        for word in [name, kind << 24 | vlen, size_or_type].iter().chain(tail) {
            self.types.extend_from_slice(&word.to_le_bytes());
        }
        self.count += 1;
        self.count
    }

    fn int(&mut self, name: &str, size: u32) -> u32 {
        self.push(name, INT, 0, size, &[size * 8])
    }

    /// Members: name, type, offset in bits.
    fn aggregate(&mut self, kind: u32, name: &str, size: u32, members: &[(&str, u32, u32)]) -> u32 {
        let mut tail = Vec::new();
        for (name, type_id, bits) in members {
            tail.extend([self.name(name), *type_id, *bits]);
        }
        self.push(name, kind, members.len().try_into().unwrap(), size, &tail)
    }

    fn proto(&mut self, returns: u32, params: &[(&str, u32)]) -> u32 {
        let mut tail = Vec::new();
        for (name, type_id) in params {
            tail.extend([self.name(name), *type_id]);
        }
        self.push(
            "",
            FUNC_PROTO,
            params.len().try_into().unwrap(),
            returns,
            &tail,
        )
    }

    fn finish(&self) -> Vec<u8> {
        let types: u32 = self.types.len().try_into().unwrap();
        let strings: u32 = self.strings.len().try_into().unwrap();
        let mut out = vec![0x9f, 0xeb, 1, 0];
        for word in [24, 0, types, types, strings] {
            out.extend_from_slice(&u32::to_le_bytes(word));
        }
        out.extend_from_slice(&self.types);
        out.extend_from_slice(&self.strings);
        out
    }
}

/// A little kernel: `struct vma` with anonymous members as recent kernels have them, and all kinds.
fn sample() -> Vec<u8> {
    let mut w = BtfWriter::default();
    let long = w.int("long unsigned int", 8);
    let int = w.int("unsigned int", 4);
    let fwd = w.push("mm", FWD, 0, 0, &[]);
    let mm_ptr = w.push("", PTR, 0, fwd, &[]);
    let flags = w.push("vm_flags_t", TYPEDEF, 0, long, &[]);
    let const_flags = w.push("", CONST, 0, flags, &[]);
    let anon_union = w.aggregate(
        UNION,
        "",
        8,
        &[("vm_flags", const_flags, 0), ("__raw", long, 0)],
    );
    let ctx = w.aggregate(STRUCT, "uffd_ctx", 8, &[("ctx", mm_ptr, 0)]);
    let inner = w.aggregate(
        STRUCT,
        "",
        16,
        &[("vm_start", long, 0), ("vm_end", long, 64)],
    );
    let const_inner = w.push("", CONST, 0, inner, &[]);
    let chars = w.push("", ARRAY, 0, 0, &[int, int, 4]);
    w.aggregate(
        STRUCT,
        "vma",
        64,
        &[
            ("", const_inner, 0),
            ("vm_mm", mm_ptr, 128),
            ("", anon_union, 192),
            ("uffd", ctx, 256),
            ("comm", chars, 320),
        ],
    );
    let vma_ptr = w.push("", PTR, 0, w.count, &[]);
    let proto = w.proto(
        int,
        &[("vma", vma_ptr), ("flags", flags), ("ctx", ctx), ("", 0)],
    );
    w.push("fault", FUNC, 1, proto, &[]);
    let one = w.name("ONE");
    let minus = w.name("MINUS");
    w.push("e", ENUM | 0x80, 2, 4, &[one, 1, minus, u32::MAX]);
    let huge = w.name("HUGE");
    w.push("e64", ENUM64, 1, 8, &[huge, 1, 0x8000_0000]);
    w.push("", VOLATILE, 0, int, &[]);
    w.push("", RESTRICT, 0, vma_ptr, &[]);
    w.push("x", VAR, 0, int, &[0]);
    w.push(".data", DATASEC, 1, 4, &[int, 0, 4]);
    w.push("double", FLOAT, 0, 8, &[]);
    w.push("tag", DECL_TAG, 0, int, &[u32::MAX]);
    w.push("rcu", TYPE_TAG, 0, fwd, &[]);
    // Bitfields: with the struct's flag, and in the old form.
    let bits = w.name("bits");
    let after = w.name("after");
    w.push(
        "flagged",
        STRUCT | 0x80,
        2,
        8,
        &[bits, int, 3 << 24, after, int, 32],
    );
    let narrow = w.push("narrow", INT, 0, 4, &[3]);
    w.aggregate(
        STRUCT,
        "old_bits",
        8,
        &[("bits", narrow, 0), ("after", int, 32)],
    );
    let callback = w.proto(0, &[("p", vma_ptr)]);
    let callback_ptr = w.push("", PTR, 0, callback, &[]);
    let constant = w.push("", CONST, 0, 0, &[]);
    let void_ptr = w.push("", PTR, 0, constant, &[]);
    let const_ptr = w.push("", CONST, 0, void_ptr, &[]);
    let proto = w.proto(
        ctx,
        &[("f", callback_ptr), ("v", const_ptr), ("vv", mm_ptr)],
    );
    w.push("with_callback", FUNC, 1, proto, &[]);
    w.push("ctx_t", TYPEDEF, 0, ctx, &[]);
    w.push("btf_trace_page_fault", TYPEDEF, 0, callback_ptr, &[]);
    // Two structs of one name that agree on one member only.
    w.aggregate(
        STRUCT,
        "twice",
        8,
        &[("same", int, 0), ("differs", int, 32)],
    );
    w.aggregate(
        STRUCT,
        "twice",
        8,
        &[("same", int, 0), ("differs", long, 0)],
    );
    w.finish()
}

fn btf() -> KernelBtf {
    KernelBtf::parse(sample()).unwrap()
}

fn offset(btf: &KernelBtf, owner: &str, path: &str) -> Result<u32, FieldError> {
    btf.field(owner, path).map(|field| field.offset)
}

#[test]
fn finds_fields_as_c_does() {
    let btf = btf();
    let at = |path| offset(&btf, "vma", path).unwrap();
    assert_eq!(at("vm_end"), 8, "through an anonymous const struct");
    assert_eq!(at("vm_mm"), 16);
    assert_eq!(at("vm_flags"), 24, "through an anonymous union");
    assert_eq!(at("__raw"), 24);
    assert_eq!(at("uffd.ctx"), 32, "a dotted path");
    assert_eq!(btf.field("vma", "comm").unwrap().size, Some(16));
    assert_eq!(btf.field("vma", "vm_mm").unwrap().size, Some(8));
    assert_eq!(offset(&btf, "ctx_t", "ctx"), Ok(0), "through a typedef");
}

#[test]
fn says_what_is_missing() {
    let btf = btf();
    let text = |owner, path| offset(&btf, owner, path).unwrap_err().to_string();
    assert_eq!(text("vmb", "x"), "this kernel's BTF has no struct vmb");
    assert_eq!(
        text("vma", "orig_pte"),
        "struct vma has no member orig_pte in this kernel's BTF"
    );
    assert_eq!(
        text("vma", "uffd.x"),
        "struct vma.uffd has no member x in this kernel's BTF"
    );
    assert_eq!(
        text("vma", "vm_mm.owner"),
        "vma.vm_mm is no struct or union in this kernel's BTF, so it has no member owner"
    );
    assert_eq!(
        text("vma", ""),
        "struct vma has no member  in this kernel's BTF"
    );
}

#[test]
fn refuses_bitfields_but_not_their_neighbours() {
    let btf = btf();
    for owner in ["flagged", "old_bits"] {
        let refused = offset(&btf, owner, "bits");
        assert_eq!(
            refused,
            Err(FieldError::Bitfield {
                path: format!("{owner}.bits")
            })
        );
        assert_eq!(offset(&btf, owner, "after"), Ok(4));
    }
}

#[test]
fn same_name_twice_is_refused_only_where_it_matters() {
    let btf = btf();
    assert_eq!(offset(&btf, "twice", "same"), Ok(0));
    assert!(matches!(
        offset(&btf, "twice", "differs"),
        Err(FieldError::Ambiguous { .. })
    ));
}

#[test]
fn renders_signatures() {
    let btf = btf();
    let fault = btf.func("fault").unwrap();
    assert!(fault.variadic);
    let params: Vec<_> = fault
        .params
        .iter()
        .map(|p| (&*p.name, &*p.type_name, p.class))
        .collect();
    assert_eq!(
        params,
        [
            ("vma", "struct vma *", TypeClass::Pointer),
            ("flags", "vm_flags_t", TypeClass::Scalar),
            ("ctx", "struct uffd_ctx", TypeClass::Aggregate),
        ]
    );
    assert_eq!(
        (&*fault.returns, fault.return_class),
        ("unsigned int", TypeClass::Scalar)
    );
    let other = btf.func("with_callback").unwrap();
    let types: Vec<_> = other.params.iter().map(|p| &*p.type_name).collect();
    assert_eq!(
        types,
        ["void (*)(struct vma *)", "const void *const", "struct mm *"]
    );
    assert_eq!(other.return_class, TypeClass::Aggregate);
    assert_eq!(btf.func("vma"), None, "a struct is no function");
}

#[test]
fn enumerators_and_typedefs() {
    let btf = btf();
    assert_eq!(btf.enum_value("ONE"), Some(1));
    assert_eq!(btf.enum_value("MINUS"), Some(-1));
    assert_eq!(btf.enum_value("HUGE"), Some(0x8000_0000_0000_0001));
    assert_eq!(btf.enum_value("ON"), None, "a prefix is not the name");
    assert!(btf.has_typedef("btf_trace_page_fault"));
    assert!(!btf.has_typedef("btf_trace_page"));
}

#[test]
fn refuses_what_is_not_little_endian_btf() {
    let parse = |bytes: &[u8]| {
        KernelBtf::parse(bytes)
            .map(|btf| btf.type_count())
            .unwrap_err()
    };
    assert_eq!(parse(b""), BtfError::TooShort(0));
    assert_eq!(
        parse(b"\x7fELF\x02\x01\x01 and so on, longer than it"),
        BtfError::BadMagic(0x457f)
    );
    let good = sample();
    let with = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        bytes
    };
    let mut swapped = good.clone();
    swapped.swap(0, 1);
    assert_eq!(parse(&swapped), BtfError::BigEndian);
    assert_eq!(parse(&with(2, 2)), BtfError::Version(2));
    assert_eq!(
        parse(&with(15, 0xff)),
        BtfError::Section {
            section: "type",
            len: good.len()
        }
    );
    let cut = &good[..good.len() - 1];
    assert_eq!(
        parse(cut),
        BtfError::Section {
            section: "string",
            len: cut.len()
        }
    );
    // The first type's kind.
    assert_eq!(
        parse(&with(24 + 7, 31)),
        BtfError::UnknownKind { id: 1, kind: 31 }
    );
    assert_eq!(
        parse(&with(24 + 7, 0)),
        BtfError::UnknownKind { id: 1, kind: 0 }
    );
}

#[test]
fn cut_type_section_is_refused() {
    let mut w = BtfWriter::default();
    w.int("int", 4);
    w.types.truncate(14);
    assert_eq!(
        KernelBtf::parse(w.finish()).err(),
        Some(BtfError::Truncated { id: 1 })
    );
}

#[test]
fn loops_end() {
    let mut w = BtfWriter::default();
    // A typedef of itself, an anonymous struct of many times itself, a pointer to itself.
    w.push("loop", TYPEDEF, 0, 1, &[]);
    let members = vec![("", 2, 0); 1000];
    w.aggregate(STRUCT, "", 8, &members);
    w.aggregate(STRUCT, "bomb", 8, &[("", 2, 0)]);
    w.push("", PTR, 0, 4, &[]);
    let many = vec![("f", 6); 5000];
    w.proto(4, &many);
    w.push("", PTR, 0, 5, &[]);
    w.push("bomb_func", FUNC, 1, 5, &[]);
    let btf = KernelBtf::parse(w.finish()).unwrap();
    assert!(offset(&btf, "loop", "x").is_err());
    assert_eq!(
        offset(&btf, "bomb", "x"),
        Err(FieldError::Malformed {
            name: "bomb".to_owned()
        })
    );
    let proto = btf.func("bomb_func").unwrap();
    assert!(proto.params.iter().all(|param| param.type_name.len() < 400));
}

/// Asks everything there is to ask.
fn interrogate(bytes: Vec<u8>) {
    let Ok(btf) = KernelBtf::parse(bytes) else {
        return;
    };
    for owner in ["vma", "flagged", "old_bits", "twice", "ctx_t", "e", ""] {
        for path in [
            "vm_end", "vm_flags", "uffd.ctx", "comm", "bits", "differs", "", ".",
        ] {
            let _ = btf.field(owner, path);
        }
    }
    for name in ["fault", "with_callback", "vma", ""] {
        let _ = btf.func(name);
    }
    let _ = btf.enum_value("HUGE");
    let _ = btf.has_typedef("btf_trace_page_fault");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn changed_bytes_never_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        keep in any::<prop::sample::Index>(),
        cut in any::<bool>(),
    ) {
        let mut bytes = sample();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if cut {
            bytes.truncate(keep.index(bytes.len() + 1));
        }
        interrogate(bytes);
    }

    #[test]
    fn random_types_never_panic(body in prop::collection::vec(any::<u8>(), 0..400)) {
        let len = u32::try_from(body.len()).unwrap();
        let mut bytes = vec![0x9f, 0xeb, 1, 0];
        for word in [24, 0, len, 0, len] {
            bytes.extend_from_slice(&u32::to_le_bytes(word));
        }
        bytes.extend_from_slice(&body);
        interrogate(bytes);
    }
}
