//! What the agent costs beside Debian's node_exporter, both at work in the same minutes.
//!
//! `cargo xtask bench agent` runs it on this machine and in a guest, and prints tables in Markdown.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a benchmark has nobody to recover for"
)]

use std::collections::BTreeMap;
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use testbed::{KilledChild, crowd, eventually, get, program};

/// As Prometheus scrapes by default in many places.
const SCRAPE_INTERVAL: Duration = Duration::from_secs(15);
/// Scrapes while CPU time is measured.
const SCRAPES: u32 = 4;
/// Scrapes that are timed afterwards.
const TIMED: usize = 9;

/// What the machine does meanwhile.
struct BenchCase {
    name: &'static str,
    /// The crowd's flags; none is nobody.
    crowd: &'static [&'static str],
}

const CASES: [BenchCase; 4] = [
    BenchCase {
        name: "nobody",
        crowd: &[],
    },
    BenchCase {
        name: "50 processes, 500 VMAs, idle",
        crowd: &["--processes", "50", "--vmas", "10"],
    },
    BenchCase {
        name: "500 processes, 20,000 VMAs, idle",
        crowd: &["--processes", "500", "--vmas", "40"],
    },
    BenchCase {
        name: "500 processes, 20,000 VMAs, at work",
        crowd: &["--processes", "500", "--vmas", "40", "--active"],
    },
];

fn main() {
    // `cargo test` starts benchmarks too, to see that they work; this one has no quick mode.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    println!(
        "| machine | who | resident | of it no file's | peak | CPU of a core | scrape | series | \
         ready after |\n\
         |---|---|---:|---:|---:|---:|---:|---:|---:|"
    );
    for case in &CASES {
        measure(case);
    }
}

/// A program that is scraped.
struct ScrapedExporter {
    name: String,
    process: KilledChild,
    address: String,
    ready: Duration,
}

impl ScrapedExporter {
    /// Starts it, and waits until `ready` answers 200.
    fn start(mut command: Command, address: String, ready: &str) -> Self {
        let name = command.get_program().to_string_lossy().into_owned();
        let name = name.rsplit('/').next().unwrap_or_default().to_owned();
        let begin = Instant::now();
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let process = KilledChild(command.spawn().unwrap());
        eventually("it is ready", || {
            TcpStream::connect(&address).ok()?;
            (get(&address, ready).0 == 200).then_some(())
        });
        Self {
            name,
            process,
            address,
            ready: begin.elapsed(),
        }
    }

    fn tracker() -> Self {
        let address = free_address();
        let mut command = Command::new(program("tracker"));
        command.args(["agent", "--listen", &address]);
        Self::start(command, address, "/readyz")
    }

    fn node_exporter() -> Self {
        let address = free_address();
        let mut command = Command::new("prometheus-node-exporter");
        command.arg(format!("--web.listen-address={address}"));
        // Its start page collects nothing.
        Self::start(command, address, "/")
    }

    fn scrape(&self) -> String {
        let (code, text) = get(&self.address, "/metrics");
        assert_eq!(code, 200, "{text}");
        text
    }

    fn pid(&self) -> u32 {
        self.process.0.id()
    }
}

/// CPU time of each thread of a process by its name, those of one name together, as the scheduler
/// has it (`/proc/PID/task/TID/schedstat`).
fn thread_times(pid: u32) -> BTreeMap<String, Duration> {
    let mut times = BTreeMap::new();
    for task in fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
        let task = task.unwrap().path();
        let read = |file: &str| fs::read_to_string(task.join(file));
        // A thread may end meanwhile.
        let (Ok(name), Ok(times_of)) = (read("comm"), read("schedstat")) else {
            continue;
        };
        let on_cpu = times_of.split(' ').next().unwrap().parse().unwrap();
        *times.entry(name.trim().to_owned()).or_default() += Duration::from_nanos(on_cpu);
    }
    times
}

