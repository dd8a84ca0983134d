//! Go: franz-go and sarama, where Go is new enough for them.

use headwater_tests::clients;

use super::{COMMON, OTHER_CODECS, SETTINGS};

#[test]
fn go_franz() {
    run("franz");
}

#[test]
fn go_sarama() {
    run("sarama");
}

fn run(client: &str) {
    if !clients::has_go() {
        println!("absent: go");
        return;
    }
    let expected = [&COMMON[..], &OTHER_CODECS[..], &[SETTINGS]].concat();
    super::run(&expected, |broker| clients::go(client, broker));
}
