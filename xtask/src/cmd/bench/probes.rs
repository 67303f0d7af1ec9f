//! `cargo xtask bench probes`: what observing adds to an event, in instructions of an emulated CPU.

use std::{
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use clap::Args;

use crate::cmd::guest_programs;
use crate::{
    ConsentArgs,
    cargo::{self, BuiltProgram, OwnProgram},
    paths,
    setup::{
        self, SetupExtent,
        kernels::{GuestKernel, KernelChoice},
    },
    sh,
    vm::{GuestAccel, GuestFile, VmRun},
};

#[derive(Args)]
pub struct BenchProbesArgs {
    #[command(flatten)]
    consent: ConsentArgs,
    /// A series or the path of an image
    #[arg(long, default_value = "6.12", value_parser = KernelChoice::parse)]
    kernel: KernelChoice,
}

/// One way of observing events.
struct BenchObserver {
    name: &'static str,
    /// What the guest needs from the host.
    needs: ObserverNeeds,
    /// A script that starts it in the background of the guest and returns once it observes.
    start: &'static str,
}

/// What an observer needs from the host.
enum ObserverNeeds {
    /// Nothing: our own programs are there.
    Nothing,
    /// A program of the host.
    Program(&'static str),
    /// The peer in C, compiled here.
    Peer,
}

/// The observers that are compared; the others are measured against the first.
const OBSERVERS: [BenchObserver; 5] = [
    BenchObserver {
        name: "nobody",
        needs: ObserverNeeds::Nothing,
        start: "",
    },
    BenchObserver {
        name: "tracker agent",
        needs: ObserverNeeds::Nothing,
        // No background work while the meter runs: it would be counted too.
        start: "tracker agent --scan-budget 0% --collect-interval 1h --discover-interval 1h \
                > /tmp/agent.log 2>&1 &\n\
                until wget -q -O /dev/null http://127.0.0.1:19943/readyz; do sleep 0.1; done\n",
    },
    BenchObserver {
        name: "fault-time of another process",
        needs: ObserverNeeds::Nothing,
        start: "tracker track --strategy fault-time --interval 1h -- sleep 100000 \
                > /tmp/track.log 2>&1 &\n\
                for i in $(seq 300); do grep -q '^armed' /tmp/track.log && break; sleep 0.1; done\n\
                grep -q '^armed' /tmp/track.log || { cat /tmp/track.log; exit 1; }\n\
                sleep 2\n",
    },
    BenchObserver {
        name: "C with libbpf",
        needs: ObserverNeeds::Peer,
        start: "peer /root/count.bpf.o > /tmp/peer.log 2>&1 &\n\
                for i in $(seq 100); do grep -q observing /tmp/peer.log && break; sleep 0.1; done\n\
                grep -q observing /tmp/peer.log || { cat /tmp/peer.log; exit 1; }\n",
    },
    BenchObserver {
        name: "bpftrace",
        needs: ObserverNeeds::Program("bpftrace"),
        // The nearest equivalent: write-protect faults and page tables per VMA.
        start: "cat > /tmp/count.bt <<'END'\n\
                kprobe:do_wp_page { @faults[((struct vm_fault *)arg0)->vma] = count(); }\n\
                kprobe:do_swap_page { @markers[((struct vm_fault *)arg0)->vma] = count(); }\n\
                kretprobe:pmd_install { @tables = count(); }\n\
                BEGIN { printf(\"observing\\n\"); }\n\
                END\n\
                bpftrace /tmp/count.bt > /tmp/bpftrace.log 2>&1 &\n\
                for i in $(seq 600); do \
                grep -q observing /tmp/bpftrace.log && break; sleep 0.1; done\n\
                grep -q observing /tmp/bpftrace.log || { cat /tmp/bpftrace.log; exit 1; }\n\
                sleep 2\n",
    },
];

/// Runs the benchmark and prints a table in Markdown.
pub fn run(args: &BenchProbesArgs) -> Result<ExitCode> {
    let consent = args.consent.consent();
    setup::prepare(SetupExtent::Vm, &consent)?;
    setup::prepare_peers(&consent)?;
    let kernel = args.kernel.prepare()?;
    let programs = cargo::programs()?;
    let mut columns = Vec::new();
    for observer in &OBSERVERS {
        let files = files(&observer.needs)
            .with_context(|| format!("cannot observe with {}", observer.name))?;
        columns.push((observer.name, measure(observer, files, &kernel, &programs)?));
    }
    println!(
        "Kernel {}, `cargo xtask bench probes`, instructions for one event:\n",
        kernel.release
    );
    print!("{}", table(&columns));
    Ok(ExitCode::SUCCESS)
}

/// The files that an observer needs in the guest.
fn files(needs: &ObserverNeeds) -> Result<Vec<GuestFile>> {
    match needs {
        ObserverNeeds::Nothing => Ok(Vec::new()),
        ObserverNeeds::Program(name) => {
            let host = paths::program(name).with_context(|| format!("no {name} in PATH"))?;
            let guest = format!("/bin/{name}");
            Ok(vec![GuestFile { host, guest }])
        }
        ObserverNeeds::Peer => peer(),
    }
}

/// Compiles the peer: a BPF object, and the program that loads it.
fn peer() -> Result<Vec<GuestFile>> {
    let source = paths::root().join("xtask/peer");
    let built = paths::create(paths::vm_dir()?.join("peer"))?;
    let (object, loader) = (built.join("count.bpf.o"), built.join("peer"));
    compile(
        &[
            "-target",
            "bpf",
            "-g",
            "-I/usr/include/x86_64-linux-gnu",
            "-c",
        ],
        &source.join("count.bpf.c"),
        &object,
        &[],
    )?;
    compile(&[], &source.join("load.c"), &loader, &["-lbpf"])?;
    // Debug information goes: libbpf reads only the type information (BTF).
    if let Some(strip) = paths::program("llvm-strip") {
        sh::output(Command::new(strip).arg("-g").arg(&object))?;
    }
    let file = |host: PathBuf, guest: &str| GuestFile {
        host,
        guest: guest.to_owned(),
    };
    Ok(vec![
        file(object, "/root/count.bpf.o"),
        file(loader, "/bin/peer"),
    ])
}

fn compile(options: &[&str], source: &Path, output: &Path, libraries: &[&str]) -> Result<()> {
    let mut command = Command::new("clang");
    command.args(["-O2", "-Wall", "-Werror"]).args(options);
    command.arg(source).arg("-o").arg(output).args(libraries);
    sh::output(&mut command).map(drop)
}

/// Events and what one of them costs, in instructions.
type EventCosts = Vec<(String, f64)>;

/// Boots, starts `observer` and runs the meter.
fn measure(
    observer: &BenchObserver,
    files: Vec<GuestFile>,
    kernel: &GuestKernel,
    programs: &[BuiltProgram],
) -> Result<EventCosts> {
    let name = format!("bench-{}-{}", kernel.label, observer.name.replace(' ', "-"));
    let mut run = VmRun::new(&name, kernel);
    run.accel = GuestAccel::CountInstructions;
    run.timeout = Duration::from_secs(1200);
    run.files = guest_programs(programs, "/bin")?;
    run.files.extend(files);
    // The first run after boot reads high (caches, lazily patched code); the second counts.
    let meter = OwnProgram::Meter.name();
    let start = observer.start;
    run.command = Some(format!("set -e\n{start}{meter} > /dev/null\n{meter}\n"));
    let progress = sh::ProgressLine::start(&format!("measuring with {}", observer.name));
    let report = run.run(|line| progress.detail(line));
    let status = report.as_ref().ok().map(crate::vm::BootReport::verdict);
    progress.finish(matches!(status, Some(Ok(0))));
    let report = report?;
    let status = report
        .verdict()
        .with_context(|| format!("with {}", observer.name))?;
    if status != 0 {
        bail!(
            "{meter} with {} failed ({status}); see {}",
            observer.name,
            report.log.display()
        );
    }
    let measures = parse(report.lines.iter().map(String::as_str));
    if measures.is_empty() {
        bail!(
            "{meter} with {} measured nothing; see {}",
            observer.name,
            report.log.display()
        );
    }
    Ok(measures)
}

/// The costs in the lines of the meter: `measured NAME VALUE` for each event, with the guest's
/// nanoseconds for one, which are instructions.
fn parse<'a>(lines: impl Iterator<Item = &'a str>) -> EventCosts {
    let measured = |line: &str| {
        let (name, value) = line.strip_prefix("measured ")?.rsplit_once(' ')?;
        Some((name.to_owned(), value.parse().ok()?))
    };
    lines.filter_map(measured).collect()
}

/// A row per event and a column per observer, with what it adds to the first column.
fn table(columns: &[(&str, EventCosts)]) -> String {
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
            let value = measures.iter().find(|(name, _)| name == event);
            let cell = match value {
                None => " - |".to_owned(),
                Some((_, value)) if index == 0 => format!(" {value:.0} |"),
                Some((_, value)) => format!(" {value:.0} ({:+.0}) |", value - base),
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
            ("none", EventCosts::new()),
        ]);
        let last = text.lines().last();
        assert_eq!(last, Some("| armed write | 1551 | 1741 (+190) | - |"));
        assert_eq!(text.lines().nth(1), Some("|---|---:|---:|---:|"));
    }
}
