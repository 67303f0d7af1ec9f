//! Prometheus and promtool for the tests that scrape the agent: the machine's own, or Debian's
//! package unpacked beside our tools (installing it would start a server).

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};

use super::apt;
use crate::paths;

/// What the package holds.
const PROGRAMS: [&str; 2] = ["prometheus", "promtool"];

/// Where they are, fetched if there are none.
pub fn prepare() -> Result<PathBuf> {
    if let [Some(prometheus), Some(_)] = PROGRAMS.map(find) {
        return Ok(prometheus);
    }
    const ADVICE: &str = "the tests need prometheus and promtool. Install Prometheus, both programs \
                          in PATH";
    if !apt::is_here() {
        bail!(ADVICE);
    }
    let source = apt::Source::open().context(ADVICE)?;
    source.unpack(&["prometheus".to_owned()], &dir()?)?;
    find(PROGRAMS[0]).context("the package prometheus holds no program of that name")
}

/// One of [`PROGRAMS`] that is already here.
pub fn find(program: &str) -> Option<PathBuf> {
    let fetched = || Some(bin().ok()?.join(program)).filter(|path| path.is_file());
    paths::program(program).or_else(fetched)
}

/// Where fetched ones are: to be put into `PATH`.
pub fn bin() -> Result<PathBuf> {
    Ok(dir()?.join("usr/bin"))
}

fn dir() -> Result<PathBuf> {
    Ok(paths::tools()?.join("prometheus"))
}
