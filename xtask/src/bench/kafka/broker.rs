//! The brokers that are measured: started on a core of their own, asked what they used.

use std::{
    fs,
    io::{self, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use crate::{test, workspace};

const CORE: usize = 0;
const START: Duration = Duration::from_secs(90);

/// Which broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Headwater,
    /// As it comes: acknowledged once in the page cache.
    Kafka,
    /// Each append synced before it is acknowledged.
    KafkaFlush,
}

impl Kind {
    pub(super) const ALL: [Self; 3] = [Self::Headwater, Self::Kafka, Self::KafkaFlush];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Headwater => "Headwater",
            Self::Kafka => "Apache Kafka 4.3.0, no sync",
            Self::KafkaFlush => "Apache Kafka 4.3.0, flush.messages=1",
        }
    }
}

/// A running broker; ends with it.
#[derive(Debug)]
pub(super) struct Broker {
    kind: Kind,
    child: Child,
    pub(super) address: SocketAddr,
}

/// What it has used so far.
#[derive(Clone, Copy, Debug)]
pub(super) struct Usage {
    pub(super) cpu_s: f64,
    pub(super) rss_kib: u64,
    pub(super) peak_kib: u64,
}

impl Usage {
    pub(super) fn since(&self, before: &Self) -> Self {
        Self { cpu_s: self.cpu_s - before.cpu_s, ..*self }
    }
}

/// A command that stays on one core.
pub(super) fn pinned(core: usize, program: &Path) -> Command {
    let mut command = Command::new("taskset");
    command.args(["--cpu-list", &core.to_string()]).arg(program);
    command
}

impl Broker {
    /// Starts it; how long it took from exec to the first acknowledged record.
    pub(super) fn start(kind: Kind, folder: &Path) -> Result<(Self, Duration)> {
        let address = free_port()?;
        let mut command = match kind {
            Kind::Headwater => headwater(folder, address)?,
            Kind::Kafka | Kind::KafkaFlush => kafka(folder, address)?,
        };
        let log = fs::File::create(folder.join("broker.log"))?;
        command.stdout(log.try_clone()?).stderr(log).process_group(0);
        let started = Instant::now();
        let child = command.spawn().context("cannot start the broker")?;
        let mut broker = Self { kind, child, address };
        let connected = broker.connect(started)?;
        let first_ack = broker.first_ack(connected, started)?;
        Ok((broker, first_ack))
    }

    /// Creates a topic with one partition and this broker's settings.
    pub(super) fn create_topic(&self, name: &str) -> Result<()> {
        let config: &[(&str, &str)] = match self.kind {
            Kind::KafkaFlush => &[("flush.messages", "1")],
            Kind::Headwater | Kind::Kafka => &[],
        };
        let mut stream = TcpStream::connect(self.address)?;
        stream.set_read_timeout(Some(START))?;
        let answer = ask(&mut stream, &create_request(name, config))?;
        // Correlation id, throttle time, one topic of that name, then the error code.
        let at = 4 + 4 + 4 + 2 + name.len();
        match answer.get(at..at + 2) {
            Some([0, 0]) => Ok(()),
            _ => bail!("topic {name} was not created: {answer:02x?}"),
        }
    }

    /// Opens connections that say nothing but hello.
    pub(super) fn connections(&self, count: usize) -> Result<Vec<TcpStream>> {
        (0..count)
            .map(|_| {
                let mut stream = TcpStream::connect(self.address)?;
                stream.set_read_timeout(Some(START))?;
                ask(&mut stream, &request(18, 0, &[]))?;
                Ok(stream)
            })
            .collect()
    }

    /// What it used since its start.
    pub(super) fn usage(&self) -> Result<Usage> {
        let process = self.child.id();
        let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
        // Behind the name, which may hold anything: utime and stime are the 12th and 13th fields.
        let behind = stat.rsplit(')').next().unwrap_or_default();
        let ticks: f64 =
            behind.split_whitespace().skip(11).take(2).flat_map(str::parse::<f64>).sum();
        let status = fs::read_to_string(format!("/proc/{process}/status"))?;
        let kib = |key: &str| -> Result<u64> {
            let line = status.lines().find_map(|line| line.strip_prefix(key)).context("ended")?;
            Ok(line.trim().trim_end_matches(" kB").parse()?)
        };
        let hertz = 100.0;
        Ok(Usage { cpu_s: ticks / hertz, rss_kib: kib("VmRSS:")?, peak_kib: kib("VmHWM:")? })
    }

