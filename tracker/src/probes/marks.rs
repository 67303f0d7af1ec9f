//! The marks in the programs' instructions, where constants of the running kernel go, as CO-RE
//! would have it: the compiler for BPF cannot relocate fields of Rust structs.
//!
//! The programs set the marks ([`tracker_ebpf::FIRST_FIELD`] and the tags beside it).

use thiserror::Error;
use tracker_ebpf::{ABSENT, FIELD_TAG, FIRST_FIELD, KernelField, KernelValue, VALUE_TAG};

/// Bytes of an instruction (Documentation/bpf/standardization/instruction-set.rst).
pub const INSTRUCTION: usize = 8;
/// `BPF_LD | BPF_IMM | BPF_DW`: a constant of 64 bits, in two instructions.
pub const LOAD_CONSTANT: u8 = 0x18;
/// `BPF_LDX | BPF_MEM`, of any size: the bits that tell, and their value.
const LOAD_MASK: u8 = 0xe7;
const LOAD: u8 = 0x61;

/// What an instruction stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProgramMark {
    /// The offset of a field.
    Field(KernelField),
    /// A value.
    Value(KernelValue),
}

/// A field lies further in its struct than a load instruction reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{}.{} lies {offset} bytes into its struct, out of reach", .field.owner(), .field.member())]
pub struct OutOfReach {
    field: KernelField,
    offset: u32,
}

/// The instructions of `code`, each with where it begins; a constant of 64 bits is one.
pub fn instructions(code: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let rest = code.get(at..)?;
        let length = length(rest)?;
        let begin = at;
        at += length;
        Some((begin, &rest[..length]))
    })
}

/// Bytes of the first instruction.
fn length(code: &[u8]) -> Option<usize> {
    let wide = code.first() == Some(&LOAD_CONSTANT) && code.len() >= 2 * INSTRUCTION;
    let length = if wide { 2 * INSTRUCTION } else { INSTRUCTION };
    (code.len() >= length).then_some(length)
}

/// What an instruction is marked with.
pub fn mark(instruction: &[u8]) -> Option<ProgramMark> {
    if instruction.len() == 2 * INSTRUCTION {
        // One with a source register is a reference to a map or a function.
        return constant(instruction)
            .filter(|_| instruction[1] >> 4 == 0)
            .and_then(tagged);
    }
    if instruction.first()? & LOAD_MASK != LOAD {
        return None;
    }
    let offset = i16::from_le_bytes([instruction[2], instruction[3]]);
    let number = usize::try_from(i32::from(offset) - i32::from(FIRST_FIELD)).ok()?;
    Some(ProgramMark::Field(*KernelField::ALL.get(number)?))
}

/// The constant that two instructions load: its halves are the last four bytes of each.
pub fn constant(pair: &[u8]) -> Option<u64> {
    let low: [u8; 4] = pair.get(4..8)?.try_into().ok()?;
    let high: [u8; 4] = pair.get(12..16)?.try_into().ok()?;
    Some(u64::from(u32::from_le_bytes(high)) << 32 | u64::from(u32::from_le_bytes(low)))
}

fn tagged(constant: u64) -> Option<ProgramMark> {
    let number = |tag| usize::try_from(constant.checked_sub(tag)?).ok();
    let field = || KernelField::ALL.get(number(FIELD_TAG)?).copied();
    let value = || KernelValue::ALL.get(number(VALUE_TAG)?).copied();
    let field = field().map(ProgramMark::Field);
    field.or_else(|| value().map(ProgramMark::Value))
}

/// Writes offsets and values over the marks in `code`. A load of a field that this kernel lacks
/// stays marked: what reads it is not loaded.
///
/// # Errors
/// If a field is out of reach.
pub fn write(
    code: &mut [u8],
    offset: impl Fn(KernelField) -> u32,
    value: impl Fn(KernelValue) -> u64,
) -> Result<(), OutOfReach> {
    let mut rest = code;
    while let Some(length) = length(rest) {
        let (instruction, after) = rest.split_at_mut(length);
        match mark(instruction) {
            Some(ProgramMark::Field(field)) if length == INSTRUCTION => {
                write_load(instruction, field, offset(field))?;
            }
            Some(ProgramMark::Field(field)) => write_constant(instruction, offset(field).into()),
            Some(ProgramMark::Value(number)) => write_constant(instruction, value(number)),
            None => {}
        }
        rest = after;
    }
    Ok(())
}

/// A load has its offset in the third and fourth byte.
fn write_load(load: &mut [u8], field: KernelField, offset: u32) -> Result<(), OutOfReach> {
    if offset != ABSENT {
        let near = i16::try_from(offset).map_err(|_| OutOfReach { field, offset })?;
        load[2..4].copy_from_slice(&near.to_le_bytes());
    }
    Ok(())
}

fn write_constant(pair: &mut [u8], value: u64) {
    let bytes = value.to_le_bytes();
    pair[4..8].copy_from_slice(&bytes[..4]);
    pair[12..16].copy_from_slice(&bytes[4..]);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    const LDXDW: u8 = 0x79;
    const STXDW: u8 = 0x7b;
    const FIELD: KernelField = KernelField::ALL[1];

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

    /// With field 1 at 24, and value 0 a marker.
    fn written(code: &[u8]) -> Vec<u8> {
        let mut code = code.to_vec();
        let value = |_| 0xf7ff_ffff_ffff_fc00;
        write(&mut code, |field| 16 + 8 * field as u32, value).unwrap();
        code
    }

    #[test]
    fn loads_get_their_offset() {
        let code = [
            instruction(LDXDW, 0x12, FIRST_FIELD + 1, 0),
            instruction(LDXDW, 0x12, 8, 0),
            instruction(STXDW, 0x12, FIRST_FIELD + 1, 0),
        ];
        let expected = [
            instruction(LDXDW, 0x12, 24, 0),
            instruction(LDXDW, 0x12, 8, 0),
            instruction(STXDW, 0x12, FIRST_FIELD + 1, 0),
        ];
        assert_eq!(written(&code.concat()), expected.concat());
        assert_eq!(mark(&code[0]), Some(ProgramMark::Field(FIELD)));
    }

    #[test]
    fn constants_get_their_value_and_references_stay() {
        let code = [
            constant(0x01, VALUE_TAG),
            constant(0x01, FIELD_TAG + 1),
            constant(0x11, VALUE_TAG),
            constant(0x01, 5),
        ];
        let expected = [
            constant(0x01, 0xf7ff_ffff_ffff_fc00),
            constant(0x01, 24),
            constant(0x11, VALUE_TAG),
            constant(0x01, 5),
        ];
        assert_eq!(written(&code.concat()), expected.concat());
    }

    #[test]
    fn the_second_half_of_a_constant_is_no_instruction() {
        let code = constant(0x01, u64::from(LDXDW) << 32);
        assert_eq!(written(&code), code);
        assert_eq!(instructions(&code).count(), 1);
    }

    #[test]
    fn a_field_out_of_reach_is_an_error_and_an_absent_one_is_not() {
        let mut code = instruction(LDXDW, 0x12, FIRST_FIELD, 0);
        assert!(write(&mut code, |_| 40_000, |_| 0).is_err());
        write(&mut code, |_| ABSENT, |_| 0).unwrap();
        assert_eq!(code, instruction(LDXDW, 0x12, FIRST_FIELD, 0));
    }
}
