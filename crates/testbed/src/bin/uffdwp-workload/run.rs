//! Runs a row: prepares it, does it, compares with what this process sees itself, prints.

use std::io::{BufRead as _, Write as _};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tracker_ebpf::WpMode;
use uffd::{PAGE_SIZE, page_table_bytes};

use crate::needs::{MachineFacts, SkipReason, TestNeed};
use crate::row_run::{RowCheck, RowRun, RowSize};
use crate::rows::WorkloadRow;

/// When to pause.
#[derive(Clone, Copy, Debug)]
pub struct RunSteps {
    /// Wait for a newline after `ready` and after `done`.
    pub step: bool,
    /// Stay after the end until SIGTERM or SIGINT.
    pub hold: bool,
}

/// How a row ended.
#[derive(Debug, PartialEq, Eq)]
pub enum RowOutcome {
    /// Everything that this process sees is as expected.
    Agrees,
    /// Something is not as expected, which was printed.
    Differs,
    /// It cannot run here, and the reason was printed.
    Skipped,
}

/// Runs a row and prints one line of JSON per phase.
pub fn run(
    row: &WorkloadRow,
    mode: WpMode,
    size: RowSize,
    facts: MachineFacts,
    steps: RunSteps,
) -> Result<RowOutcome> {
    let name = row.full_name(mode);
    match try_run(row, mode, size, facts, steps, &name) {
        Err(error) => match error.downcast::<SkipReason>() {
            Ok(skip) => {
                print(&json!({"phase": "skipped", "row": name, "skipped": skip.to_string()}))?;
                Ok(RowOutcome::Skipped)
            }
            Err(error) => Err(error.context(format!("row {name}"))),
        },
        outcome => outcome,
    }
}

fn try_run(
    row: &WorkloadRow,
    mode: WpMode,
    size: RowSize,
    facts: MachineFacts,
    steps: RunSteps,
    name: &str,
) -> Result<RowOutcome> {
    let needs_async = (mode == WpMode::Async).then_some(TestNeed::Async);
    needs_async
        .iter()
        .chain(row.needs)
        .try_for_each(|&need| facts.check(need))?;
    let mut test = RowRun::prepare(row, mode, size, facts)?;
    crate::warm_up();
    own_page_table_bytes()?;
    print(&json!({"phase": "ready", "row": name, "pid": std::process::id()}))?;
    wait_if(steps.step)?;

    let before = own_page_table_bytes()?;
    (row.run)(&mut test)?;
    let after = own_page_table_bytes()?;

    compare(&mut test, before, after)?;
    let agrees = test
        .checks
        .iter()
        .all(|check| check.expected == check.measured);
    print(&report(name, &test, before, after, agrees))?;
    wait_if(steps.step)?;
    if steps.hold {
        crate::signals::wait()?;
    }
    Ok(if agrees {
        RowOutcome::Agrees
    } else {
        RowOutcome::Differs
    })
}

/// Compares with what the kernel tells this process: page tables, messages, armed pages.
fn compare(test: &mut RowRun, before: u64, after: u64) -> Result<()> {
    let tables = (after as i64 - before as i64) / PAGE_SIZE as i64;
    let expected = test.expect.table_balance();
    test.checks.push(RowCheck {
        what: "tables gained by VmPTE",
        expected,
        measured: tables,
    });
    if let Some(messages) = test.messages() {
        test.check("messages to the handler", test.expect.messages(), messages);
    }
    for (area, expected) in test.expect.armed().to_vec() {
        let armed = test.count_armed(&area)?;
        test.check("pages armed at the end", expected, armed);
    }
    Ok(())
}

fn report(name: &str, test: &RowRun, before: u64, after: u64, agrees: bool) -> Value {
    json!({
        "phase": "done",
        "row": name,
        "pid": std::process::id(),
        "pages": test.size.pages,
        "agrees": agrees,
        "expected": test.expect.samples(),
        "page_table_bytes": {"before": before, "after": after},
        "checks": test.checks,
    })
}

fn own_page_table_bytes() -> Result<u64> {
    page_table_bytes(std::process::id())?.context("/proc/self/status has no VmPTE: mount /proc")
}

/// Prints one line of JSON at once.
pub fn print(line: &impl serde::Serialize) -> Result<()> {
    let mut out = std::io::stdout().lock();
    let line = serde_json::to_string(line)?;
    writeln!(out, "{line}")
        .and_then(|()| out.flush())
        .context("cannot write to standard output")
}

/// Waits for a newline or the end of standard input, if `wanted`.
pub fn wait_if(wanted: bool) -> Result<()> {
    if wanted {
        let mut line = Vec::new();
        std::io::stdin()
            .lock()
            .read_until(b'\n', &mut line)
            .context("cannot read standard input")?;
    }
    Ok(())
}
