//! Installs the .deb in a guest that is a Debian under systemd, uses it as an operator does, and
//! removes it.

use std::{fmt::Write as _, path::Path, time::Duration};

use anyhow::{Context as _, Result};

use crate::{
    setup::{debian, kernels::GuestKernel, programs::ForeignProgram},
    sh,
    vm::{BootReport, DEBIAN_ROOT, GuestFile, VmRun},
};

/// How long the guest may take on a busy host.
const TIMEOUT: Duration = Duration::from_secs(1800);

/// What the steps find in /root, beside the package.
const TEXTS: [(&str, &str); 3] = [
    ("web.yml", include_str!("web.yml")),
    ("prometheus.yml", include_str!("prometheus.yml")),
    // The hash of the second password, which is: changed
    (
        "changed",
        "$2b$05$abcdefghijklmnopqrstuuZHDdPPl57vGSi2Jpi.TeOSHlzyP0rb6",
    ),
];

/// Boots `kernel` with `package` and goes through the steps; passes each line that the guest prints
/// to `progress`. The status is 0 if each of them went well.
pub fn run(kernel: &GuestKernel, package: &Path, progress: impl FnMut(&str)) -> Result<BootReport> {
    let mut run = VmRun::new(&format!("installation-{}", kernel.label), kernel);
    run.debian = debian::prepare()?;
    // Nothing here tells systemd of terminals.
    run.append = vec![
        "systemd.unit=tracker-vm.target systemd.getty_auto=no systemd.show_status=no".to_owned(),
    ];
    run.memory = "3G".to_owned();
    run.timeout = TIMEOUT;
    run.files.push(below(package, "root")?);
    for program in [ForeignProgram::Prometheus, ForeignProgram::Promtool] {
        program.prepare()?;
        run.files.push(below(&program.find()?, "usr/local/bin")?);
    }
    run.command = Some(command());
    run.run(progress)
}

/// `file` in a directory of the Debian.
fn below(file: &Path, directory: &str) -> Result<GuestFile> {
    let name = file.file_name().context("a file has a name")?;
    Ok(GuestFile {
        host: file.to_owned(),
        guest: format!("{DEBIAN_ROOT}/{directory}/{}", name.display()),
    })
}

/// The script of the guest: writes the texts, and goes through the steps.
fn command() -> String {
    let mut script = String::from("#!/bin/bash\n");
    for (file, text) in TEXTS {
        let _infallible = writeln!(script, "printf %s {} > /root/{file}", sh::quote(text));
    }
    script + include_str!("guest.sh")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::process::Command;

    use super::*;

    #[test]
    fn each_step_that_is_written_is_taken() {
        let script = include_str!("guest.sh");
        let (_, steps) = script.split_once("# --- the steps ---").unwrap();
        let written: Vec<_> = steps
            .lines()
            .filter_map(|line| line.strip_suffix("() {"))
            .filter(|name| !name.starts_with(' '))
            .collect();
        let taken: Vec<_> = steps
            .lines()
            .filter_map(|line| line.strip_prefix("step "))
            .collect();
        assert_eq!(written, taken);
        assert!(taken.len() > 10, "{taken:?}");
    }

    #[test]
    fn the_shell_understands_it() {
        let checked = sh::output(Command::new("bash").args(["-n", "-c", &command()]));
        assert_eq!(checked.unwrap(), "");
    }
}
