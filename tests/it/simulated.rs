//! A gateway in this process, by the library's own entry, on a disk that takes its time.

use std::{
    path::Path,
    sync::{Arc, mpsc},
    thread::{self, JoinHandle},
    time::Duration,
};

use headwater::{Addresses, Config, Shutdown, journal::sim::SimDisk};
use headwater_tests::gateway::Gateway;

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
