//! Python: confluent-kafka (on librdkafka), kafka-python and aiokafka.

use std::path::Path;

use headwater_tests::clients;

use super::{COMMON, OTHER_CODECS, SETTINGS};

#[test]
fn python_confluent_kafka() {
    run(
        "confluent_client.py",
        &["a group of two, roundrobin", "a group of two, cooperative-sticky"],
    );
}

#[test]
fn python_kafka_python() {
    run("kafka_python_client.py", &[]);
}

#[test]
fn python_aiokafka() {
    run("aiokafka_client.py", &[]);
}

fn run(script: &str, more: &[&str]) {
    let expected = [&COMMON[..], &OTHER_CODECS[..], &[SETTINGS], more].concat();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("python").join(script);
    super::run(&expected, |broker| clients::python(&script, broker));
}
