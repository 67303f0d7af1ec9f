//! A process most of whose memory is not there.

use std::process::{Command, Stdio};

use pages::strategy::StrategyName;
use testbed::inject::InjectTarget;
use testbed::script::{ANON, refused};

/// Markers would take 200 MiB of page tables for 100 GiB that nobody has touched.
#[test]
fn sparse_memory_is_tracked_at_fault_time_where_that_works() {
    let works = refused(StrategyName::FaultTime, ANON).is_none();
    let target = InjectTarget::until_asked("reserve");
    let tables = || uffd::page_table_bytes(target.pid()).unwrap().unwrap();
    let before = tables();
    let output = Command::new(testbed::program("tracker"))
        .args(["track", "--json", "--rounds=1", "--interval=100ms", "--pid"])
        .arg(target.pid().to_string())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8_lossy(&output.stdout);
    let header: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    let reason = header["reason"].as_str().unwrap();
    let taken = "markers would take 200 MiB of page tables";
    if works {
        assert_eq!(header["strategy"], "fault-time", "{header}");
        assert!(reason.contains(taken), "{reason}");
        assert!(tables() < before + (1 << 20));
    } else {
        assert_ne!(header["strategy"], "fault-time", "{header}");
        assert!(reason.contains("not fault-time: "), "{reason}");
    }
}
