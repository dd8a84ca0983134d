//! The allocator of a gateway that was just started by hand.

use headwater_tests::{gateway::Gateway, permit};

#[test]
fn a_gateway_keeps_two_arenas_and_the_process_that_was_started() {
    let _permit = permit::waiting();
    let folder = tempfile::tempdir().unwrap();
    let mut gateway = Gateway::start(folder.path(), "");
    let environment = gateway.process().environment();
    assert!(environment.contains(&"MALLOC_ARENA_MAX=2".into()), "{environment:?}");
    gateway.stop();
}
