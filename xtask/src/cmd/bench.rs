//! `cargo xtask bench`: what observing costs, in instructions of an emulated processor.

use std::{collections::BTreeMap, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context as _, Result, bail};
use clap::{Args, Subcommand};

use super::guest_programs;
use crate::{
    ConsentArgs,
    cargo::{self, Program},
    paths,
    setup::{self, Extent, kernels, kernels::Kernel},
    sh,
    vm::{Accel, GuestFile, VmRun},
};

/// The program that measures in the guest. It prints `measured NAME VALUE` for each event: guest
/// nanoseconds for one, which are instructions.
const METER: &str = "uffdwp-meter";

/// Measure what observing costs
#[derive(Args)]
pub struct BenchArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Guest instructions for one event of each kind, with each way of observing it
    Probes(ProbesArgs),
}

#[derive(Args)]
struct ProbesArgs {
    #[command(flatten)]
    consent: ConsentArgs,
    /// A series, or a path to an image
    #[arg(long, default_value = "6.12")]
    kernel: String,
}

/// One way of observing.
struct Observer {
    name: &'static str,
    /// A program of the host that the guest needs, and Debian's package of it.
    needs: Option<(&'static str, &'static str)>,
    /// Starts it in the guest, in the background, and returns when it observes.
    start: &'static str,
}

/// What is compared; the first is what the others are measured against.
const OBSERVERS: [Observer; 3] = [
    Observer {
        name: "nobody",
        needs: None,
        start: "",
    },
    Observer {
        name: "tracker agent",
        needs: None,
        // No background work while the meter runs: it would be counted, too.
        start: "tracker agent --scan-budget 0% --collect-interval 1h --discover-interval 1h \
                > /tmp/agent.log 2>&1 &\n\
                until wget -q -O /dev/null http://127.0.0.1:19943/readyz; do sleep 0.1; done\n",
    },
    Observer {
        name: "bpftrace",
        needs: Some(("bpftrace", "bpftrace")),
        // The nearest equivalent: write-protect faults and page tables per VMA.
        start: "cat > /tmp/count.bt <<'END'\n\
                kprobe:do_wp_page { @faults[((struct vm_fault *)arg0)->vma] = count(); }\n\
                kprobe:do_swap_page { @markers[((struct vm_fault *)arg0)->vma] = count(); }\n\
                kretprobe:pmd_install { @tables = count(); }\n\
                BEGIN { printf(\"observing\\n\"); }\n\
                END\n\
                bpftrace /tmp/count.bt > /tmp/bpftrace.log 2>&1 &\n\
                until grep -q observing /tmp/bpftrace.log; do sleep 0.1; done\nsleep 2\n",
    },
];

/// Runs the benchmark and prints a table in Markdown.
pub fn run(args: &BenchArgs) -> Result<ExitCode> {
    let What::Probes(args) = &args.what;
    setup::prepare(Extent::Vm, &args.consent.consent())?;
    let kernel = kernels::find(&args.kernel)?;
    let programs = cargo::programs()?;
    if !programs.iter().any(|program| program.name == METER) {
        bail!("the package tracker has no program {METER}, which measures in the guest");
    }
    let mut columns = Vec::new();
    for observer in &OBSERVERS {
        match tool(observer) {
            Ok(tool) => columns.push((observer.name, measure(observer, tool, &kernel, &programs)?)),
            Err(package) => eprintln!(
                "{:>8} {}: it is not installed here (Debian's package {package})",
                "skipped", observer.name
            ),
        }
    }
    println!(
        "Kernel {}, `cargo xtask bench probes`, instructions for one event:\n",
        kernel.release
    );
    print!("{}", table(&columns));
    Ok(ExitCode::SUCCESS)
}

/// The program of the host that `observer` needs, or the package that brings it.
fn tool(observer: &Observer) -> Result<Option<PathBuf>, &'static str> {
    let Some((program, package)) = observer.needs else {
        return Ok(None);
    };
    paths::program(program).map(Some).ok_or(package)
}

type Measures = BTreeMap<String, f64>;

/// Boots with `observer` at work and runs the meter.
fn measure(
    observer: &Observer,
    tool: Option<PathBuf>,
    kernel: &Kernel,
    programs: &[Program],
) -> Result<Measures> {
    let name = format!("bench-{}-{}", kernel.label, observer.name.replace(' ', "-"));
    let mut run = VmRun::new(&name, kernel);
    run.accel = Accel::CountInstructions;
    run.timeout = Duration::from_secs(1200);
    run.files = guest_programs(programs, "/bin")?;
    run.files.extend(tool.map(|host| {
        let name = host
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        GuestFile {
            host,
            guest: format!("/bin/{name}"),
        }
    }));
    // The first run after boot reads high: caches, lazily patched code. The second counts.
    run.command = Some(format!(
        "set -e\n{}{METER} > /dev/null\n{METER}\n",
        observer.start
    ));
    let progress = sh::Progress::start(&format!("measuring with {}", observer.name));
    let report = run.run(|line| progress.detail(line));
    let status = report.as_ref().ok().map(crate::vm::Report::verdict);
    progress.finish(matches!(status, Some(Ok(0))));
    let report = report?;
    let status = report
        .verdict()
        .with_context(|| format!("with {}", observer.name))?;
    if status != 0 {
        bail!(
            "{METER} with {} failed ({status}); see {}",
            observer.name,
            report.log.display()
        );
    }
    let measures = parse(report.lines.iter().map(String::as_str));
    if measures.is_empty() {
        bail!(
            "{METER} with {} measured nothing; see {}",
            observer.name,
            report.log.display()
        );
    }
    Ok(measures)
}

/// The meter's lines.
fn parse<'a>(lines: impl Iterator<Item = &'a str>) -> Measures {
    let measured = |line: &str| {
        let (name, value) = line.strip_prefix("measured ")?.rsplit_once(' ')?;
        Some((name.to_owned(), value.parse().ok()?))
    };
    lines.filter_map(measured).collect()
}

/// One line per event, one column per observer, with what it adds to the first column.
fn table(columns: &[(&str, Measures)]) -> String {
    let Some((_, bare)) = columns.first() else {
        return String::new();
    };
    let mut text = String::from("| event |");
    for (name, _) in columns {
        text.push_str(&format!(" {name} |"));
    }
    text.push_str("\n|---|");
    text.push_str(&"---:|".repeat(columns.len()));
    text.push('\n');
    for (event, base) in bare {
        text.push_str(&format!("| {event} |"));
        for (index, (_, measures)) in columns.iter().enumerate() {
            let cell = match measures.get(event) {
                None => " - |".to_owned(),
                Some(value) if index == 0 => format!(" {value:.0} |"),
                Some(value) => format!(" {value:.0} ({:+.0}) |", value - base),
            };
            text.push_str(&cell);
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_shows_what_is_added() {
        let bare = parse(["noise", "measured armed write 1551", "measured x y"].into_iter());
        let agent = parse(["measured armed write 1741.4"].into_iter());
        let text = table(&[
            ("nobody", bare),
            ("agent", agent),
            ("none", Measures::new()),
        ]);
        let last = text.lines().last();
        assert_eq!(last, Some("| armed write | 1551 | 1741 (+190) | - |"));
        assert_eq!(text.lines().nth(1), Some("|---|---:|---:|---:|"));
    }
}
