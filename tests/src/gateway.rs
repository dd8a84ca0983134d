//! `headwater serve` as a fixture: its folder, its ports, its kills and restarts.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use serde_json::Value;

use crate::{environment, ports, process::Process, wait};

/// Long enough for a start on a busy machine.
const START: Duration = Duration::from_secs(30);
/// The product promises 2 s; the rest is margin for a busy machine.
const STOP: Duration = Duration::from_secs(10);

/// A gateway with a folder and ports of its own.
#[derive(Debug)]
pub struct Gateway {
    folder: PathBuf,
    /// Kafka listener.
    pub kafka: SocketAddr,
    /// Device listener.
    pub device: SocketAddr,
    /// HTTP listener.
    pub http: SocketAddr,
    process: Option<Process>,
}

impl Gateway {
    /// Writes a configuration, with `extra` tables, and starts a gateway below `folder`.
    ///
    /// # Panics
    /// If it does not start.
    #[must_use]
    pub fn start(folder: &Path, extra: &str) -> Self {
        Self::start_with(folder, "", extra)
    }

    /// As [`Gateway::start`], with more lines of the table `kafka`.
    ///
    /// # Panics
    /// If it does not start.
    #[must_use]
    pub fn start_with(folder: &Path, of_kafka: &str, extra: &str) -> Self {
        let mut gateway = Self {
            folder: folder.into(),
            kafka: ports::reserve(),
            device: ports::reserve(),
            http: ports::reserve(),
            process: None,
        };
        let config = format!(
            "[storage]\npath = {data:?}\nmax_bytes = \"1 GiB\"\n[kafka]\nlisten = \"{}\"\n{of_kafka}\n[http]\nlisten = \
             \"{}\"\n[device]\nlisten = \"{}\"\n{extra}",
            gateway.kafka,
            gateway.http,
            gateway.device,
            data = folder.join("data"),
        );
        fs::write(folder.join("headwater.toml"), config).expect("the test's folder is writable");
        gateway.restart();
        gateway
    }

    /// One that somebody else runs, with the folder of its clients.
    #[must_use]
    pub fn elsewhere(
        folder: &Path,
        kafka: SocketAddr,
        device: SocketAddr,
        http: SocketAddr,
    ) -> Self {
        Self { folder: folder.into(), kafka, device, http, process: None }
    }

    /// Starts it again (after [`Gateway::kill`] or [`Gateway::stop`]) and waits until it serves.
    ///
    /// # Panics
    /// If it does not start in time, or ends instead.
    pub fn restart(&mut self) {
        self.begin();
        self.wait_ready();
    }

    /// Starts it again and does not wait: whoever kills it may find it in the middle of opening its log.
    pub fn begin(&mut self) {
        let ready = self.ready_file();
        // A file of the run before would be taken for this one's.
        let _ = fs::remove_file(&ready);
        let mut command = Command::new(environment::binary("headwater"));
        command.arg("serve").arg("--config").arg(self.folder.join("headwater.toml"));
        command.arg("--ready-file").arg(&ready).env("RUST_LOG", "info");
        let log = self.folder.join("gateway.log");
        self.process = Some(Process::start("headwater serve", &mut command, &log));
    }

    /// Waits until it serves, after [`Gateway::begin`].
    ///
    /// # Panics
    /// If it does not in time, or ends instead.
    pub fn wait_ready(&mut self) {
        let ready = self.ready_file();
        let process = self.process();
        wait::for_condition("the gateway's ready file", START, || {
            assert!(process.is_running(), "the gateway ended: {}", process.output());
            ready.exists()
        });
    }

    fn ready_file(&self) -> PathBuf {
        self.folder.join("ready.json")
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill();
        }
    }

    /// SIGTERM, and waits for the end.
    ///
    /// # Panics
    /// If it does not end in time or not with success.
    pub fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let status = process.terminate(STOP);
            assert!(status.success(), "the gateway ended with {status}: {}", process.output());
        }
    }

    /// The running process.
    ///
    /// # Panics
    /// If it was killed or stopped.
    #[must_use]
    pub fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("the gateway runs")
    }

    /// The folder that holds configuration, data and log.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The status that the page shows.
    ///
    /// # Panics
    /// If it cannot be had.
    #[must_use]
    pub fn status(&self) -> Value {
        let body = self.get("/api/v1/status");
        serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error} in {body:?}"))
    }

    /// The body of an HTTP GET.
    ///
    /// # Panics
    /// If the gateway does not answer.
    #[must_use]
    pub fn get(&self, path: &str) -> String {
        let answer = http_get(self.http, path);
        let (_, body) = answer.split_once("\r\n\r\n").expect("an HTTP answer has a blank line");
        body.to_owned()
    }

    /// One past the last durable offset, summed over the partitions of a topic; 0 for an unknown topic.
    #[must_use]
    pub fn durable(&self, topic: &str) -> u64 {
        let status = self.status();
        let topics = status["topics"].as_array().cloned().unwrap_or_default();
        let partitions = topics
            .iter()
            .filter(|found| found["name"] == topic)
            .flat_map(|found| found["partitions"].as_array().cloned().unwrap_or_default());
        partitions.filter_map(|partition| partition["durable"].as_u64()).sum()
    }
}

fn http_get(address: SocketAddr, path: &str) -> String {
    let exchange = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        write!(stream, "GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    exchange().unwrap_or_else(|error| panic!("GET {path}: {error}"))
}
