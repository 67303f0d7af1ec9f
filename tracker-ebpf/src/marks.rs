//! How programs mark what only the running kernel knows. The agent finds the marks in the built
//! object, writes field offsets and values over them, and reads from them what a program needs.

use crate::{KernelField, KernelValue};

/// A load instruction with this offset, or up to as many more as there are [`KernelField`]s, loads
/// that field. No kernel struct that we read is as large.
pub const FIRST_FIELD: i16 = 0x7000;
/// A constant from here on, one for each [`KernelField`], stands for the offset of that field.
pub const FIELD_TAG: u64 = 0x7ac4_0ff5_e700_0000;
/// A constant from here on, one for each [`KernelValue`], stands for that value.
pub const VALUE_TAG: u64 = 0x7ac4_c0f1_9000_0000;
/// The offset of a field that this kernel does not have.
pub const ABSENT: u32 = u32::MAX;

const _: () = {
    // Each mark has one meaning.
    assert!(KernelField::ALL.len() < (i16::MAX - FIRST_FIELD) as usize);
    assert!(KernelValue::ALL.len() < u16::MAX as usize);
};
