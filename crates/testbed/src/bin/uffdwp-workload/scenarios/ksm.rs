//! KSM merges pages with the same content.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rustix::mm::Advice;

use super::forks::CHILD;
use super::ground::GroundMaker;
use super::{ScenarioAct, TestScenario, scenario};
use crate::needs::SkipReason;

pub const SCENARIOS: &[TestScenario] = &[scenario("ksm", merge)];

const PATIENCE: Duration = Duration::from_secs(120);

/// Fewer than may share one page (`max_page_sharing`).
const PAGES: u64 = 64;

fn merge(grounds: &mut GroundMaker) -> Result<ScenarioAct> {
    grounds.may_change_machine("/sys/kernel/mm/ksm")?;
    if merged().is_err() {
        return Err(
            SkipReason::Kernel("this kernel has no KSM, or does not show it".to_owned()).into(),
        );
    }
    let area = grounds.anonymous(PAGES)?;
    (0..PAGES).for_each(|page| area.store(page, 0x5a5a_5a5a));
    let ground = GroundMaker::whole(area);
    Ok(Box::new(move || {
        let _held = CHILD.lock();
        ground.area.advise(Advice::LinuxMergeable)?;
        let _pages = KsmSetting::set("pages_to_scan", "1000")?;
        let _run = KsmSetting::set("run", "1")?;
        let begin = Instant::now();
        while merged()? < PAGES {
            ensure!(begin.elapsed() < PATIENCE, "KSM merged {}", merged()?);
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(ground)
    }))
}

/// How many pages of this process KSM has merged.
fn merged() -> Result<u64> {
    let text = fs::read_to_string("/proc/self/ksm_merging_pages")?;
    Ok(text.trim().parse()?)
}

/// A setting of KSM, restored when this is dropped.
struct KsmSetting {
    path: String,
    before: String,
}

impl KsmSetting {
    fn set(name: &str, value: &str) -> Result<Self> {
        let path = format!("/sys/kernel/mm/ksm/{name}");
        let before = fs::read_to_string(&path)?;
        fs::write(&path, value).with_context(|| format!("cannot set {path}"))?;
        Ok(Self { path, before })
    }
}

impl Drop for KsmSetting {
    fn drop(&mut self) {
        // There is nobody to report a failure to.
        let _ = fs::write(&self.path, self.before.trim());
    }
}
