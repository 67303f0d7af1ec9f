//! The columns of both tables: what a cell says, how rows are ordered by it, and which columns fit.

use std::cmp::Ordering;

use uffd::PAGE_SIZE;

use super::rates::UsageRow;
use crate::print::words::{elided, number, printable, share, size};

/// What is not known.
pub(crate) const DASH: &str = "-";
/// Between two columns.
pub(crate) const GAP: usize = 1;

/// Which table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TableKind {
    Processes,
    Vmas,
}

/// A column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UsageColumn {
    Pid,
    Comm,
    Vma,
    Backing,
    Vmas,
    Size,
    FaultRate,
    Faults,
    Armed,
    Written,
    Tables,
    Waiting,
    Unchanged,
    Strategy,
    Name,
}

use UsageColumn as Column;

impl TableKind {
    /// Its columns, from left to right.
    pub(crate) const fn columns(self) -> &'static [UsageColumn] {
        match self {
            Self::Processes => &[
                Column::Pid,
                Column::Comm,
                Column::Vmas,
                Column::Size,
                Column::FaultRate,
                Column::Faults,
                Column::Armed,
                Column::Written,
                Column::Tables,
                Column::Waiting,
                Column::Unchanged,
                Column::Strategy,
                Column::Name,
            ],
            Self::Vmas => &[
                Column::Pid,
                Column::Comm,
                Column::Vma,
                Column::Backing,
                Column::Size,
                Column::FaultRate,
                Column::Faults,
                Column::Armed,
                Column::Written,
                Column::Tables,
                Column::Name,
            ],
        }
    }

    /// As many of its columns as fit: those that matter least go first.
    pub(crate) fn fitting(self, width: usize) -> Vec<UsageColumn> {
        let mut columns = self.columns().to_vec();
        let taken = |columns: &[UsageColumn]| -> usize {
            columns.iter().map(|column| column.width() + GAP).sum()
        };
        while taken(&columns) > width + GAP && columns.len() > 1 {
            let least = columns
                .iter()
                .enumerate()
                .max_by_key(|(_, column)| column.rank());
            let Some((least, _)) = least else { break };
            columns.remove(least);
        }
        columns
    }
}

