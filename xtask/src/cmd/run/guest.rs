//! The demo in a virtual machine; the port leads into it.

use std::time::Duration;

use anyhow::{Result, bail};

use super::{DemoSite, WORKLOAD_ARGUMENTS};
use crate::{
    cargo::{BuiltProgram, OwnProgram},
    cmd::guest_programs,
    setup::kernels::GuestKernel,
    vm::{RunningGuest, VmRun},
};

/// Agent and workload in a virtual machine.
pub struct GuestDemo {
    guest: RunningGuest,
    output: Vec<String>,
}

impl GuestDemo {
    /// Boots `kernel` with a script that starts the agent, and the workload once the agent is
    /// ready.
    pub fn start(kernel: &GuestKernel, programs: &[BuiltProgram], port: u16) -> Result<Self> {
        let mut vm = VmRun::new(&format!("run-{}", kernel.label), kernel);
        vm.files = guest_programs(programs, "/bin")?;
        vm.forward = Some(port);
        vm.command = Some(format!(
            "tracker agent --web.listen-address 0.0.0.0:{port} &\n\
             until wget -q -O /dev/null http://127.0.0.1:{port}/readyz; do sleep 0.2; done\n\
             {} {} &\nwait\n",
            OwnProgram::Workload.name(),
            WORKLOAD_ARGUMENTS.join(" ")
        ));
        eprintln!("{:>8} {} in QEMU", "boot", kernel.release);
        Ok(Self {
            guest: vm.spawn()?,
            output: Vec::new(),
        })
    }
}

impl DemoSite for GuestDemo {
    // An emulated guest boots first.
    fn ready_timeout(&self) -> Duration {
        Duration::from_secs(180)
    }

    fn check(&mut self) -> Result<()> {
        self.output.extend(self.guest.new_lines());
        if self.guest.is_running() {
            return Ok(());
        }
        bail!(
            "{}",
            self.guest
                .explain("the virtual machine ended", &self.output)
        );
    }

    // The guest's script does.
    fn start_workload(&mut self) -> Result<()> {
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        self.output.extend(self.guest.new_lines());
        self.guest.kill(&self.output)?;
        eprintln!("{:>8} the virtual machine ended", "done");
        Ok(())
    }
}
