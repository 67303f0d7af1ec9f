//! `slow-tracker PID`: tracks a process as `tracker track` does, but its helper pauses before each
//! step with a thread, so that a test can end either of them between two steps.

use std::process::ExitCode;
use std::time::Duration;

use pages::inject;
use pages::strategy::gather;
use pages::track::{TrackOptions, TrackSession, TrackStep};

/// Before each step, of which there are some thirty.
const PAUSE: Duration = Duration::from_millis(4);
const INTERVAL: Duration = Duration::from_millis(5);

fn main() -> anyhow::Result<ExitCode> {
    if let Some(status) = inject::slow_helper_main(PAUSE) {
        return Ok(status);
    }
    let pid = std::env::args().nth(1).unwrap_or_default().parse()?;
    let options = TrackOptions {
        strategy: None,
        detailed: false,
        max_mapping: pages::track::MAX_MAPPING,
        interval: INTERVAL,
        tracker: "slow-tracker",
        inject: inject::InjectOptions::default(),
    };
    let (mut session, _) = TrackSession::begin(pid, gather(false)?, options)?;
    while let TrackStep::Round(_) = session.step()? {
        std::thread::sleep(INTERVAL);
    }
    Ok(ExitCode::SUCCESS)
}
