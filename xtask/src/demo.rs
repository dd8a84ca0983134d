//! `cargo demo`: builds release, starts a gateway in a temporary folder and a simulated fleet,
//! shows what happens.
//!
//! Two processes of this program: the outer one builds and then only waits; the inner one, in a
//! process group of its own, owns gateway, fleets and folder. It notices by the end of its standard
//! input that the outer one is gone, whatever ended it (Ctrl-C, a closed terminal, a kill), and
//! stops everything in order.

mod workspace;

use std::{
    env, fs,
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// Starts a gateway and a fleet of simulated devices, and shows their readings become durable.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "cargo demo --",
    after_help = "Example: cargo demo -- --seconds 20\n\
                  Everything lives in a temporary folder and is gone afterwards. Ctrl-C ends the demo."
)]
struct Options {
    /// End by itself after so many seconds of sampling and compare every device's ledger with the
    /// log.
    #[arg(long, value_name = "N")]
    seconds: Option<u64>,
    /// Simulated devices over TCP.
    #[arg(long, value_name = "N", default_value_t = 50)]
    devices: u32,
    /// Simulated devices over pseudo-terminals, as a gateway sees a board on USB or a UART.
    #[arg(long, value_name = "N", default_value_t = 2)]
    serial: u32,
    /// Readings a second of each device.
    #[arg(long, value_name = "HZ", default_value_t = 10.0)]
    rate: f64,
    /// A central Apache Kafka that the readings are carried to.
    #[arg(long, value_name = "HOST:PORT")]
    central: Option<String>,
    /// The inner process.
    #[arg(long, hide = true)]
    inner: bool,
}

