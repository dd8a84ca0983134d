//! Fleets against a stand-in for the gateway, whose connections are cut: ledgers must equal its
//! log.

mod gateway;

use std::{fs, path::Path, time::Duration};

use headwater_sim::{
    compare::{Channel, Comparison, Report},
    device::Attachment,
    faults::Faults,
    fleet::{self, Outcome, Plan},
    signal::CLIMATE,
    verify::read_ledgers,
};

use gateway::Gateway;

fn plan(attachment: Attachment, folder: &Path) -> Plan {
    Plan {
        first: 1,
        devices: 20,
        rate_hz: 50.0,
        linger: Duration::from_millis(100),
        attachment,
        folder: folder.to_owned(),
        life: Some(Duration::from_millis(1_500)),
        drain: Duration::from_secs(10),
        seed: 7,
        faults: Faults::default(),
    }
}

fn compare(folder: &Path, gateway: &Gateway) -> Report {
    let channels = CLIMATE.map(|quantity| Channel {
        name: quantity.name.into(),
        mantissa: 1,
        exponent: quantity.exponent.into(),
    });
    let ledgers = read_ledgers(folder).expect("ledgers");
    let mut comparison = Comparison::new(ledgers, channels.into());
    for logged in gateway.log() {
        comparison.observe(&logged);
    }
    comparison.finish()
}

fn check(folder: &Path, gateway: &Gateway, outcome: Outcome) -> Report {
    let report = compare(folder, gateway);
    assert!(outcome.is_acknowledged(), "{outcome}");
    assert_eq!(report.defects(), 0, "{report} {:?}", report.examples);
    assert_eq!(report.durable, report.sampled, "{report}");
    report
}

#[tokio::test(flavor = "multi_thread")]
async fn every_reading_arrives_once_though_the_gateway_goes_away() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let gateway = Gateway::start().await;
    let fleet = tokio::spawn(fleet::run(plan(Attachment::Tcp(gateway.address()), folder.path())));
    for _ in 0..2 {
        gateway.until_logged(200).await;
        gateway.cut();
    }
    let outcome = fleet.await.expect("no panic").expect("fleet ran");
    let report = check(folder.path(), &gateway, outcome);
    assert!(report.sampled > 1_000 && outcome.tally.reconnects >= 20, "{outcome}");
    assert_eq!(outcome.tally.acknowledged, outcome.tally.sampled);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_arrives_over_damage_cuts_resets_and_erased_memories_is_what_the_ledgers_say() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let gateway = Gateway::start().await;
    let mut plan = plan(Attachment::Tcp(gateway.address()), folder.path());
    plan.life = Some(Duration::from_secs(3));
    plan.faults = Faults {
        bit_errors: 2e-5,
        cuts: Some(Duration::from_millis(700)),
        resets: Some(Duration::from_millis(900)),
        erasures: 0.3,
    };
    let outcome = fleet::run(plan).await.expect("fleet ran");
    let report = compare(folder.path(), &gateway);
    assert!(outcome.is_acknowledged(), "{outcome}");
    assert!(outcome.tally.resets > 20 && outcome.tally.reconnects > 20, "{outcome}");
    assert_eq!(report.defects(), 0, "{report} {:?}", report.examples);
    assert!(report.durable > report.sampled / 2, "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_started_again_is_the_same_devices_in_their_next_boot() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let gateway = Gateway::start().await;
    for boot in 1..=2 {
        let mut plan = plan(Attachment::Tcp(gateway.address()), folder.path());
        plan.devices = 3;
        plan.life = Some(Duration::from_millis(500));
        let outcome = fleet::run(plan).await.expect("fleet ran");
        check(folder.path(), &gateway, outcome);
        for ledger in read_ledgers(folder.path()).expect("ledgers") {
            assert_eq!(ledger.runs.len(), boot);
            let run = &ledger.runs[boot - 1];
            assert_eq!((run.boot, &run.streams), (boot as u64, &ledger.runs[0].streams));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_on_pseudo_terminals_waits_for_its_gateway_and_survives_replugging() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let links = folder.path().join("links");
    let mut plan = plan(Attachment::Serial(links.clone()), folder.path());
    plan.devices = 2;
    let gateway = Gateway::start().await;
    let fleet = tokio::spawn(fleet::run(plan));
    let ports = ["sim-000001", "sim-000002"].map(|name| links.join(name));
    for _ in 0..3 {
        gateway.plug(&ports).await;
        gateway.until_logged(40).await;
        gateway.cut();
    }
    gateway.plug(&ports).await;
    let outcome = fleet.await.expect("no panic").expect("fleet ran");
    check(folder.path(), &gateway, outcome);
    assert!(ports.iter().all(|port| fs::symlink_metadata(port).is_err()), "links are gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn readings_that_nobody_acknowledged_show_in_the_outcome() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let gateway = Gateway::start().await;
    let mut plan = plan(Attachment::Tcp(gateway.address()), folder.path());
    drop(gateway);
    plan.devices = 2;
    plan.life = Some(Duration::from_millis(200));
    plan.drain = Duration::from_millis(100);
    let outcome = fleet::run(plan).await.expect("fleet ran");
    assert!(!outcome.is_acknowledged() && outcome.tally.sampled > 10, "{outcome}");
}
