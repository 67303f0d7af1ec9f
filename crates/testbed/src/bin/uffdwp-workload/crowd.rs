//! Many processes with many uffd-wp VMAs, idle or at work: what a busy machine is to the agent.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::process::Signal;
use uffd::{RegisterMode, UffdFeatures, Userfaultfd};

use crate::area::{MappedArea, MemoryKind};

#[derive(clap::Args)]
pub struct CrowdArguments {
    /// How many processes
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    processes: u32,
    /// VMAs that use uffd-wp in each
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    vmas: u64,
    /// Each process arms and writes one of its VMAs each second, in turns
    #[arg(long)]
    active: bool,
}

/// Pages of each VMA; as many between two, so that they stay apart.
const PAGES: u64 = 4;
/// Descriptors that each process holds besides its userfaultfd, as programs do.
const DESCRIPTORS: usize = 16;
/// From one turn of work of a process to the next.
const TURN: Duration = Duration::from_secs(1);

/// Starts them, prints `ready` once all are, and stays until standard input ends.
pub fn run(arguments: &CrowdArguments) -> Result<()> {
    let (said, mut tells) = rustix::pipe::pipe().context("cannot make a pipe")?;
    for number in 0..arguments.processes {
        // SAFETY: this process has one thread, so the child may do anything.
        match unsafe { libc::fork() } {
            -1 => bail!("cannot fork: {}", std::io::Error::last_os_error()),
            0 => {
                let result = be_member(&mut tells, number, arguments);
                if let Err(error) = &result {
                    eprintln!("uffdwp-workload: process {number} of the crowd: {error:#}");
                }
                std::process::exit(i32::from(result.is_err()));
            }
            _ => {}
        }
    }
    drop(tells);
    let mut all = vec![0; arguments.processes as usize];
    File::from(said)
        .read_exact(&mut all)
        .context("a process of the crowd has ended")?;
    println!("ready");
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

/// One of the processes, which ends with its parent.
fn be_member(tells: &mut OwnedFd, number: u32, arguments: &CrowdArguments) -> Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    let _held = descriptors()?;
    let uffd = Userfaultfd::open().or_else(|_| Userfaultfd::open_user_mode_only())?;
    uffd.enable(UffdFeatures::WP_ASYNC)?;
    let all = MappedArea::map(
        MemoryKind::Anon,
        0,
        2 * PAGES * arguments.vmas,
        Path::new("/"),
    )?;
    let part = |vma| all.pages_part(2 * PAGES * vma..2 * PAGES * vma + PAGES);
    let parts: Vec<_> = (0..arguments.vmas).map(part).collect();
    for part in &parts {
        uffd.register(&part.range(), RegisterMode::WP)?;
        part.write_all();
    }
    File::from(tells.try_clone()?).write_all(b".")?;
    if !arguments.active {
        loop {
            thread::park();
        }
    }
    // So that they do not work all at once.
    thread::sleep(TURN * (number % 16) / 16);
    for part in parts.iter().cycle() {
        thread::sleep(TURN);
        uffd.arm(&part.range())?;
        part.write_all();
    }
    Ok(())
}

fn descriptors() -> Result<Vec<File>> {
    let open = |_| File::open("/dev/null").context("cannot open /dev/null");
    (0..DESCRIPTORS).map(open).collect()
}
