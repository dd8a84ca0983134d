//! The allocator of a gateway that was just started by hand.

use headwater_tests::{gateway::Gateway, permit};

#[test]
fn a_gateway_limits_its_allocator_and_stays_the_process_that_was_started() {
    let _permit = permit::waiting();
    let folder = tempfile::tempdir().unwrap();
    let mut gateway = Gateway::start(folder.path(), "");
    let environment = gateway.process().environment();
    for setting in ["MALLOC_ARENA_MAX=2", "MALLOC_MMAP_THRESHOLD_=4194304"] {
        assert!(environment.contains(&setting.into()), "{environment:?}");
    }
    gateway.stop();
}
