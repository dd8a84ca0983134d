//! A device written in Python from the link's specification alone, while the gateway is killed: each reading once, in order.

use std::{
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use headwater_sim::{compare::Channel, ledger::DeviceLedger};
use headwater_tests::{
    effort,
    gateway::Gateway,
    permit,
    process::Process,
    random::Random,
    wait,
    workbench::{self, TOPIC},
};

use crate::blows::SLOW_COMMITS;

const DEVICE: &str = "python-1";
const READINGS: u64 = 10_000;
/// A dead gateway comes back after up to this.
const LONGEST_DEATH_MS: u64 = 500;
const DEADLINE: Duration = Duration::from_secs(60);

#[test]
fn a_client_made_from_the_specification_delivers_over_sigkills() {
    let _permit = permit::waiting();
    let kills = effort::count(6, 20);
    let folder = tempfile::tempdir().unwrap();
    let mut random = Random::new("link_client");
    let mut gateway = Gateway::start(folder.path(), SLOW_COMMITS);
    // Slow enough that readings come in until after the last kill.
    let mut client = start_client(&gateway, folder.path(), effort::count(1_000, 300));
    let began = Instant::now();
    let mut before = 0;
    for kill in 0..kills {
        // No life of the gateway ends before the client has found it.
        let instant = before.max((kill * READINGS + random.below(READINGS)) / (kills + 1));
        wait::for_condition("readings before the kill", DEADLINE, || {
            assert!(client.is_running(), "the client ended: {}", client.output());
            gateway.durable(TOPIC) > instant
        });
        // Anywhere between a commit and the next.
        thread::sleep(Duration::from_millis(random.below(100)));
        gateway.kill();
        thread::sleep(Duration::from_millis(random.below(LONGEST_DEATH_MS)));
        gateway.restart();
        before = gateway.durable(TOPIC);
    }
    let status = client.wait(DEADLINE);
    assert!(status.success(), "the client ended with {status}: {}", client.output());
    let output = client.output();

    let ledger = DeviceLedger::read(DEVICE, &folder.path().join("ledger")).unwrap();
    let found = workbench::compare_channels(&ledger, channels(), gateway.kafka);
    assert_eq!((found.report.sampled, found.report.durable), (READINGS, READINGS));
    assert_eq!((ledger.runs.len(), found.gap_records), (1, 0));
    // A kill that met nothing on its way would show little.
    let [connections, again] = [" connections", " sent again"].map(|what| number(&output, what));
    assert!(connections > kills && again > 0, "{output}");
    println!("shown: {kills} SIGKILLs in {:?}: {}", began.elapsed(), output.trim_end());
    gateway.stop();
}

/// With the Python of the system: it needs no package.
fn start_client(gateway: &Gateway, folder: &Path, rate_hz: u64) -> Process {
    let mut command = Command::new("python3");
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("python/link_client.py"));
    command.arg(gateway.device.to_string()).args(["--device", DEVICE]);
    command.arg("--state").arg(folder.join("state"));
    command.arg("--ledger").arg(folder.join("ledger"));
    command.args(["--readings", &READINGS.to_string(), "--rate", &rate_hz.to_string()]);
    Process::start("link_client.py", &mut command, &folder.join("client.log"))
}

/// Those of the client.
fn channels() -> Vec<Channel> {
    [("number", 1, 0), ("wave", 5, -2), ("still", 1, -1)]
        .map(|(name, mantissa, exponent)| Channel { name: name.into(), mantissa, exponent })
        .into()
}

/// The number before `what` in the client's last line.
fn number(output: &str, what: &str) -> u64 {
    let (before, _) = output.rsplit_once(what).expect("the client's last line");
    before.rsplit(' ').next().and_then(|count| count.parse().ok()).expect("a number")
}
