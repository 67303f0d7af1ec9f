//! How many page tables a range needs, by the arithmetic of its addresses.

use std::ops::Range;

use tracker_ebpf::TableLevel;
use uffd::PMD_SIZE;

use crate::area::MemoryKind;

/// Numbers of page tables by level.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PageTables {
    /// PTE tables, one per 2 MiB.
    pub pte: u64,
    /// PMD tables, one per GiB.
    pub pmd: u64,
    /// PUD tables, one per 512 GiB.
    pub pud: u64,
}

impl PageTables {
    /// The tables that a range needs if it shares none with others.
    pub fn of(range: &Range<u64>, kind: MemoryKind) -> Self {
        let spans = |size: u64| range.end.div_ceil(size) - range.start / size;
        let pte = match kind {
            // A THP of anonymous memory keeps a table for the day when it is split.
            MemoryKind::Hugetlb | MemoryKind::ShmemThp => 0,
            _ => spans(PMD_SIZE),
        };
        Self {
            pte,
            pmd: spans(1 << 30),
            pud: spans(1 << 39),
        }
    }

    /// PTE tables and no others.
    pub fn pte(pte: u64) -> Self {
        Self {
            pte,
            ..Self::default()
        }
    }

    /// The same without the PUD table, for a second area of the same process.
    pub fn without_pud(self) -> Self {
        Self { pud: 0, ..self }
    }

    /// The number for each level.
    pub fn by_level(self) -> [(TableLevel, u64); 3] {
        [
            (TableLevel::Pte, self.pte),
            (TableLevel::Pmd, self.pmd),
            (TableLevel::Pud, self.pud),
        ]
    }

    /// The tables of all levels.
    pub fn total(self) -> u64 {
        self.pte + self.pmd + self.pud
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;
    const START: u64 = 0x1000_0000_0000;

    #[test]
    fn tables_of_a_range_are_its_spans() {
        let of = |length| PageTables::of(&(START..START + length), MemoryKind::Anon);
        assert_eq!(
            of(4096),
            PageTables {
                pte: 1,
                pmd: 1,
                pud: 1
            }
        );
        assert_eq!(
            of(PMD_SIZE + 4096),
            PageTables {
                pte: 2,
                pmd: 1,
                pud: 1
            }
        );
        assert_eq!(
            of(GIB),
            PageTables {
                pte: 512,
                pmd: 1,
                pud: 1
            }
        );
        assert_eq!(
            of(GIB + 4096),
            PageTables {
                pte: 513,
                pmd: 2,
                pud: 1
            }
        );
    }

    #[test]
    fn huge_pages_need_no_pte_table_but_anonymous_thp() {
        let of = |kind| PageTables::of(&(START..START + 4 * PMD_SIZE), kind).pte;
        assert_eq!(
            (
                of(MemoryKind::Hugetlb),
                of(MemoryKind::ShmemThp),
                of(MemoryKind::Thp)
            ),
            (0, 0, 4)
        );
    }
}
