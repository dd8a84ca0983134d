//! confluent-kafka in Python, unmodified.

use std::path::Path;

use headwater_tests::{clients, gateway::Gateway, kcat, permit};

#[test]
fn python_client_produces_consumes_and_keeps_offsets_over_a_sigkill() {
    let _permit = permit::waiting();
    let folder = tempfile::tempdir().unwrap();
    let mut gateway = Gateway::start(folder.path(), "");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/round_trip.py");
    let run = |gateway: &Gateway, phase: &str| {
        let printed = kcat::run(clients::python(&script, gateway.kafka).arg(phase));
        assert_eq!(printed.trim(), format!("{phase}: 500 read"));
    };
    run(&gateway, "before");
    gateway.kill();
    gateway.restart();
    run(&gateway, "after");
    assert_eq!(kcat::consume(gateway.kafka, "python").len(), 1000);
}
