//! Argument layouts and numbers of the userfaultfd ioctls (linux/userfaultfd.h).

use rustix::ioctl::{Opcode, opcode};

#[repr(C)]
pub struct UffdioApi {
    pub api: u64,
    pub features: u64,
    pub ioctls: u64,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct UffdioRange {
    pub start: u64,
    pub len: u64,
}

/// `uffdio_register`, `uffdio_zeropage` and `uffdio_continue`: the answer comes last.
#[repr(C)]
pub struct UffdioRangeMode {
    pub range: UffdioRange,
    pub mode: u64,
    pub answer: u64,
}

#[repr(C)]
pub struct UffdioWriteprotect {
    pub range: UffdioRange,
    pub mode: u64,
}

/// `uffdio_copy` and `uffdio_move`.
#[repr(C)]
pub struct UffdioCopy {
    pub dst: u64,
    pub src: u64,
    pub len: u64,
    pub mode: u64,
    pub done: i64,
}

const _: () = assert!(size_of::<UffdioApi>() == 24);
const _: () = assert!(size_of::<UffdioRange>() == 16);
const _: () = assert!(size_of::<UffdioRangeMode>() == 32);
const _: () = assert!(size_of::<UffdioWriteprotect>() == 24);
const _: () = assert!(size_of::<UffdioCopy>() == 40);

pub const API_VERSION: u64 = 0xaa;
pub const UFFDIO: u8 = 0xaa;
pub const NEW: Opcode = opcode::none(UFFDIO, 0x00);
pub const REGISTER: Opcode = opcode::read_write::<UffdioRangeMode>(UFFDIO, 0x00);
pub const UNREGISTER: Opcode = opcode::read::<UffdioRange>(UFFDIO, 0x01);
pub const WAKE: Opcode = opcode::read::<UffdioRange>(UFFDIO, 0x02);
pub const COPY: Opcode = opcode::read_write::<UffdioCopy>(UFFDIO, 0x03);
pub const ZEROPAGE: Opcode = opcode::read_write::<UffdioRangeMode>(UFFDIO, 0x04);
pub const MOVE: Opcode = opcode::read_write::<UffdioCopy>(UFFDIO, 0x05);
pub const WRITEPROTECT: Opcode = opcode::read_write::<UffdioWriteprotect>(UFFDIO, 0x06);
pub const CONTINUE: Opcode = opcode::read_write::<UffdioRangeMode>(UFFDIO, 0x07);
pub const API: Opcode = opcode::read_write::<UffdioApi>(UFFDIO, 0x3f);

pub const WP: u64 = 1;
pub const DONTWAKE: u64 = 1;
pub const COPY_WP: u64 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers of linux/userfaultfd.h, computed there by the C preprocessor.
    #[test]
    fn opcodes_are_those_of_the_header() {
        assert_eq!(API, 0xc018_aa3f);
        assert_eq!(REGISTER, 0xc020_aa00);
        assert_eq!(UNREGISTER, 0x8010_aa01);
        assert_eq!(WAKE, 0x8010_aa02);
        assert_eq!(COPY, 0xc028_aa03);
        assert_eq!(ZEROPAGE, 0xc020_aa04);
        assert_eq!(MOVE, 0xc028_aa05);
        assert_eq!(WRITEPROTECT, 0xc018_aa06);
        assert_eq!(CONTINUE, 0xc020_aa07);
        assert_eq!(NEW, 0xaa00);
    }
}