fn main() -> ExitCode {
    // `cargo demo -- --seconds 20` hands its own `--` on, since the alias has one already.
    let arguments: Vec<String> =
        env::args().enumerate().filter(|(n, a)| *n != 1 || a != "--").map(|(_, a)| a).collect();
    let options = Options::parse_from(&arguments);
    let outcome = if options.inner { inner(&options) } else { outer(&arguments) };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn outer(arguments: &[String]) -> Result<bool> {
    // Asked before the build, which may take long: a file replaced meanwhile has no path any more.
    let program = env::current_exe()?;
    let built = workspace::cargo(&["build", "--release", "--workspace", "--bins"])
        .status()
        .context("cargo could not be started")?;
    ensure!(built.success(), "the build failed");
    let mut inner = Command::new(program)
        .args(arguments.iter().skip(1))
        .arg("--inner")
        .stdin(Stdio::piped())
        .process_group(0)
        .spawn()?;
    // `wait` would close the pipe, which is how the inner process knows that this one lives.
    let lifeline = inner.stdin.take();
    let status = inner.wait()?;
    drop(lifeline);
    Ok(status.success())
}

/// What the main loop waits for.
enum Note {
    /// The outer process is gone.
    OuterGone,
    /// A line that a fleet printed.
    Line(String),
}

fn inner(options: &Options) -> Result<bool> {
    let (notes, noted) = channel();
    watch_outer(notes.clone());
    let folder = tempfile::Builder::new().prefix("headwater-demo-").tempdir()?;
    let mut demo = Demo::start(options, folder.path(), &notes)?;
    let good = demo.follow(options, &noted);
    let stopped = demo.stop();
    Ok(good? && stopped)
}

fn watch_outer(notes: Sender<Note>) {
    thread::spawn(move || {
        let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
        let _ = notes.send(Note::OuterGone);
    });
}

/// The processes of the demo; dropping it ends them, so that an early return leaves none behind.
struct Demo {
    programs: PathBuf,
    folder: PathBuf,
    gateway: Child,
    addresses: Addresses,
    fleets: Vec<Child>,
    devices: u32,
}

/// Where the gateway listens.
struct Addresses {
    kafka: String,
    device: String,
    http: SocketAddr,
}

impl Demo {
    fn start(options: &Options, folder: &Path, notes: &Sender<Note>) -> Result<Self> {
        let programs = workspace::target().join("release");
        let links = folder.join("serial");
        fs::create_dir_all(folder.join("ledgers"))?;
        fs::create_dir_all(&links)?;
        let mut fleets =
            Fleets { options, programs: &programs, folder, notes, running: Vec::new() };
        let tcp = options.devices;
        if options.serial > 0 {
            let links = links.to_str().context("temporary folder is not UTF-8")?;
            fleets.start(tcp + 1, options.serial, &["--pty", "--links", links])?;
        }
        let ports = (1..=options.serial).map(|n| links.join(format!("sim-{:06}", tcp + n)));
        let ports: Vec<PathBuf> = ports.collect();
        wait_until("serial links", || Ok(ports.iter().all(|port| port.exists()).then_some(())))?;
        let config = folder.join("headwater.toml");
        fs::write(&config, gateway_config(options, folder, &ports))?;
        let (gateway, addresses) = start_gateway(&programs, folder, &config)?;
        let running = std::mem::take(&mut fleets.running);
        let mut demo = Self {
            programs: programs.clone(),
            folder: folder.to_owned(),
            gateway,
            addresses,
            fleets: running,
            devices: tcp + options.serial,
        };
        if tcp > 0 {
            fleets.start(1, tcp, &["--connect", &demo.addresses.device])?;
            demo.fleets.append(&mut fleets.running);
        }
        println!("dashboard  http://{}/", demo.addresses.http);
        println!("kafka      {}   (topic readings)", demo.addresses.kafka);
        println!(
            "fleet      {tcp} devices over TCP, {} over serial, {} readings/s each",
            options.serial, options.rate
        );
        if options.seconds.is_none() {
            println!("Ctrl-C ends the demo.");
        }
        Ok(demo)
    }

    /// One status line a second until the end; whether everything agreed.
    fn follow(&mut self, options: &Options, noted: &Receiver<Note>) -> Result<bool> {
        let mut last = (Instant::now(), 0);
        let mut next = Instant::now() + STATUS_EVERY;
        // Fleets print one summary line each when they end.
        let mut summaries = Vec::new();
        loop {
            match noted.recv_timeout(next.saturating_duration_since(Instant::now())) {
                Ok(Note::OuterGone) => return Ok(false),
                Ok(Note::Line(line)) => summaries.push(line),
                Err(RecvTimeoutError::Disconnected) => bail!("the fleets' output ended early"),
                Err(RecvTimeoutError::Timeout) => {
                    next += STATUS_EVERY;
                    self.print_status(&mut last);
                    if let Some(status) = self.gateway.try_wait()? {
                        bail!("the gateway ended by itself: {status}; {}", self.gateway_log());
                    }
                }
            }
            if self.fleets_ended()? {
                break;
            }
        }
        for note in noted.try_iter() {
            if let Note::Line(line) = note {
                summaries.push(line);
            }
        }
        summaries.iter().for_each(|line| println!("{line}"));
        let mut good = options.seconds.is_some();
        for fleet in &mut self.fleets {
            good &= fleet.wait()?.success();
        }
        Ok(self.verify()? && good)
    }

    fn fleets_ended(&mut self) -> Result<bool> {
        let mut ended = true;
        for fleet in &mut self.fleets {
            ended &= fleet.try_wait()?.is_some();
        }
        Ok(ended)
    }

    /// `last`: when, and how many readings were durable then.
    fn print_status(&self, last: &mut (Instant, u64)) {
        let now = Instant::now();
        let Ok(status) = fetch_status(self.addresses.http) else {
            println!("the gateway does not answer");
            return;
        };
        let seconds = now.duration_since(last.0).as_secs_f64().max(0.001);
        let rate = status.durable.saturating_sub(last.1) as f64 / seconds;
        let uplink = status.uplink_lag.map_or(String::new(), |lag| format!(", uplink lag {lag}"));
        println!(
            "{rate:>7.0} readings/s   durable {}   lag {}{uplink}   {}/{} devices",
            status.durable,
            status.written.saturating_sub(status.durable),
            status.connected,
            self.devices,
        );
        *last = (now, status.durable);
    }

    fn verify(&self) -> Result<bool> {
        let ledgers = self.folder.join("ledgers");
        let status = Command::new(self.programs.join("headwater-sim"))
            .arg("verify")
            .arg("--ledgers")
            .arg(ledgers)
            .args(["--bootstrap", &self.addresses.kafka, "--topic", "readings"])
            .stdin(Stdio::null())
            .status()
            .context("headwater-sim verify could not be started")?;
        Ok(status.success())
    }

    /// Ends fleets, then the gateway; whether the gateway stopped in order.
    fn stop(mut self) -> bool {
        for fleet in &mut self.fleets {
            end(fleet);
        }
        let in_order = end(&mut self.gateway);
        if !in_order {
            println!("the gateway did not stop in order; {}", self.gateway_log());
        }
        in_order
    }

    /// The last lines the gateway wrote.
    fn gateway_log(&self) -> String {
        gateway_log(&self.folder)
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        for child in self.fleets.iter_mut().chain([&mut self.gateway]) {
            end(child);
        }
    }
}

/// Starts fleets; those not handed over end with it.
struct Fleets<'a> {
    options: &'a Options,
    programs: &'a Path,
    folder: &'a Path,
    notes: &'a Sender<Note>,
    running: Vec<Child>,
}

