//! Writes constants of the running kernel into the programs' instructions, as CO-RE would: the
//! compiler for BPF cannot relocate fields of Rust structs.
//!
//! The programs mark the places ([`tracker_ebpf::FIRST_FIELD`] and the tags beside it).

use object::{Object as _, ObjectSection as _, SectionKind};
use tracker_ebpf::{ABSENT, CONFIG_TAG, Config, FIRST_FIELD, OFFSET_TAG, Offsets};

/// Bytes of an instruction (Documentation/bpf/standardization/instruction-set.rst).
const INSTRUCTION: usize = 8;
/// `BPF_LD | BPF_IMM | BPF_DW`: a constant of 64 bits, in two instructions.
const LOAD_CONSTANT: u8 = 0x18;
/// `BPF_LDX | BPF_MEM`, of any size: the bits that tell, and their value.
const LOAD_MASK: u8 = 0xe7;
const LOAD: u8 = 0x61;

/// The programs with all constants filled in. A field that this kernel lacks stays marked: what
/// reads it is not loaded.
///
/// # Errors
/// If the object is no ELF file, or a field lies further in its struct than a load can reach.
pub fn patch(object: &[u8], offsets: &Offsets, config: &Config) -> Result<Vec<u8>, String> {
    let file = object::File::parse(object)
        .map_err(|error| format!("the BPF object is no ELF file: {error}"))?;
    let code: Vec<_> = file
        .sections()
        .filter(|section| section.kind() == SectionKind::Text)
        .filter_map(|section| section.file_range())
        .collect();
    let mut patched = object.to_vec();
    for (start, size) in code {
        let range = usize::try_from(start).ok().zip(usize::try_from(size).ok());
        let instructions = range
            .and_then(|(start, size)| patched.get_mut(start..start.checked_add(size)?))
            .ok_or("the BPF object ends within its code")?;
        patch_code(
            instructions,
            bytemuck::cast_slice(std::slice::from_ref(offsets)),
            bytemuck::cast_slice(std::slice::from_ref(config)),
        )?;
    }
    Ok(patched)
}

/// Fills in the marked instructions of `code`.
fn patch_code(code: &mut [u8], offsets: &[u32], config: &[u64]) -> Result<(), String> {
    let mut rest = code;
    while rest.len() >= INSTRUCTION {
        let wide = rest[0] == LOAD_CONSTANT && rest.len() >= 2 * INSTRUCTION;
        let (instruction, after) = rest.split_at_mut(if wide { 16 } else { INSTRUCTION });
        if wide {
            patch_constant(instruction, offsets, config);
        } else if instruction[0] & LOAD_MASK == LOAD {
            patch_load(instruction, offsets)?;
        }
        rest = after;
    }
    Ok(())
}

/// A constant: its halves are the last four bytes of each of the two instructions.
fn patch_constant(pair: &mut [u8], offsets: &[u32], config: &[u64]) {
    let reference = pair[1] >> 4 != 0;
    let [a, b, c, d] = [pair[4], pair[5], pair[6], pair[7]];
    let [e, f, g, h] = [pair[12], pair[13], pair[14], pair[15]];
    let marked = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
    let offset = place(marked, OFFSET_TAG, offsets).map(u64::from);
    let value = offset.or_else(|| place(marked, CONFIG_TAG, config));
    if let Some(value) = value.filter(|_| !reference) {
        let bytes = value.to_le_bytes();
        pair[4..8].copy_from_slice(&bytes[..4]);
        pair[12..16].copy_from_slice(&bytes[4..]);
    }
}

/// What the mark stands for, if it is one with this tag.
fn place<T: Copy>(marked: u64, tag: u64, values: &[T]) -> Option<T> {
    let index = usize::try_from(marked.checked_sub(tag)?).ok()?;
    values.get(index).copied()
}

