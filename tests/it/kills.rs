//! SIGKILL at random instants under Kafka load: nothing acknowledged is lost, no offset is doubled.

use std::{fs, path::Path, process::Command, thread, time::Duration};

use headwater_tests::{
    effort, environment, gateway::Gateway, permit, process::Process, random::Random,
};

/// A life of the gateway lasts up to this, from its first instant on, so that some kills hit the opening.
const LONGEST_LIFE_MS: u64 = 1_000;
/// One in so many kills comes before anybody is served.
const EARLY_ONE_IN: u64 = 5;
const EARLY_MS: u64 = 60;
/// A dead gateway comes back after up to this.
const LONGEST_DEATH_MS: u64 = 50;
/// For the producers to finish what they began, and the comparison.
const VERDICT: Duration = Duration::from_secs(120);
/// Less would mean that the kills met an idle gateway.
const RECORDS_PER_KILL: u64 = 20;

/// Small segments, so that kills meet the change from one to the next.
const SMALL_SEGMENTS: &str =
    "[journal]\nsegment_bytes = \"2 MiB\"\n[topics.orders]\npartitions = 4\n";

#[test]
fn sigkill_at_random_instants_loses_and_doubles_nothing() {
    let _permit = permit::waiting();
    let kills = effort::count(50, 200);
    let folder = tempfile::tempdir().unwrap();
    let mut random = Random::new("kills");
    let mut gateway = Gateway::start(folder.path(), SMALL_SEGMENTS);
    let mut ledger = Ledger::start(folder.path(), &gateway, random.bits());
    for _ in 0..kills {
        let is_early = random.below(EARLY_ONE_IN) == 0;
        let life = random.below(if is_early { EARLY_MS } else { LONGEST_LIFE_MS });
        thread::sleep(Duration::from_millis(life));
        gateway.kill();
        assert!(ledger.process.is_running(), "the ledger ended: {}", ledger.process.output());
        thread::sleep(Duration::from_millis(random.below(LONGEST_DEATH_MS)));
        gateway.begin();
        if !is_early {
            gateway.wait_ready();
        }
    }
    gateway.wait_ready();
    let verdict = ledger.verdict();
    let segments = &gateway.status()["journal"]["segments"];
    println!("shown: {kills} kills, {segments} segments; {verdict}");
    let acknowledged: u64 = verdict.split(' ').next().unwrap().parse().unwrap();
    assert!(acknowledged >= kills * RECORDS_PER_KILL, "only {acknowledged} records");
    gateway.stop();
}

/// The ledger's process.
struct Ledger {
    process: Process,
    until: std::path::PathBuf,
}

impl Ledger {
    fn start(folder: &Path, gateway: &Gateway, seed: u64) -> Self {
        let until = folder.join("enough");
        let mut command = Command::new(environment::binary("headwater-ledger"));
        command.args(["--broker", &gateway.kafka.to_string(), "--topic", "orders"]);
        command.arg("--books").arg(folder.join("books")).arg("--until").arg(&until);
        command.env("HEADWATER_SEED", seed.to_string());
        let process = Process::start("ledger", &mut command, &folder.join("ledger.log"));
        Self { process, until }
    }

    /// Lets the producers finish, and gives what the ledger found, which is without defects.
    fn verdict(mut self) -> String {
        fs::write(&self.until, "").unwrap();
        let status = self.process.wait(VERDICT);
        let output = self.process.output();
        assert!(status.success(), "the ledger ended with {status}: {output}");
        let line = output.lines().find_map(|line| line.strip_prefix("verdict: "));
        line.expect("a verdict").to_owned()
    }
}
