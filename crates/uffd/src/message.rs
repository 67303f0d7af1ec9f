//! Messages that a userfaultfd queues for its handler (`struct uffd_msg` of linux/userfaultfd.h).

/// Bytes of a message.
pub(crate) const MESSAGE_BYTES: usize = 32;

/// A message to the handler of a userfaultfd (userfaultfd(2), "Reading from the userfaultfd
/// object").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UffdMessage {
    /// A thread waits for a page.
    Fault {
        /// Address of the access, rounded down to its page unless `EXACT_ADDRESS` was asked for.
        address: u64,
        /// The page is armed, and was written to (`UFFD_PAGEFAULT_FLAG_WP`).
        write_protect: bool,
        /// The access is a write (`UFFD_PAGEFAULT_FLAG_WRITE`).
        write: bool,
    },
    /// A child was forked, and has a userfaultfd of its own.
    Fork {
        /// That one, which the reader of the message owns now: see
        /// [`Userfaultfd::from_fork`](crate::Userfaultfd::from_fork).
        fd: i32,
    },
    /// A range was moved by mremap(2).
    Remap {
        /// Where it was.
        from: u64,
        /// Where it is.
        to: u64,
        /// Its length in bytes.
        length: u64,
    },
    /// Pages were removed (`MADV_DONTNEED`, `MADV_REMOVE`) or unmapped.
    Removed {
        /// First address.
        start: u64,
        /// Address after the last.
        end: u64,
        /// Unmapped, not only emptied.
        unmapped: bool,
    },
    /// An event that this crate does not know.
    Unknown {
        /// Its number.
        event: u8,
    },
}

impl UffdMessage {
    /// From the bytes of the kernel.
    pub(crate) fn parse(bytes: &[u8; MESSAGE_BYTES]) -> Self {
        // The arguments of every event are words of 64 bits from byte 8 on, in native order.
        let [first, second, third] = [8, 16, 24].map(|at| word(bytes, at));
        match bytes[0] {
            0x12 => Self::Fault {
                address: second,
                write: first & 1 != 0,
                write_protect: first & 2 != 0,
            },
            0x13 => Self::Fork {
                fd: first as u32 as i32,
            },
            0x14 => Self::Remap {
                from: first,
                to: second,
                length: third,
            },
            0x15 => Self::Removed {
                start: first,
                end: second,
                unmapped: false,
            },
            0x16 => Self::Removed {
                start: first,
                end: second,
                unmapped: true,
            },
            event => Self::Unknown { event },
        }
    }
}

fn word(bytes: &[u8; MESSAGE_BYTES], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_ne_bytes(word)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn message(event: u8, words: [u64; 3]) -> [u8; MESSAGE_BYTES] {
        let mut bytes = [0; MESSAGE_BYTES];
        bytes[0] = event;
        for (at, word) in [8, 16, 24].into_iter().zip(words) {
            bytes[at..at + 8].copy_from_slice(&word.to_ne_bytes());
        }
        bytes
    }

    #[test]
    fn a_write_protect_fault() {
        assert_eq!(
            UffdMessage::parse(&message(0x12, [3, 0x7000, 0])),
            UffdMessage::Fault {
                address: 0x7000,
                write_protect: true,
                write: true
            }
        );
    }

    #[test]
    fn events() {
        assert_eq!(
            UffdMessage::parse(&message(0x13, [7, 0, 0])),
            UffdMessage::Fork { fd: 7 }
        );
        assert_eq!(
            UffdMessage::parse(&message(0x14, [1, 2, 3])),
            UffdMessage::Remap {
                from: 1,
                to: 2,
                length: 3
            }
        );
        assert_eq!(
            UffdMessage::parse(&message(0x16, [1, 2, 0])),
            UffdMessage::Removed {
                start: 1,
                end: 2,
                unmapped: true
            }
        );
        assert_eq!(
            UffdMessage::parse(&message(0x42, [0; 3])),
            UffdMessage::Unknown { event: 0x42 }
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_some_message(bytes: [u8; MESSAGE_BYTES]) {
            let _ = UffdMessage::parse(&bytes);
        }
    }
}
