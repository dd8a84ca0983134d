//! A real Apache Kafka (one KRaft node) as the central cluster, that can be killed and restarted.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{clients, kcat, ports, process::Process, wait};

/// A start on a busy machine, replay of the metadata log included.
const START: Duration = Duration::from_secs(90);

const BROKER: &str = "kafka.Kafka";
const STORAGE_TOOL: &str = "kafka.tools.StorageTool";

/// One broker that is its own controller.
#[derive(Debug)]
pub struct CentralKafka {
    folder: PathBuf,
    /// Client listener.
    pub address: SocketAddr,
    extra: String,
    process: Option<Process>,
}

impl CentralKafka {
    /// Formats a storage folder below `folder` and starts the broker.
    ///
    /// # Panics
    /// If it does not start.
    #[must_use]
    pub fn start(folder: &Path) -> Self {
        Self::start_with(folder, "")
    }

    /// Likewise, with more lines of `server.properties`.
    ///
    /// # Panics
    /// If it does not start.
    #[must_use]
    pub fn start_with(folder: &Path, extra: &str) -> Self {
        let folder = folder.join("central-kafka");
        fs::create_dir_all(&folder).expect("the test's folder is writable");
        let mut central =
            Self { folder, address: ports::reserve(), extra: extra.into(), process: None };
        fs::write(central.properties(), central.settings()).expect("the folder is writable");
        let id = kcat::run(clients::java_tool(STORAGE_TOOL, "128m").arg("random-uuid"));
        let mut format = clients::java_tool(STORAGE_TOOL, "128m");
        format.args(["format", "-t", id.trim(), "-c"]).arg(central.properties());
        kcat::run(&mut format);
        central.restart();
        central
    }

    /// Starts it again after [`CentralKafka::kill`] and waits until it answers.
    ///
    /// # Panics
    /// If it does not answer in time.
    pub fn restart(&mut self) {
        let mut command = clients::java_tool(BROKER, "512m");
        command.arg(self.properties());
        let log = self.folder.join("broker.log");
        let mut process = Process::start("Apache Kafka", &mut command, &log);
        wait::for_condition("Apache Kafka's answer", START, || {
            assert!(process.is_running(), "Apache Kafka ended: {}", process.output());
            let mut probe = std::process::Command::new("kcat");
            probe.args(["-L", "-m", "2", "-b", &self.address.to_string()]);
            probe.output().is_ok_and(|output| output.status.success())
        });
        self.process = Some(process);
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill();
        }
    }

    fn properties(&self) -> PathBuf {
        self.folder.join("server.properties")
    }

    /// Defaults but for what one node needs, and for the timeouts that make a restart after SIGKILL quick: the
    /// controller waits for the old session to end.
    fn settings(&self) -> String {
        let controller = ports::reserve();
        format!(
            "process.roles=broker,controller\nnode.id=1\ncontroller.quorum.voters=1@{controller}\n\
             listeners=PLAINTEXT://{address},CONTROLLER://{controller}\n\
             advertised.listeners=PLAINTEXT://{address}\ncontroller.listener.names=CONTROLLER\n\
             log.dirs={logs}\noffsets.topic.replication.factor=1\n\
             transaction.state.log.replication.factor=1\ntransaction.state.log.min.isr=1\n\
             offsets.topic.num.partitions=4\ntransaction.state.log.num.partitions=4\n\
             group.initial.rebalance.delay.ms=0\nbroker.session.timeout.ms=1500\n\
             broker.heartbeat.interval.ms=300\n{extra}\n",
            extra = self.extra,
            address = self.address,
            logs = self.folder.join("logs").display(),
        )
    }
}
