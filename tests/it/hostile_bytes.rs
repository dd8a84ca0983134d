//! Random bytes, truncated frames and length bombs on every port: neighbours do not notice, memory stays small.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    process::Command,
    time::{Duration, Instant},
};

use headwater_tests::{
    environment, gateway::Gateway, kcat, permit, process::Process, random::Random,
};

/// What the gateway may take, whatever it is sent.
const MAX_RSS_KIB: u64 = 64 * 1024;
const ATTACKS_PER_PORT: u64 = 300;
const DEADLINE: Duration = Duration::from_secs(60);

#[test]
fn hostile_bytes_on_every_port() {
    let _permit = permit::computing();
    let folder = tempfile::tempdir().unwrap();
    let mut gateway = Gateway::start(folder.path(), "");
    let ledgers = folder.path().join("ledgers");
    let mut command = Command::new(environment::binary("headwater-sim"));
    command.args(["fleet", "--devices", "5", "--rate", "10", "--seconds", "15"]);
    command.args(["--connect", &gateway.device.to_string()]).arg("--ledgers").arg(&ledgers);
    let mut neighbours = Process::start("fleet", &mut command, &folder.path().join("fleet.log"));

    let mut random = Random::new("hostile_bytes");
    let mut silent = Vec::new();
    for address in [gateway.kafka, gateway.device, gateway.http] {
        for number in 0..ATTACKS_PER_PORT {
            let bytes = attack(&mut random, number);
            send(address, &bytes);
        }
        // Half-open requests that never end must not hold what others need.
        for _ in 0..20 {
            let mut stream = TcpStream::connect(address).unwrap();
            let _ = stream.write_all(&[0, 0, 1, 0, 0, 3]);
            silent.push(stream);
        }
    }
    let peak = gateway.process().peak_rss_kib();
    println!("hostile_bytes: peak RSS {:.1} MiB", peak as f64 / 1024.0);
    assert!(peak < MAX_RSS_KIB, "peak RSS {peak} KiB");

    let status = neighbours.wait(DEADLINE);
    assert!(status.success(), "the fleet ended with {status}: {}", neighbours.output());
    let mut verify = Command::new(environment::binary("headwater-sim"));
    verify.arg("verify").arg("--ledgers").arg(&ledgers);
    verify.args(["--bootstrap", &gateway.kafka.to_string(), "--topic", "readings"]);
    kcat::run(&mut verify);
    assert!(gateway.get("/healthz").contains("ok"));
    let output = gateway.process().output();
    assert!(!output.contains("panicked"), "{output}");
}

/// The shapes that have hurt servers of these protocols before.
fn attack(random: &mut Random, number: u64) -> Vec<u8> {
    match number % 10 {
        0 => 0x7fff_ffff_i32.to_be_bytes().to_vec(),
        1 => (-1_i32).to_be_bytes().to_vec(),
        2 => kafka_frame(3, 1, &[0x7f, 0xff, 0xff, 0xff]),
        3 => kafka_frame(0, 9, &[0x00, 0xff, 0xff, 0xff, 0xff, 0x0f]),
        4 => {
            let body = random.bytes(200);
            kafka_frame(random.below(70) as i16, random.below(14) as i16, &body)
        }
        5 => {
            let mut bytes = kafka_frame(18, 3, &[2, b'a', 2, b'1', 0]);
            bytes.truncate(1 + random.below(bytes.len() as u64) as usize);
            bytes
        }
        6 => [b"GET /".to_vec(), vec![b'a'; 100_000], b" HTTP/1.1\r\n\r\n".to_vec()].concat(),
        7 => b"POST /api/v1/status HTTP/1.1\r\ncontent-length: 99999999999\r\n\r\n".to_vec(),
        8 => vec![0x55; 64 * 1024],
        _ => {
            let count = 1 + random.below(4096) as usize;
            random.bytes(count)
        }
    }
}

/// A request with a well-formed head and whatever body.
fn kafka_frame(api: i16, version: i16, body: &[u8]) -> Vec<u8> {
    let mut request = Vec::new();
    request.extend_from_slice(&api.to_be_bytes());
    request.extend_from_slice(&version.to_be_bytes());
    request.extend_from_slice(&7_i32.to_be_bytes());
    request.extend_from_slice(&[0, 1, b'x']);
    request.extend_from_slice(body);
    [(request.len() as i32).to_be_bytes().to_vec(), request].concat()
}

/// Sends, and reads a little of what comes back; being closed or refused is what is expected.
fn send(address: SocketAddr, bytes: &[u8]) {
    let Ok(mut stream) = TcpStream::connect(address) else {
        panic!("{address} does not accept connections any more");
    };
    let _ = stream.set_read_timeout(Some(Duration::from_millis(20)));
    let _ = stream.set_write_timeout(Some(Duration::from_millis(500)));
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let started = Instant::now();
    let mut answer = [0; 1024];
    while started.elapsed() < Duration::from_millis(20) {
        match stream.read(&mut answer) {
            Ok(0) | Err(_) => break,
            Ok(_) => {}
        }
    }
}
