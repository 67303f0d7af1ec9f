//! Argument layouts and numbers of the userfaultfd ioctls (linux/userfaultfd.h).

use rustix::ioctl::{Opcode, opcode};

#[repr(C)]
pub(crate) struct UffdioApi {
    pub(crate) api: u64,
    pub(crate) features: u64,
    pub(crate) ioctls: u64,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct UffdioRange {
    pub(crate) start: u64,
    pub(crate) len: u64,
}

/// `uffdio_register`, `uffdio_zeropage` and `uffdio_continue`: the answer comes last.
#[repr(C)]
pub(crate) struct UffdioRangeMode {
    pub(crate) range: UffdioRange,
    pub(crate) mode: u64,
    pub(crate) answer: u64,
}

#[repr(C)]
pub(crate) struct UffdioWriteprotect {
    pub(crate) range: UffdioRange,
    pub(crate) mode: u64,
}

/// `uffdio_copy` and `uffdio_move`.
#[repr(C)]
pub(crate) struct UffdioCopy {
    pub(crate) dst: u64,
    pub(crate) src: u64,
    pub(crate) len: u64,
    pub(crate) mode: u64,
    pub(crate) done: i64,
}

const _: () = assert!(size_of::<UffdioApi>() == 24);
const _: () = assert!(size_of::<UffdioRange>() == 16);
const _: () = assert!(size_of::<UffdioRangeMode>() == 32);
const _: () = assert!(size_of::<UffdioWriteprotect>() == 24);
const _: () = assert!(size_of::<UffdioCopy>() == 40);

/// `UFFD_API`
pub(crate) const API_VERSION: u64 = 0xaa;
/// The type of all these ioctls.
const UFFDIO: u8 = 0xaa;
/// `USERFAULTFD_IOC_NEW` of `/dev/userfaultfd`.
pub(crate) const NEW: Opcode = opcode::none(UFFDIO, 0x00);
pub(crate) const REGISTER: Opcode = opcode::read_write::<UffdioRangeMode>(UFFDIO, 0x00);
pub(crate) const UNREGISTER: Opcode = opcode::read::<UffdioRange>(UFFDIO, 0x01);
pub(crate) const WAKE: Opcode = opcode::read::<UffdioRange>(UFFDIO, 0x02);
pub(crate) const COPY: Opcode = opcode::read_write::<UffdioCopy>(UFFDIO, 0x03);
pub(crate) const ZEROPAGE: Opcode = opcode::read_write::<UffdioRangeMode>(UFFDIO, 0x04);
pub(crate) const MOVE: Opcode = opcode::read_write::<UffdioCopy>(UFFDIO, 0x05);
pub(crate) const WRITEPROTECT: Opcode = opcode::read_write::<UffdioWriteprotect>(UFFDIO, 0x06);
pub(crate) const CONTINUE: Opcode = opcode::read_write::<UffdioRangeMode>(UFFDIO, 0x07);
pub(crate) const API: Opcode = opcode::read_write::<UffdioApi>(UFFDIO, 0x3f);

/// `UFFDIO_WRITEPROTECT_MODE_WP`
pub(crate) const WP: u64 = 1;
/// `UFFDIO_ZEROPAGE_MODE_DONTWAKE`
pub(crate) const DONTWAKE: u64 = 1;
/// `UFFDIO_COPY_MODE_WP`
pub(crate) const COPY_WP: u64 = 2;
/// `UFFDIO_CONTINUE_MODE_WP`
pub(crate) const CONTINUE_WP: u64 = 2;

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