impl UsageColumn {
    pub(crate) const fn head(self) -> &'static str {
        match self {
            Self::Pid => "PID",
            Self::Comm => "COMM",
            Self::Vma => "VMA",
            Self::Backing => "BACKING",
            Self::Vmas => "VMAS",
            Self::Size => "SIZE",
            Self::FaultRate => "FAULTS/s",
            Self::Faults => "FAULTS",
            Self::Armed => "ARMED",
            Self::Written => "WRITTEN",
            Self::Tables => "TABLES",
            Self::Waiting => "WAITING",
            Self::Unchanged => "UNCHANGED",
            Self::Strategy => "STRATEGY",
            Self::Name => "NAME",
        }
    }

    /// What it means, for the help.
    pub(crate) const fn help(self) -> &'static str {
        match self {
            Self::Pid => "process id",
            Self::Comm => "name of the process",
            Self::Vma => "number of the VMA as in /metrics, or its start",
            Self::Backing => "what its pages come from",
            Self::Vmas => "VMAs registered for write-protection that have rows",
            Self::Size => "memory registered for write-protection",
            Self::FaultRate => "write-protect faults in a second, since the answer before",
            Self::Faults => "write-protect faults since the agent saw it first",
            Self::Armed => "pages armed at the last scan: the next write is noticed",
            Self::Written => "pages written at the last scan, or never armed",
            Self::Tables => "page tables: all of the process (VmPTE), or allocated in the VMA",
            Self::Waiting => "threads waiting for a handler, on average",
            Self::Unchanged => "reported pages that had not changed (agent --explain)",
            Self::Strategy => "how the agent tracks it (agent --track)",
            Self::Name => "cgroup of the process; file or mapping of the VMA",
        }
    }

    /// The most characters of its cells; a name takes what is left.
    pub(crate) const fn width(self) -> usize {
        match self {
            Self::Pid => 7,
            Self::Comm => 15,
            Self::Vma => 14,
            Self::Backing => 7,
            Self::Vmas => 4,
            Self::Size | Self::Armed | Self::Written | Self::Tables => 8,
            Self::FaultRate => 9,
            Self::Faults => 11,
            Self::Waiting => 7,
            Self::Unchanged => 9,
            Self::Strategy => 16,
            Self::Name => 20,
        }
    }

    /// The higher, the sooner it goes where there is no room.
    const fn rank(self) -> u8 {
        match self {
            Self::Pid | Self::Comm | Self::Vma => 0,
            Self::FaultRate => 1,
            Self::Armed => 2,
            Self::Written => 3,
            Self::Tables => 4,
            Self::Size => 5,
            Self::Backing => 6,
            Self::Unchanged => 7,
            Self::Waiting => 8,
            Self::Name => 9,
            Self::Faults => 10,
            Self::Vmas => 11,
            Self::Strategy => 12,
        }
    }

    /// Whether its cells are words, on the left.
    pub(crate) const fn is_text(self) -> bool {
        matches!(
            self,
            Self::Comm | Self::Vma | Self::Backing | Self::Strategy | Self::Name
        )
    }

    /// What a row says there; at most `width` characters.
    pub(crate) fn cell(self, row: &UsageRow, width: usize) -> String {
        let pages = |pages: Option<u64>| pages.map(|pages| size(pages as f64));
        let bytes = |bytes: u64| size(bytes as f64 / PAGE_SIZE as f64);
        let gone = |cell: Option<String>| cell.filter(|_| !row.exited);
        let text = match self {
            Self::Pid => Some(row.pid.to_string()),
            Self::Comm => Some(printable(&row.comm)),
            Self::Vma => row.vma.clone(),
            Self::Backing => row.backing.clone(),
            Self::Vmas => row.vmas.map(number),
            Self::Size if row.exited => Some("gone".to_owned()),
            Self::Size => Some(bytes(row.memory.bytes)),
            Self::FaultRate => row.faults_per_second.map(rate),
            Self::Faults => row.faults.map(number),
            Self::Armed => gone(pages(row.memory.armed_pages)),
            Self::Written => gone(pages(row.memory.written_pages)),
            Self::Tables => row.table_bytes.map(bytes),
            Self::Waiting => row.waiting.map(|waiting| format!("{waiting:.2}")),
            Self::Unchanged => row.unchanged.map(|(part, all)| share(part, all)),
            Self::Strategy => row.strategy.clone(),
            Self::Name => row.name.as_deref().map(printable),
        };
        elided(&text.unwrap_or_else(|| DASH.to_owned()), width)
    }

    /// The order of two rows by it, the most first; of words, from a to z.
    pub(crate) fn order(self, a: &UsageRow, b: &UsageRow) -> Ordering {
        if self.is_text() {
            let word = |row: &UsageRow| self.cell(row, usize::MAX);
            return word(a).cmp(&word(b));
        }
        let amount = |row: &UsageRow| self.amount(row).unwrap_or(-1.0);
        amount(b).total_cmp(&amount(a))
    }

    fn amount(self, row: &UsageRow) -> Option<f64> {
        let whole = |count: Option<u64>| count.map(|count| count as f64);
        match self {
            Self::Pid => Some(-f64::from(row.pid)),
            Self::Vmas => whole(row.vmas),
            Self::Size => whole(Some(row.memory.bytes)),
            Self::FaultRate => row.faults_per_second,
            Self::Faults => whole(row.faults),
            Self::Armed => whole(row.memory.armed_pages),
            Self::Written => whole(row.memory.written_pages),
            Self::Tables => whole(row.table_bytes),
            Self::Waiting => row.waiting,
            Self::Unchanged => row
                .unchanged
                .map(|(part, all)| part as f64 / all.max(1) as f64),
            Self::Comm | Self::Vma | Self::Backing | Self::Strategy | Self::Name => None,
        }
    }
}

/// Orders rows by a column. What is equal stays where it is from one answer to the next.
pub(crate) fn sort(rows: &mut [UsageRow], column: UsageColumn, reversed: bool) {
    let number = |row: &UsageRow| row.vma.as_ref().and_then(|vma| vma.parse::<u64>().ok());
    rows.sort_by(|a, b| {
        let order = column.order(a, b);
        let order = if reversed { order.reverse() } else { order };
        order
            .then_with(|| Column::Faults.order(a, b))
            .then_with(|| Column::Written.order(a, b))
            .then_with(|| a.pid.cmp(&b.pid))
            .then_with(|| number(a).cmp(&number(b)))
            .then_with(|| a.vma.cmp(&b.vma))
    });
}

fn rate(rate: f64) -> String {
    match rate {
        ..=0.0 => "0".to_owned(),
        ..9.95 => format!("{rate:.1}"),
        _ => number(rate.round() as u64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_columns_of_80_characters_say_what_matters() {
        let heads = |kind: TableKind, width| {
            let columns = kind.fitting(width);
            columns
                .iter()
                .map(|column| column.head())
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert_eq!(
            heads(TableKind::Processes, 80),
            "PID COMM SIZE FAULTS/s ARMED WRITTEN TABLES UNCHANGED"
        );
        assert_eq!(
            heads(TableKind::Vmas, 80),
            "PID COMM VMA FAULTS/s ARMED WRITTEN TABLES"
        );
        for kind in [TableKind::Processes, TableKind::Vmas] {
            assert_eq!(kind.fitting(200), kind.columns());
            assert_eq!(kind.fitting(3).len(), 1, "something is always shown");
        }
    }

    #[test]
    fn rates_are_short() {
        assert_eq!(
            [0.0, 0.04, 9.94, 9.95, 12_345.6].map(rate),
            ["0", "0.0", "9.9", "10", "12,346"]
        );
    }
}