/// A load: its offset is in the third and fourth byte.
fn patch_load(load: &mut [u8], offsets: &[u32]) -> Result<(), String> {
    let marked = i16::from_le_bytes([load[2], load[3]]);
    let index = usize::try_from(i32::from(marked) - i32::from(FIRST_FIELD));
    let Some(&offset) = index.ok().and_then(|index| offsets.get(index)) else {
        return Ok(());
    };
    if offset != ABSENT {
        let near = i16::try_from(offset)
            .map_err(|_| format!("a field {offset} bytes into its struct is out of reach"))?;
        load[2..4].copy_from_slice(&near.to_le_bytes());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::collections::BTreeSet;

    use bytemuck::Zeroable as _;

    use super::*;
    use crate::probes::OBJECT;

    const LDXDW: u8 = 0x79;
    const STXDW: u8 = 0x7b;

    fn instruction(opcode: u8, registers: u8, offset: i16, constant: u32) -> [u8; 8] {
        let [a, b] = offset.to_le_bytes();
        let [c, d, e, f] = constant.to_le_bytes();
        [opcode, registers, a, b, c, d, e, f]
    }

    fn constant(registers: u8, value: u64) -> Vec<u8> {
        let low = instruction(LOAD_CONSTANT, registers, 0, value as u32);
        let high = instruction(0, 0, 0, (value >> 32) as u32);
        [low, high].concat()
    }

    #[test]
    fn loads_get_their_offset() {
        let mut code = [
            instruction(LDXDW, 0x12, FIRST_FIELD + 1, 0),
            instruction(LDXDW, 0x12, 8, 0),
            instruction(STXDW, 0x12, FIRST_FIELD + 1, 0),
        ]
        .concat();
        patch_code(&mut code, &[16, 24], &[]).unwrap();
        let expected = [
            instruction(LDXDW, 0x12, 24, 0),
            instruction(LDXDW, 0x12, 8, 0),
            instruction(STXDW, 0x12, FIRST_FIELD + 1, 0),
        ];
        assert_eq!(code, expected.concat());
    }

    #[test]
    fn constants_get_their_value_and_references_stay() {
        let mut code = [
            constant(0x01, CONFIG_TAG),
            constant(0x01, OFFSET_TAG + 1),
            constant(0x11, CONFIG_TAG),
            constant(0x01, 5),
        ]
        .concat();
        patch_code(&mut code, &[16, 24], &[0xf7ff_ffff_ffff_fc00]).unwrap();
        let expected = [
            constant(0x01, 0xf7ff_ffff_ffff_fc00),
            constant(0x01, 24),
            constant(0x11, CONFIG_TAG),
            constant(0x01, 5),
        ];
        assert_eq!(code, expected.concat());
    }

    #[test]
    fn the_second_half_of_a_constant_is_no_instruction() {
        let mut code = constant(0x01, u64::from(LDXDW) << 32);
        let before = code.clone();
        patch_code(&mut code, &[16, 24], &[]).unwrap();
        assert_eq!(code, before);
    }

    #[test]
    fn a_field_out_of_reach_is_an_error_and_an_absent_one_is_not() {
        let mut code = instruction(LDXDW, 0x12, FIRST_FIELD, 0);
        assert!(patch_code(&mut code, &[40_000], &[]).is_err());
        patch_code(&mut code, &[ABSENT], &[]).unwrap();
        assert_eq!(code, instruction(LDXDW, 0x12, FIRST_FIELD, 0));
    }

    /// Each field is read by some program, and patching leaves none of the marks.
    #[test]
    fn the_programs_use_every_constant() {
        let patched = patch(OBJECT, &Offsets::zeroed(), &Config::zeroed()).unwrap();
        let fields = size_of::<Offsets>() / 4;
        let values = size_of::<Config>() / 8;
        let wanted: BTreeSet<_> = (0..fields)
            .map(|index| ("field", index))
            .chain((0..values).map(|index| ("value", index)))
            .collect();
        assert_eq!(marks(OBJECT), wanted);
        assert_eq!(marks(&patched), BTreeSet::new());
    }

    /// The marks that are left in the code of `object`.
    fn marks(object: &[u8]) -> BTreeSet<(&'static str, usize)> {
        let file = object::File::parse(object).unwrap();
        let mut found = BTreeSet::new();
        for section in file.sections().filter(|s| s.kind() == SectionKind::Text) {
            let code = section.data().unwrap();
            for pair in code.chunks(8).zip(code.chunks(8).skip(1)) {
                let (first, second) = pair;
                let offset = i16::from_le_bytes([first[2], first[3]]);
                let low = u64::from(u32::from_le_bytes(first[4..8].try_into().unwrap()));
                let high = u64::from(u32::from_le_bytes(second[4..8].try_into().unwrap()));
                if first[0] & LOAD_MASK == LOAD && offset >= FIRST_FIELD {
                    found.insert(("field", (offset - FIRST_FIELD) as usize));
                }
                if first[0] == LOAD_CONSTANT && (high << 32 | low) >> 24 == OFFSET_TAG >> 24 {
                    found.insert(("field", low as usize & 0xff_ffff));
                }
                if first[0] == LOAD_CONSTANT && (high << 32 | low) >> 24 == CONFIG_TAG >> 24 {
                    found.insert(("value", low as usize & 0xff_ffff));
                }
            }
        }
        found
    }
}