impl Fleets<'_> {
    fn start(&mut self, first: u32, devices: u32, transport: &[&str]) -> Result<()> {
        let mut command = Command::new(self.programs.join("headwater-sim"));
        command
            .args(["fleet", "--first", &first.to_string(), "--devices", &devices.to_string()])
            .args(["--rate", &self.options.rate.to_string()])
            .arg("--ledgers")
            .arg(self.folder.join("ledgers"))
            .args(transport)
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        if let Some(seconds) = self.options.seconds {
            command.args(["--seconds", &seconds.to_string()]);
        }
        let mut fleet = command.spawn().context("headwater-sim could not be started")?;
        let lines = fleet.stdout.take();
        self.running.push(fleet);
        let notes = self.notes.clone();
        thread::spawn(move || {
            for line in lines.into_iter().flat_map(|lines| BufReader::new(lines).lines()) {
                let Ok(line) = line else { break };
                let _ = notes.send(Note::Line(line));
            }
        });
        Ok(())
    }
}

impl Drop for Fleets<'_> {
    fn drop(&mut self) {
        for fleet in &mut self.running {
            end(fleet);
        }
    }
}

fn start_gateway(programs: &Path, folder: &Path, config: &Path) -> Result<(Child, Addresses)> {
    let ready = folder.join("ready.json");
    let log = fs::File::create(folder.join(GATEWAY_LOG))?;
    let mut gateway = Command::new(programs.join("headwater"))
        .args(["serve", "--config"])
        .arg(config)
        .arg("--ready-file")
        .arg(&ready)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .context("headwater could not be started")?;
    let addresses = wait_until("the gateway", || {
        if let Some(status) = gateway.try_wait()? {
            bail!("the gateway ended: {status}; {}", gateway_log(folder));
        }
        // Not there yet, or half written.
        let ready =
            fs::read(&ready).ok().and_then(|text| serde_json::from_slice::<Value>(&text).ok());
        ready.map(|ready| Addresses::read(&ready)).transpose()
    });
    match addresses {
        Ok(addresses) => Ok((gateway, addresses)),
        Err(error) => {
            end(&mut gateway);
            Err(error)
        }
    }
}

impl Addresses {
    fn read(ready: &Value) -> Result<Self> {
        let field = |name: &str| {
            let address = ready.get(name).and_then(Value::as_str);
            address.with_context(|| format!("the ready file has no {name:?}: {ready}"))
        };
        Ok(Self {
            kafka: field("kafka")?.to_owned(),
            device: field("device")?.to_owned(),
            http: field("http")?.parse().context("http address of the ready file")?,
        })
    }
}

fn gateway_config(options: &Options, folder: &Path, ports: &[PathBuf]) -> String {
    // A JSON string is a TOML basic string.
    let quoted = |text: &str| Value::from(text).to_string();
    let path = |path: &Path| quoted(&path.display().to_string());
    let mut config = format!(
        "[storage]\npath = {}\nmax_bytes = \"512 MiB\"\n\n[kafka]\nlisten = \"{}\"\n\n\
         [device]\nlisten = \"{}\"\n\n[http]\nlisten = \"{}\"\n",
        path(&folder.join("data")),
        free_or_any(9092),
        free_or_any(7411),
        free_or_any(8080),
    );
    for port in ports {
        config += &format!("\n[[device.serial]]\nport = {}\n", path(port));
    }
    if let Some(central) = &options.central {
        config +=
            &format!("\n[uplink]\nbootstrap = [{}]\ntopics = [\"readings\"]\n", quoted(central));
    }
    config
}

/// The usual address if nobody has it, else one that the system chooses.
fn free_or_any(port: u16) -> SocketAddr {
    let usual = SocketAddr::from(([127, 0, 0, 1], port));
    match TcpListener::bind(usual) {
        Ok(_) => usual,
        Err(_) => SocketAddr::from(([127, 0, 0, 1], 0)),
    }
}

/// What a status line shows.
struct Status {
    written: u64,
    durable: u64,
    connected: usize,
    uplink_lag: Option<u64>,
}

fn fetch_status(http: SocketAddr) -> Result<Status> {
    let mut stream = TcpStream::connect_timeout(&http, HTTP_PATIENCE)?;
    stream.set_read_timeout(Some(HTTP_PATIENCE))?;
    // HTTP/1.0: no chunks to take apart, the end of the body is the end of the stream.
    write!(stream, "GET /api/v1/status HTTP/1.0\r\nHost: {http}\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(MAX_STATUS_BYTES).read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP answer")?;
    ensure!(head.split(' ').nth(1) == Some("200"), "status page: {head}");
    Ok(Status::read(&serde_json::from_str(body)?))
}

