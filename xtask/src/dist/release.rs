//! Which version is shipped, and when it was made.

use std::{env, process::Command};

use anyhow::{Context as _, Result};

use crate::{paths, sh};

/// The variable by which a builder sets the time that all files get.
pub const EPOCH: &str = "SOURCE_DATE_EPOCH";

/// A version and its time: that of the commit, so that each build of it gives the same bytes.
pub struct Release {
    pub version: String,
    /// Seconds since 1970.
    pub epoch: u64,
    /// The same in words, as RFC 3339 has them.
    pub time: String,
}

impl Release {
    /// What is checked out.
    pub fn of_checkout() -> Result<Self> {
        let epoch = match env::var(EPOCH) {
            Ok(set) => set,
            Err(_) => sh::output(
                Command::new("git")
                    .args(["show", "-s", "--format=%ct", "HEAD"])
                    .current_dir(paths::root()),
            )
            .with_context(|| {
                format!("the time of the commit is unknown. Outside of git, set {EPOCH}")
            })?,
        };
        let epoch = epoch.trim();
        let epoch: u64 = epoch.parse().with_context(|| {
            format!("{EPOCH} is to be a number of seconds since 1970, not {epoch:?}")
        })?;
        let mut date = Command::new("date");
        date.args(["--utc", &format!("--date=@{epoch}"), "+%Y-%m-%dT%H:%M:%SZ"]);
        Ok(Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            epoch,
            time: sh::output(&mut date)?.trim().to_owned(),
        })
    }
}
