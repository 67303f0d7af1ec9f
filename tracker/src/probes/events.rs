//! STUB until merged.
use super::HookPlan;
use std::io;
use tracker_ebpf::EventHead;
pub struct Events;
pub struct WatchId;
impl Events {
    pub fn plan(&self) -> &[HookPlan] {
        &[]
    }
    pub fn watch(&mut self, _pid: u32) -> io::Result<WatchId> {
        Ok(WatchId)
    }
    pub fn unwatch(&mut self, _w: WatchId) {}
    pub fn drain(&mut self, _each: impl FnMut(&EventHead, &[u64], &[u64])) -> io::Result<u64> {
        Ok(0)
    }
    pub fn dropped(&self) -> u64 {
        0
    }
    pub fn missed(&self) -> u64 {
        0
    }
}