impl Status {
    fn read(status: &Value) -> Self {
        let list = |name: &str| status.get(name).and_then(Value::as_array).into_iter().flatten();
        let partitions = || {
            list("topics")
                .filter(|topic| topic.get("name").and_then(Value::as_str) == Some("readings"))
                .filter_map(|topic| topic.get("partitions")?.as_array())
                .flatten()
        };
        let sum = |name: &str| partitions().filter_map(|p| p.get(name)?.as_u64()).sum();
        let connected = |device: &&Value| device.get("connected").and_then(Value::as_bool);
        Self {
            written: sum("written"),
            durable: sum("durable"),
            connected: list("devices").filter(|device| connected(device) == Some(true)).count(),
            uplink_lag: status.pointer("/uplink/lag_records").and_then(Value::as_u64),
        }
    }
}

/// Asks until there is an answer or the patience ends.
fn wait_until<T>(what: &str, mut ask: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let deadline = Instant::now() + START_PATIENCE;
    loop {
        if let Some(answer) = ask()? {
            return Ok(answer);
        }
        ensure!(
            Instant::now() < deadline,
            "{what} not ready within {} s",
            START_PATIENCE.as_secs()
        );
        thread::sleep(POLL_EVERY);
    }
}

/// Asks a child to stop, and makes it stop when it does not; whether it ended in order.
fn end(child: &mut Child) -> bool {
    if let Ok(Some(status)) = child.try_wait() {
        return status.success();
    }
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let asked = pid.is_some_and(|pid| kill_process(pid, Signal::TERM).is_ok());
    let deadline = Instant::now() + STOP_PATIENCE;
    while asked && Instant::now() < deadline {
        if let Ok(Some(status)) = child.try_wait() {
            return status.success();
        }
        thread::sleep(POLL_EVERY);
    }
    let _ = child.kill();
    let _ = child.wait();
    false
}

fn gateway_log(folder: &Path) -> String {
    let log = fs::read_to_string(folder.join(GATEWAY_LOG)).unwrap_or_default();
    let lines: Vec<&str> = log.lines().collect();
    let last = lines.get(lines.len().saturating_sub(LOG_LINES)..).unwrap_or_default();
    format!("its last lines:\n{}", last.join("\n"))
}

/// Output of the gateway in the demo's folder.
const GATEWAY_LOG: &str = "headwater.log";
/// Lines of it that are shown when it failed.
const LOG_LINES: usize = 20;
/// Between status lines.
const STATUS_EVERY: Duration = Duration::from_secs(1);
/// Between looks at a child or a file.
const POLL_EVERY: Duration = Duration::from_millis(20);
/// For a program that was just built; generous, since the first start reads it from disk.
const START_PATIENCE: Duration = Duration::from_secs(20);
/// The gateway drains within 2 s, a fleet within its own deadline.
const STOP_PATIENCE: Duration = Duration::from_secs(15);
/// For one status request.
const HTTP_PATIENCE: Duration = Duration::from_millis(900);
/// Largest status that is read.
const MAX_STATUS_BYTES: u64 = 4 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_line_sums_the_readings_topic() {
        let status = serde_json::json!({
            "topics": [
                {"name": "mqtt", "partitions": [{"partition": 0, "written": 9, "durable": 9}]},
                {"name": "readings", "partitions": [
                    {"partition": 0, "written": 12, "durable": 10},
                    {"partition": 1, "written": 5, "durable": 4}
                ]}
            ],
            "devices": [{"device": "a", "connected": true}, {"device": "b", "connected": false}],
            "uplink": {"lag_records": 3}
        });
        let status = Status::read(&status);
        assert_eq!((status.written, status.durable), (17, 14));
        assert_eq!((status.connected, status.uplink_lag), (1, Some(3)));
        let empty = Status::read(&Value::Null);
        assert_eq!((empty.durable, empty.connected, empty.uplink_lag), (0, 0, None));
    }

    #[test]
    fn the_configuration_names_every_port_and_the_centre() {
        let options = Options::parse_from(["demo", "--central", "10.0.0.1:9092"]);
        let config = gateway_config(&options, Path::new("/tmp/x"), &[PathBuf::from("/tmp/x/a b")]);
        assert!(config.contains("[[device.serial]]\nport = \"/tmp/x/a b\""), "{config}");
        assert!(config.contains("bootstrap = [\"10.0.0.1:9092\"]"), "{config}");
    }
}
