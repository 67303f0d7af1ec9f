//! Each call that a tracker can make, one at a time, in its own memory or in another process's, for
//! whoever explains trackers.
//!
//! Its first line is `tracks PID`. Then it does what each line on standard input says; numbers are
//! hexadecimal.
//!
//! | line | answer |
//! |---|---|
//! | `do ORDER...` | the answer of the process whose memory is tracked to a line of its script |
//! | `open FEATURES` | `ok`, with a new userfaultfd |
//! | `listen` | `ok`; a thread reads the messages of it from now on, and answers faults |
//! | `register START END MODE` | `ok` |
//! | `unregister START END` | `ok` |
//! | `arm START END` | `ok`, after UFFDIO_WRITEPROTECT |
//! | `resolve START END` | the same |
//! | `scan START END` | how many pages one PAGEMAP_SCAN found written, and armed |
//! | `copy START END VALUE ARMED` | `ok`, after UFFDIO_COPY of pages that begin with that word |
//! | `zero START END` | `ok`, after UFFDIO_ZEROPAGE |
//! | `continue START END ARMED` | `ok`, after UFFDIO_CONTINUE |
//! | `move START END FROM` | `ok`, after UFFDIO_MOVE |

use std::io::{Write as _, stdin, stdout};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail, ensure};
use testbed::client::ClientTarget;
use uffd::{
    PAGE_SIZE, PageRegion, Pagemap, RegisterMode, ScanQuery, UffdFeatures, UffdMessage,
    Userfaultfd, pages_in,
};

use crate::client::TrackedTarget;
use crate::messages;

#[derive(clap::Args)]
pub struct CallArguments {
    /// Whose memory it tracks
    #[arg(long, value_enum)]
    target: ClientTarget,
    /// Directory for files
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    dir: PathBuf,
}

/// Serves until standard input ends.
pub fn serve(arguments: &CallArguments) -> Result<()> {
    let target = TrackedTarget::start(arguments.target, &arguments.dir)?;
    let pagemap = Pagemap::open(target.pid())?;
    answer(&format!("tracks {}", target.pid()))?;
    let mut caller = TrackerCaller {
        target,
        pagemap,
        uffd: None,
    };
    for line in stdin().lines() {
        let line = line.context("cannot read what to do")?;
        let said = caller.obey(&line).with_context(|| format!("`{line}`"))?;
        answer(&said)?;
    }
    Ok(())
}

fn answer(text: &str) -> Result<()> {
    writeln!(stdout(), "{text}").context("cannot answer")
}

struct TrackerCaller {
    target: TrackedTarget,
    pagemap: Pagemap,
    uffd: Option<Arc<Userfaultfd>>,
}

impl TrackerCaller {
    fn obey(&mut self, line: &str) -> Result<String> {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        if word == "do" {
            return self.target.say(rest);
        }
        let numbers = rest
            .split_whitespace()
            .map(|it| u64::from_str_radix(it, 16));
        let numbers: Vec<u64> = numbers.collect::<Result<_, _>>()?;
        let number = |at: usize| numbers.get(at).copied().context("too few numbers");
        if word == "open" {
            self.open(UffdFeatures(number(0)?))?;
            return Ok("ok".to_owned());
        }
        let uffd = self.uffd.as_ref().context("nothing is open")?;
        if word == "listen" {
            let uffd = Arc::clone(uffd);
            std::thread::spawn(move || {
                if let Err(error) = answer_messages(&uffd) {
                    eprintln!("uffdwp-workload: reading messages ended: {error:#}");
                    std::process::exit(1);
                }
            });
            return Ok("ok".to_owned());
        }
        let range = number(0)?..number(1)?;
        let bytes = range.end - range.start;
        match word {
            "register" => uffd.register(&range, mode(number(2)?)?)?,
            "unregister" => uffd.unregister(&range)?,
            "arm" => uffd.arm(&range)?,
            "resolve" => uffd.resolve(&range)?,
            "scan" => return Ok(self.scan(&range)?.to_string()),
            "copy" => copy(uffd, &range, number(2)?, number(3)? != 0)?,
            "zero" => ensure!(uffd.zeropage(&range, true)? == bytes),
            "continue" => ensure!(uffd.continue_pages(&range, number(2)? != 0)? == bytes),
            "move" => {
                // SAFETY: nothing refers to what the script maps.
                let moved = unsafe { uffd.move_pages(&range, number(2)?) }?;
                ensure!(moved == bytes, "only {moved:#x} bytes were moved");
            }
            _ => bail!("there is no such call"),
        }
        Ok("ok".to_owned())
    }

    fn open(&mut self, features: UffdFeatures) -> Result<()> {
        let uffd = self.target.userfaultfd()?;
        uffd.enable(features)?;
        self.uffd = Some(Arc::new(uffd));
        Ok(())
    }

    fn scan(&self, range: &Range<u64>) -> Result<u64> {
        let mut regions = [PageRegion::default(); 64];
        let mut pages = 0;
        let each = |region: PageRegion| pages += pages_in(&region.range());
        let query = ScanQuery::WRITTEN_AND_ARM;
        self.pagemap.scan(range, &query, &mut regions, each)?;
        Ok(pages)
    }
}

fn mode(number: u64) -> Result<RegisterMode> {
    Ok(match number {
        2 => RegisterMode::WP,
        3 => RegisterMode::MISSING_WP,
        6 => RegisterMode::MINOR_WP,
        _ => bail!("no such mode"),
    })
}

fn copy(uffd: &Userfaultfd, range: &Range<u64>, value: u64, armed: bool) -> Result<()> {
    let mut content = vec![0_u64; ((range.end - range.start) / 8) as usize];
    let pages = content.chunks_mut((PAGE_SIZE / 8) as usize);
    pages.for_each(|page| page[0] = value);
    // SAFETY: the source is as long as the range; nothing refers to what the script maps.
    let copied = unsafe { uffd.copy(range, content.as_ptr().cast(), armed) }?;
    ensure!(copied == range.end - range.start, "only {copied:#x} bytes");
    Ok(())
}

/// Answers faults of armed pages, and takes note of everything else, for ever.
fn answer_messages(uffd: &Userfaultfd) -> Result<()> {
    let mut messages = Vec::new();
    loop {
        messages::next(uffd, &mut messages)?;
        for message in &messages {
            match message {
                UffdMessage::Fault { address, .. } => {
                    let page = address / PAGE_SIZE * PAGE_SIZE;
                    uffd.resolve(&(page..page + PAGE_SIZE))?;
                }
                UffdMessage::Fork { fd } => {
                    // SAFETY: the kernel has made it for whoever reads the message.
                    drop(unsafe { Userfaultfd::from_fork(*fd) });
                }
                _ => (),
            }
        }
    }
}
