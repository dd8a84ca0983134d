//! Node: kafkajs.

use headwater_tests::clients;

use super::{COMMON, SETTINGS};

#[test]
fn node_kafkajs() {
    let expected = [&COMMON[..], &[SETTINGS]].concat();
    super::run(&expected, |broker| clients::node("kafkajs_client.js", broker));
}
