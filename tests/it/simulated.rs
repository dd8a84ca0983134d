//! A gateway in this process, by the library's own entry, on a disk that takes its time.

use std::{
    path::Path,
    sync::{Arc, mpsc},
    thread::{self, JoinHandle},
    time::Duration,
};

use headwater::{
    Addresses, Config, Shutdown,
    config::{SerialConfig, units::ByteSize},
    journal::sim::{CardTiming, SimDisk},
};
use headwater_tests::{gateway::Gateway, ports};

/// A gateway in this process, on a simulated disk.
pub(crate) struct Simulated {
    /// What it writes to.
    pub(crate) disk: SimDisk,
    /// Where it listens.
    pub(crate) addresses: Addresses,
    shutdown: Shutdown,
    thread: Option<JoinHandle<()>>,
}

impl Simulated {
    /// Starts one and waits until it serves.
    pub(crate) fn start(disk: SimDisk, config: Config) -> Self {
        let shutdown = Shutdown::new();
        let (ready, addresses) = mpsc::channel();
        let running = (Arc::new(disk.clone()), shutdown.clone());
        let thread = thread::spawn(move || {
            let (disk, shutdown) = running;
            let runtime = tokio::runtime::Builder::new_multi_thread();
            let runtime = { runtime }.worker_threads(2).enable_all().build().unwrap();
            let tell = |addresses: &Addresses| ready.send(*addresses).unwrap();
            runtime.block_on(headwater::run(config, disk, shutdown, tell)).unwrap();
        });
        let addresses = addresses.recv_timeout(START).expect("the gateway serves");
        Self { disk, addresses, shutdown, thread: Some(thread) }
    }

    /// One whose every sync takes half a second, with a device on `port`.
    pub(crate) fn stalling(port: &Path, seed: u64) -> Self {
        let mut config = Config::default();
        config.storage.max_bytes = Some(ByteSize::mib(256));
        config.kafka.listen = ports::reserve();
        config.device.listen = ports::reserve();
        config.http.listen = ports::reserve();
        config.device.serial = vec![SerialConfig::at(port, 115_200)];
        Self::start(SimDisk::card(STALLS, seed), config)
    }

    /// What clients ask, with the folder of theirs.
    pub(crate) fn site(&self, folder: &Path) -> Gateway {
        let Addresses { kafka, device, http } = self.addresses;
        Gateway::elsewhere(folder, kafka, device, http)
    }

    /// Stops it and gives its disk.
    pub(crate) fn stop(mut self) -> SimDisk {
        self.stop_in_place();
        self.disk.clone()
    }

    /// Stops it.
    pub(crate) fn stop_in_place(&mut self) {
        self.shutdown.request();
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the gateway does not panic");
        }
    }
}

impl Drop for Simulated {
    fn drop(&mut self) {
        self.shutdown.request();
        if let Some(thread) = self.thread.take() {
            // Its panic, if any, has been printed.
            let _ = thread.join();
        }
    }
}

const START: Duration = Duration::from_secs(60);
const STALLS: CardTiming = CardTiming {
    sync_p50: Duration::from_millis(500),
    sync_p99: Duration::from_millis(500),
    ..CardTiming::CARD
};