/// Prints what each thread took of a core, the busiest first.
fn print_threads(
    case: &BenchCase,
    before: &BTreeMap<String, Duration>,
    after: &BTreeMap<String, Duration>,
    wall: Duration,
) {
    let share = |(name, time): (&String, &Duration)| {
        let gained = time.saturating_sub(before.get(name).copied().unwrap_or_default());
        (
            gained.as_secs_f64() / wall.as_secs_f64() * 100.0,
            name.clone(),
        )
    };
    let mut shares: Vec<_> = after.iter().map(share).collect();
    shares.sort_by(|a, b| b.0.total_cmp(&a.0));
    let told = shares.iter().filter(|(share, _)| *share >= 0.005);
    let told: Vec<_> = told
        .map(|(share, name)| format!("{name} {share:.2}%"))
        .collect();
    println!("- threads of tracker, {}: {}", case.name, told.join(", "));
}

/// Prints a row for each exporter, with the case done.
fn measure(case: &BenchCase) {
    let crowd = (!case.crowd.is_empty()).then(|| crowd(case.crowd));
    let exporters = [ScrapedExporter::tracker(), ScrapedExporter::node_exporter()];
    let settled = || {
        exporters
            .iter()
            .map(|one| series(&one.scrape()))
            .sum::<usize>()
    };
    let mut before = settled();
    // Until every process has been found and every VMA counted.
    eventually("there are as many series as before", || {
        std::thread::sleep(SCRAPE_INTERVAL);
        let now = settled();
        (std::mem::replace(&mut before, now) == now).then_some(())
    });
    let cpu = || exporters.each_ref().map(|one| cpu_time(one.pid()));
    let threads_before = thread_times(exporters[0].pid());
    let (begin, cpu_before) = (Instant::now(), cpu());
    for _ in 0..SCRAPES {
        std::thread::sleep(SCRAPE_INTERVAL);
        settled();
    }
    let (wall, cpu_after) = (begin.elapsed(), cpu());
    let threads_after = thread_times(exporters[0].pid());
    let rows = exporters.iter().zip(cpu_before.into_iter().zip(cpu_after));
    for (exporter, (before, after)) in rows {
        let share = (after - before).as_secs_f64() / wall.as_secs_f64();
        print_row(case, exporter, share);
    }
    print_threads(case, &threads_before, &threads_after, wall);
    drop(crowd);
}

fn print_row(case: &BenchCase, exporter: &ScrapedExporter, share: f64) {
    let mut times: Vec<_> = (0..TIMED)
        .map(|_| {
            std::thread::sleep(Duration::from_millis(200));
            let begin = Instant::now();
            exporter.scrape();
            begin.elapsed()
        })
        .collect();
    times.sort_unstable();
    let memory = |key| mib(exporter.pid(), key);
    let text = exporter.scrape();
    let level = text.lines().find_map(|line| {
        let level = line.strip_prefix("uffdwp_level{level=\"")?;
        Some(level.strip_suffix("\"} 1")?.to_owned())
    });
    let level = level.map_or_else(String::new, |level| format!(", level {level}"));
    println!(
        "| {} | {}{level} | {:.1} MiB | {:.1} MiB | {:.1} MiB | {:.2}% | {:.1} ms | {} | {:.2} s |",
        case.name,
        exporter.name,
        memory("VmRSS"),
        memory("RssAnon"),
        memory("VmHWM"),
        share * 100.0,
        times[TIMED / 2].as_secs_f64() * 1e3,
        series(&text),
        exporter.ready.as_secs_f64(),
    );
}

/// A port of the loopback that is free now.
fn free_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

fn series(exposition: &str) -> usize {
    let lines = exposition.lines();
    lines.filter(|line| !line.starts_with('#')).count()
}

/// A number of `/proc/PID/status` in MiB.
fn mib(pid: u32, key: &str) -> f64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let mut lines = text.lines();
    let value = lines.find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    let kib = value.and_then(|value| value.trim().strip_suffix(" kB"));
    kib.unwrap().parse::<f64>().unwrap() / 1024.0
}

/// CPU time of all threads of a process, in the scheduler's nanoseconds.
fn cpu_time(pid: u32) -> Duration {
    let (mut clock, mut time) = (
        0,
        libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        },
    );
    // SAFETY: both pointers are to live variables.
    let failed = unsafe {
        libc::clock_getcpuclockid(pid as libc::pid_t, &raw mut clock) != 0
            || libc::clock_gettime(clock, &raw mut time) != 0
    };
    assert!(!failed, "process {pid} has no clock");
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
