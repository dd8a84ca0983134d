//! Idle memory and time to the first acknowledgement of `headwater serve`, beside Mosquitto's.
//!
//! The clients are bytes on a socket, so that what is timed is the server and not a client library.

use std::{
    fs,
    io::{self, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use crate::workspace;

const RUNS: usize = 7;
const TOPIC: &str = "bench";

/// One start of a server.
struct Sample {
    first_ack: Duration,
    idle_rss_kib: u64,
}

pub(super) fn run() -> Result<()> {
    if !workspace::cargo(&["build", "--release", "--workspace", "--bins"]).status()?.success() {
        bail!("the release build failed");
    }
    let headwater = median_of(start_headwater)?;
    print_sample("headwater serve, first produce acknowledged (durable)", &headwater);
    match median_of(start_mosquitto) {
        Ok(mosquitto) => {
            print_sample("mosquitto, first QoS 1 publish acknowledged (in memory)", &mosquitto);
            println!(
                "ratio headwater : mosquitto   time {:.2}   memory {:.2}",
                headwater.first_ack.as_secs_f64() / mosquitto.first_ack.as_secs_f64(),
                headwater.idle_rss_kib as f64 / mosquitto.idle_rss_kib as f64
            );
        }
        Err(error) => println!("no peer: {error:#} (cargo xtask test installs mosquitto)"),
    }
    Ok(())
}

fn print_sample(what: &str, sample: &Sample) {
    println!(
        "{what}: {:.1} ms from exec, idle RSS {:.1} MiB (median of {RUNS} starts)",
        sample.first_ack.as_secs_f64() * 1e3,
        sample.idle_rss_kib as f64 / 1024.0
    );
}

fn median_of(mut start: impl FnMut(&Path) -> Result<Sample>) -> Result<Sample> {
    let mut samples = Vec::new();
    for _ in 0..RUNS {
        let folder = tempfile::tempdir()?;
        samples.push(start(folder.path())?);
    }
    samples.sort_by_key(|sample| sample.first_ack);
    samples.into_iter().nth(RUNS / 2).context("at least one run")
}

fn start_headwater(folder: &Path) -> Result<Sample> {
    let [kafka, device, http] = [free_port()?, free_port()?, free_port()?];
    let config = folder.join("headwater.toml");
    let text = format!(
        "[storage]\npath = {:?}\nmax_bytes = \"256 MiB\"\n[kafka]\nlisten = \"{kafka}\"\n[device]\nlisten = \
         \"{device}\"\n[http]\nlisten = \"{http}\"\n[topics.{TOPIC}]\npartitions = 1\n",
        folder.join("data")
    );
    fs::write(&config, text)?;
    let binary = workspace::target().join("release/headwater");
    let mut command = Command::new(binary);
    command.arg("serve").arg("--config").arg(config).stderr(Stdio::null());
    sample(command, kafka, &produce_request(TOPIC), |answer| {
        // length, correlation id, one topic of that name with one partition: index, then the error code
        let error = answer.get(4 + 4 + 4 + 2 + TOPIC.len() + 4 + 4..)?.get(..2)?;
        Some(error == [0, 0])
    })
}

fn start_mosquitto(folder: &Path) -> Result<Sample> {
    let address = free_port()?;
    let config = folder.join("mosquitto.conf");
    fs::write(&config, format!("listener {} 127.0.0.1\nallow_anonymous true\n", address.port()))?;
    let mut command = Command::new("mosquitto");
    command.env("PATH", "/usr/sbin:/usr/bin:/bin").arg("-c").arg(config).stderr(Stdio::null());
    // CONNACK (4 bytes), then PUBACK (4 bytes) for packet 1.
    sample(command, address, &connect_and_publish(), |answer| {
        Some(answer.get(..8)?.ends_with(&[0x40, 2, 0, 1]))
    })
}

/// Starts the server, speaks once, and reads its memory.
fn sample(
    mut command: Command,
    address: SocketAddr,
    request: &[u8],
    is_ack: impl Fn(&[u8]) -> Option<bool>,
) -> Result<Sample> {
    let started = Instant::now();
    let mut child = Stopped(command.stdout(Stdio::null()).spawn().context("cannot start it")?);
    let mut stream = loop {
        match TcpStream::connect(address) {
            Ok(stream) => break stream,
            Err(_) if started.elapsed() < Duration::from_secs(10) => {
                std::thread::sleep(Duration::from_micros(200));
            }
            Err(error) => return Err(error).context("the server does not listen"),
        }
    };
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(request)?;
    let mut answer = Vec::new();
    let acknowledged = loop {
        if let Some(acknowledged) = is_ack(&answer) {
            break acknowledged;
        }
        let mut buffer = [0; 512];
        match stream.read(&mut buffer)? {
            0 => bail!("the server closed the connection after {} bytes", answer.len()),
            count => answer.extend_from_slice(&buffer[..count]),
        }
    };
    let first_ack = started.elapsed();
    if !acknowledged {
        bail!("the server refused the request: {answer:02x?}");
    }
    let idle_rss_kib = rss_kib(child.0.id())?;
    child.stop()?;
    Ok(Sample { first_ack, idle_rss_kib })
}

/// Ends the server with the sample, whatever became of it.
struct Stopped(Child);

impl Stopped {
    fn stop(&mut self) -> io::Result<()> {
        self.0.kill()?;
        self.0.wait().map(drop)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        // The process may be gone already, which is what is wanted.
        let _ = self.stop();
    }
}

fn rss_kib(process: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

fn free_port() -> io::Result<SocketAddr> {
    TcpListener::bind("127.0.0.1:0")?.local_addr()
}

/// Produce version 3, acks = all, one batch of one record, for partition 0 of a topic.
pub(super) fn produce_request(topic: &str) -> Vec<u8> {
    let batch = one_record_batch();
    let mut body = Vec::new();
    body.extend_from_slice(&[0, 0, 0, 3, 0, 0, 0, 1]); // Produce, version 3, correlation id 1
    body.extend_from_slice(&[0xff, 0xff]); // no client id
    body.extend_from_slice(&[0xff, 0xff]); // no transactional id
    body.extend_from_slice(&(-1i16).to_be_bytes());
    body.extend_from_slice(&10_000i32.to_be_bytes());
    body.extend_from_slice(&1i32.to_be_bytes());
    body.extend_from_slice(&(topic.len() as i16).to_be_bytes());
    body.extend_from_slice(topic.as_bytes());
    body.extend_from_slice(&1i32.to_be_bytes());
    body.extend_from_slice(&0i32.to_be_bytes());
    body.extend_from_slice(&(batch.len() as i32).to_be_bytes());
    body.extend_from_slice(&batch);
    let mut frame = (body.len() as i32).to_be_bytes().to_vec();
    frame.extend_from_slice(&body);
    frame
}

/// RecordBatch v2 with the value `x` at time 0.
fn one_record_batch() -> Vec<u8> {
    // length 7 (zigzag 14): attributes, timestamp delta, offset delta, no key, value of 1 byte, no headers
    let record = [14, 0, 0, 0, 1, 2, b'x', 0];
    let mut checked = Vec::new();
    checked.extend_from_slice(&[0, 0]); // attributes
    checked.extend_from_slice(&0i32.to_be_bytes()); // last offset delta
    checked.extend_from_slice(&[0; 16]); // base and largest timestamp
    checked.extend_from_slice(&[0xff; 14]); // no producer id, epoch, sequence
    checked.extend_from_slice(&1i32.to_be_bytes());
    checked.extend_from_slice(&record);
    let mut batch = vec![0; 8];
    batch.extend_from_slice(&(4 + 1 + 4 + checked.len() as i32).to_be_bytes());
    batch.extend_from_slice(&[0xff; 4]); // leader epoch
    batch.push(2); // magic
    batch.extend_from_slice(&crc32c::crc32c(&checked).to_be_bytes());
    batch.extend_from_slice(&checked);
    batch
}

/// MQTT 3.1.1 CONNECT (clean session, client id "b") and a QoS 1 PUBLISH of `x` to `t`, packet 1.
fn connect_and_publish() -> Vec<u8> {
    let mut bytes = vec![0x10, 13, 0, 4, b'M', b'Q', b'T', b'T', 4, 2, 0, 60, 0, 1, b'b'];
    bytes.extend_from_slice(&[0x32, 6, 0, 1, b't', 0, 1, b'x']);
    bytes
}
