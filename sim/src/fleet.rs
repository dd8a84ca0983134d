//! A fleet: devices as tasks of one process, switched on together and ended together.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use headwater_firmware::protocol::item::Channel;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
    task::JoinSet,
    time::timeout,
};

use crate::{
    device::{Attachment, Device, Settings, Tally},
    faults::Faults,
    signal::CLIMATE,
};

/// What a fleet is to be.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Number of the first device.
    pub first: u64,
    /// How many.
    pub devices: u64,
    /// Readings a second of each device.
    pub rate_hz: f64,
    /// Readings wait this long for company in a block.
    pub linger: Duration,
    /// Where they connect.
    pub attachment: Attachment,
    /// Folder of ledgers and memories.
    pub folder: PathBuf,
    /// Sampling ends by itself after this time.
    pub life: Option<Duration>,
    /// After the end of sampling, how long the queues may take to empty.
    pub drain: Duration,
    /// Seed.
    pub seed: u64,
    /// What goes wrong.
    pub faults: Faults,
}

/// What became of a fleet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Devices that were switched on.
    pub devices: u64,
    /// Devices whose ledger, memory or pseudo-terminal failed.
    pub failed: u64,
    /// Sum over the others.
    pub tally: Tally,
}

impl Outcome {
    /// Whether all readings that were not dropped are acknowledged.
    #[must_use]
    pub fn is_acknowledged(&self) -> bool {
        self.failed == 0 && self.tally.drained == self.devices
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Tally { sampled, acknowledged, dropped, drained, reconnects, resets } = self.tally;
        write!(
            f,
            "{} devices: {sampled} sampled, {acknowledged} acknowledged, {dropped} dropped, {} with readings left, \
             {reconnects} reconnects, {resets} resets",
            self.devices,
            self.devices - drained,
        )
    }
}

/// Runs the fleet until its life, SIGINT or SIGTERM ends it.
pub async fn run(plan: Plan) -> Result<Outcome> {
    ensure!(plan.rate_hz > 0.0 && plan.rate_hz.is_finite(), "--rate must be above 0");
    fs::create_dir_all(&plan.folder)
        .with_context(|| format!("ledger folder {}", plan.folder.display()))?;
    if let Attachment::Serial(links) = &plan.attachment {
        fs::create_dir_all(links).with_context(|| format!("link folder {}", links.display()))?;
    }
    raise_file_limit(plan.devices);
    let (stop, stopped) = watch::channel(false);
    let settings = Settings {
        rate_hz: plan.rate_hz,
        linger: plan.linger,
        seed: plan.seed,
        channels: channels(plan.rate_hz),
        attachment: plan.attachment.clone(),
        drain: plan.drain,
        faults: plan.faults,
    };
    let mut lives = JoinSet::new();
    for number in plan.first..plan.first + plan.devices {
        let device = start(number, &settings, &plan.folder)?;
        lives.spawn(device.run(stopped.clone()));
    }
    let mut signals = Signals::new()?;
    match plan.life {
        Some(life) => drop(timeout(life, signals.next()).await),
        None => signals.next().await,
    }
    stop.send_replace(true);
    let mut outcome = Outcome { devices: plan.devices, ..Outcome::default() };
    loop {
        let life = tokio::select! {
            life = lives.join_next() => life,
            // A second one means now.
            () = signals.next() => break,
        };
        let Some(life) = life else { break };
        match life.context("a device's task ended early")? {
            Ok(tally) => outcome.tally += tally,
            Err(error) => {
                tracing::error!(%error, "device failed");
                outcome.failed += 1;
            }
        }
    }
    Ok(outcome)
}

fn start(number: u64, settings: &Settings, folder: &Path) -> Result<Device> {
    Device::start(number, settings.clone(), folder)
        .with_context(|| format!("device {}", crate::device::device_name(number)))
}

/// SIGINT and SIGTERM.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        let interrupt = signal(SignalKind::interrupt())?;
        Ok(Self { interrupt, terminate: signal(SignalKind::terminate())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// The channel descriptors that all devices share; they live as long as the process, as in a
/// board's flash.
#[must_use]
pub fn channels(rate_hz: f64) -> &'static [Channel<'static>] {
    let period_us = (1e6 / rate_hz).round().clamp(1.0, f64::from(u32::MAX)) as u32;
    let channels = CLIMATE.map(|quantity| Channel {
        name: quantity.name,
        unit: quantity.unit,
        mantissa: 1,
        exponent: quantity.exponent,
        width_bits: quantity.width,
        period_us,
    });
    Box::leak(Box::new(channels))
}

/// Each device has a ledger, a memory and a line; the usual soft limit of 1,024 files ends at some
/// 300 devices.
fn raise_file_limit(devices: u64) {
    let needed = devices * FILES_PER_DEVICE + FILES_BESIDE;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < needed) {
        let raised = limit.maximum.map_or(needed, |maximum| maximum.min(needed));
        if let Err(error) =
            setrlimit(Resource::Nofile, Rlimit { current: Some(raised), maximum: limit.maximum })
        {
            tracing::warn!(%error, raised, "file limit not raised");
        }
    }
}

/// Ledger, memory, line.
const FILES_PER_DEVICE: u64 = 3;
/// Everything else that a process has open.
const FILES_BESIDE: u64 = 64;
