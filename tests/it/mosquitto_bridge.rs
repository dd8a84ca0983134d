//! Mosquitto, the bridge, and a gateway that is killed while messages come.

use std::{
    fs,
    io::Write,
    net::SocketAddr,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use headwater_tests::{
    gateway::Gateway, kcat, permit, ports, process::Process, random::Random, wait,
};

const MESSAGES: u64 = 2_000;
const DEADLINE: Duration = Duration::from_secs(90);

#[test]
fn mosquitto_bridge_loses_no_message_over_two_sigkills() {
    let _permit = permit::waiting();
    let folder = tempfile::tempdir().unwrap();
    let mut random = Random::new("mosquitto_bridge");
    let broker = ports::reserve();
    let _mosquitto = start_mosquitto(folder.path(), broker);
    let bridge = format!(
        "[[mqtt.bridge]]\nbroker = \"{broker}\"\nclient_id = \"bridge\"\nfilters = [\"plant/#\"]\ntopic = \
         \"plant\"\n"
    );
    let mut gateway = Gateway::start(folder.path(), &bridge);
    wait::for_condition("the bridge's session", DEADLINE, || {
        gateway.status()["bridges"][0]["connected"] == true
    });

    let mut publisher = Command::new("mosquitto_pub")
        .args(["-h", "127.0.0.1", "-p", &broker.port().to_string()])
        .args(["-t", "plant/line", "-q", "1", "-l"])
        .stdin(Stdio::piped())
        .spawn()
        .expect("mosquitto_pub starts");
    let mut input = publisher.stdin.take().expect("stdin is piped");
    let kills = [400 + random.below(400), 1_200 + random.below(400)];
    for number in 0..MESSAGES {
        writeln!(input, "message {number}").unwrap();
        if kills.contains(&number) {
            input.flush().unwrap();
            let before = number / 4;
            wait::for_condition("messages before the kill", DEADLINE, || {
                gateway.durable("plant") > before
            });
            gateway.kill();
            gateway.restart();
        }
    }
    drop(input);
    assert!(publisher.wait().unwrap().success());

    let mut log = Vec::new();
    wait::for_condition("every message in the log", DEADLINE, || {
        log = kcat::consume(gateway.kafka, "plant");
        let mut seen = vec![false; MESSAGES as usize];
        for record in &log {
            seen[number_of(record) as usize] = true;
        }
        seen.iter().all(|seen| *seen)
    });
    assert!(log.iter().all(|record| record.key.as_deref() == Some("plant/line")));
    in_order_but_for_redelivery(&log);
}

/// QoS 1 delivers what was not acknowledged again; first arrivals are in order all the same.
fn in_order_but_for_redelivery(log: &[kcat::Consumed]) {
    let mut next = 0;
    for record in log {
        let number = number_of(record);
        assert!(number <= next, "message {number} overtook {next}");
        next = next.max(number + 1);
    }
    println!("mosquitto_bridge: {} messages, {} records", next, log.len());
}

fn number_of(record: &kcat::Consumed) -> u64 {
    let value = record.value.as_deref().expect("messages have a payload");
    value.trim_start_matches("message ").parse().expect("the payload has a number")
}

fn start_mosquitto(folder: &Path, address: SocketAddr) -> Process {
    let config = folder.join("mosquitto.conf");
    let text = format!(
        "listener {} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\npersistence false\n",
        address.port()
    );
    fs::write(&config, text).unwrap();
    let mut command = Command::new("mosquitto");
    command.env("PATH", "/usr/sbin:/usr/bin:/bin").arg("-c").arg(config);
    let process = Process::start("mosquitto", &mut command, &folder.join("mosquitto.log"));
    wait::for_condition("mosquitto's listener", DEADLINE, || {
        std::net::TcpStream::connect(address).is_ok()
    });
    process
}
