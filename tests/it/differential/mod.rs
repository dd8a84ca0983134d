//! The same requests to a real Apache Kafka and to Headwater: codes and fields of the answers have to agree.
//!
//! Requests are what clients were heard to say ([`recorded`]) and what is made up in [`cases`], in every version that is
//! served. [`rules`] is the reviewed list of what may differ; whatever else does is an error here, or becomes a row of
//! DIFFERENCES.md.

mod cases;
mod compare;
mod mutants;
mod names;
mod recorded;
mod rules;
mod run;
mod side;
mod step;

use headwater_tests::{central::CentralKafka, gateway::Gateway, permit, schema::Schemas};

use self::{rules::Why, run::Run, side::Side};

/// What the gateway differs in for its own reasons and can be told not to.
const GATEWAY: &str = "group_initial_rebalance_delay = \"0 ms\"\n";
/// What Kafka would do in the middle of the test: look for old records half a minute after its start, and take a busy
/// machine for a broker that is gone.
const KAFKA: &str = "log.initial.task.delay.ms=3600000\nbroker.session.timeout.ms=60000\n";

#[test]
fn differential_kafka_and_headwater_answer_alike() {
    let _permit = permit::waiting();
    let folder = tempfile::tempdir().unwrap();
    let schemas = Schemas::load(folder.path());
    let kafka = CentralKafka::start_with(folder.path(), KAFKA);
    let gateway = Gateway::start_with(folder.path(), GATEWAY, "");
    let mut run = Run::new(Side::new(kafka.address, &schemas), Side::new(gateway.kafka, &schemas));
    cases::prepare(&mut run);
    for step in cases::all(&schemas) {
        run.step(&step);
    }
    for step in recorded::all(&schemas, cases::served_by_name()) {
        run.step(&step);
    }
    run.finish();
}

/// A difference that the test allows is one that users are told of.
#[test]
fn differential_rules_name_rows_of_the_differences() {
    let listed = include_str!("../../../gateway/src/kafka/DIFFERENCES.md");
    for rule in rules::RULES {
        if let Why::Listed(row) = rule.why {
            assert!(listed.contains(&format!("| {row}")), "no row begins with {row:?}: {rule:?}");
        }
    }
}