    /// Ends it.
    pub(super) fn stop(&mut self) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait().map(drop)
    }

    fn connect(&mut self, started: Instant) -> Result<TcpStream> {
        loop {
            match TcpStream::connect(self.address) {
                Ok(stream) => return Ok(stream),
                Err(error) if started.elapsed() > START => {
                    return Err(error).context("the broker does not listen");
                }
                Err(_) => std::thread::sleep(Duration::from_micros(200)),
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("the broker ended with {status}");
            }
        }
    }

    /// Creates a topic, then produces one record until it is acknowledged: Kafka takes a while to elect a leader.
    fn first_ack(&self, mut stream: TcpStream, started: Instant) -> Result<Duration> {
        stream.set_read_timeout(Some(START))?;
        while self.create_topic("first").is_err() && started.elapsed() < START {
            std::thread::sleep(Duration::from_millis(1));
        }
        loop {
            let answer = ask(&mut stream, &super::super::smoke::produce_request("first"));
            // Correlation id, one topic of that name with one partition: index, then the error code.
            let at = 4 + 4 + 2 + "first".len() + 4 + 4;
            match answer.as_deref().ok().and_then(|answer| answer.get(at..at + 2)) {
                Some([0, 0]) => return Ok(started.elapsed()),
                _ if started.elapsed() > START => bail!("nothing is acknowledged: {answer:02x?}"),
                _ => std::thread::sleep(Duration::from_millis(1)),
            }
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // It may be gone already, which is what is wanted.
        let _ = self.stop();
    }
}

fn headwater(folder: &Path, address: SocketAddr) -> Result<Command> {
    let [device, http] = [free_port()?, free_port()?];
    let config = folder.join("headwater.toml");
    let text = format!(
        "[storage]\npath = {:?}\nmax_bytes = \"16 GiB\"\n[kafka]\nlisten = \"{address}\"\n[device]\nlisten = \
         \"{device}\"\n[http]\nlisten = \"{http}\"\n",
        folder.join("data")
    );
    fs::write(&config, text)?;
    let mut command = pinned(CORE, &workspace::target().join("release/headwater"));
    command.arg("serve").arg("--config").arg(config);
    Ok(command)
}

fn kafka(folder: &Path, address: SocketAddr) -> Result<Command> {
    let controller = free_port()?;
    let properties = folder.join("server.properties");
    let text = format!(
        "process.roles=broker,controller\nnode.id=1\ncontroller.quorum.voters=1@{controller}\n\
         listeners=PLAINTEXT://{address},CONTROLLER://{controller}\n\
         advertised.listeners=PLAINTEXT://{address}\ncontroller.listener.names=CONTROLLER\n\
         log.dirs={}\noffsets.topic.replication.factor=1\n\
         transaction.state.log.replication.factor=1\ntransaction.state.log.min.isr=1\n",
        folder.join("logs").display()
    );
    fs::write(&properties, text)?;
    let libs: PathBuf = test::kafka_libs().join("*");
    let mut format = Command::new("java");
    format.arg("-cp").arg(&libs).args(["kafka.tools.StorageTool", "format", "-t"]);
    format.args(["4L6g3nShT-eMCtK--X86sw", "-c"]).arg(&properties).stdout(Stdio::null());
    if !format.status()?.success() {
        bail!("Kafka's folder could not be formatted");
    }
    let mut command = pinned(CORE, Path::new("java"));
    // As kafka-server-start.sh does.
    command.args(["-Xmx1G", "-Xms1G", "-server", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20", "-cp"]);
    command.arg(&libs).arg("kafka.Kafka").arg(properties);
    Ok(command)
}

/// A request without a client id, in the old encoding.
fn request(key: i16, version: i16, body: &[u8]) -> Vec<u8> {
    let mut frame = ((10 + body.len()) as i32).to_be_bytes().to_vec();
    frame.extend_from_slice(&key.to_be_bytes());
    frame.extend_from_slice(&version.to_be_bytes());
    frame.extend_from_slice(&1i32.to_be_bytes());
    frame.extend_from_slice(&(-1i16).to_be_bytes());
    frame.extend_from_slice(body);
    frame
}

/// CreateTopics version 2: one topic, one partition, one replica.
fn create_request(name: &str, config: &[(&str, &str)]) -> Vec<u8> {
    let mut body = 1i32.to_be_bytes().to_vec();
    let string = |body: &mut Vec<u8>, text: &str| {
        body.extend_from_slice(&(text.len() as i16).to_be_bytes());
        body.extend_from_slice(text.as_bytes());
    };
    string(&mut body, name);
    body.extend_from_slice(&1i32.to_be_bytes());
    body.extend_from_slice(&1i16.to_be_bytes());
    body.extend_from_slice(&0i32.to_be_bytes());
    body.extend_from_slice(&(config.len() as i32).to_be_bytes());
    for (key, value) in config {
        string(&mut body, key);
        string(&mut body, value);
    }
    body.extend_from_slice(&30_000i32.to_be_bytes());
    body.push(0); // not only validated
    request(19, 2, &body)
}

fn ask(stream: &mut TcpStream, request: &[u8]) -> io::Result<Vec<u8>> {
    stream.write_all(request)?;
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let mut answer = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut answer)?;
    Ok(answer)
}

fn free_port() -> io::Result<SocketAddr> {
    TcpListener::bind("127.0.0.1:0")?.local_addr()
}
