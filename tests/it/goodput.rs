//! A device that fills its line: everything arrives, over bit errors and over a disk that stalls, which alone has nothing sent
//! again. `cargo xtask bench link` measures the same for longer.

use std::time::Duration;

use headwater_tests::{
    gateway::Gateway,
    noise::Noise,
    permit,
    random::Random,
    uart::{self, Goodput, Uart},
    workbench,
};

use crate::simulated::Simulated;

const NOISY: Duration = Duration::from_secs(5);
const ONE_IN_BITS: u64 = 100_000;
const STALLING: Duration = Duration::from_secs(10);

#[test]
fn all_that_a_full_line_carries_over_bit_errors_arrives() {
    let _permit = permit::computing();
    let folder = tempfile::tempdir().unwrap();
    let random = Random::new("goodput");
    let port = folder.path().join("tty");
    let noise = Noise::new(random.fork(1), ONE_IN_BITS);
    let mut device = Uart::<570>::new(&port, random.fork(2), Some(noise));
    let gateway = Gateway::start(folder.path(), &uart::serial_table(&port));
    let goodput = device.measure(NOISY);
    assert_arrives(device, &goodput, &gateway);
}

#[test]
fn a_disk_that_stalls_has_nothing_sent_again() {
    let _permit = permit::computing();
    let folder = tempfile::tempdir().unwrap();
    let mut random = Random::new("goodput");
    let port = folder.path().join("tty");
    let mut device = Uart::<570>::new(&port, random.fork(2), None);
    let mut simulated = Simulated::stalling(&port, random.bits());
    let goodput = device.measure(STALLING);
    assert_arrives(device, &goodput, &simulated.site(folder.path()));
    assert_eq!(goodput.retransmissions, 0, "{goodput}");
    simulated.stop_in_place();
}

fn assert_arrives<const ROWS: usize>(device: Uart<ROWS>, goodput: &Goodput, gateway: &Gateway) {
    println!("{goodput}");
    let ledger = device.drain();
    let found = workbench::compare_channels(&ledger, uart::channels(), gateway.kafka);
    assert_eq!(found.report.durable, found.report.sampled);
    // Far less than the line takes, for machines that do something else meanwhile.
    assert!(goodput.share() > 0.2, "{goodput}");
}
