//! `headwater devices`: who is there and how well, who may come in, names, and commands.

use std::{
    fmt::Write as _,
    io::{Write, stdout},
    time::Duration,
};

use anyhow::{Result, bail};
use krafka::{
    Record,
    admin::TopicPartition,
    consumer::{Consumer, ConsumerRecord, IsolationLevel},
    producer::Acks,
};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::{
    client::{Gateway, Unknown},
    http::Api,
};
use crate::http::percent_encoded;

/// Between two looks of `watch`.
const WATCH_EVERY: Duration = Duration::from_secs(1);
/// Beyond a command's own time its result may take so long.
const RESULT_GRACE: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(200);

/// Options of `headwater devices`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  headwater devices\n  headwater devices show sim-000001\n  headwater devices command \
                  sim-000001 \"led on\"\n  headwater devices label sim-000001 site=roof --name \"wind, north\""
)]
pub(super) struct Options {
    #[command(flatten)]
    api: Api,
    #[command(flatten)]
    gateway: Gateway,
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// All devices (the default)
    #[command(after_help = "Example:\n  headwater devices list")]
    List,
    /// All that is known of one device
    #[command(after_help = "Example:\n  headwater devices show sim-000001")]
    Show {
        /// Device id
        device: String,
    },
    /// The list, again every second
    #[command(after_help = "Example:\n  headwater devices watch")]
    Watch,
    /// Send a command and wait for what becomes of it
    #[command(
        after_help = "Example:\n  headwater devices command sim-000001 \"led on\" --timeout 5"
    )]
    Command {
        /// Device id
        device: String,
        /// What to do, as the device's firmware understands it
        command: String,
        /// Seconds that it waits for the device
        #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3600))]
        timeout: u64,
        /// Topic of the commands, as the gateway's device.commands_topic says
        #[arg(long, value_name = "TOPIC", default_value = "device-commands")]
        commands_topic: String,
        /// Topic of their results, as device.results_topic says
        #[arg(long, value_name = "TOPIC", default_value = "device-results")]
        results_topic: String,
    },
    /// Set name and labels; an empty value takes one away
    #[command(
        after_help = "Example:\n  headwater devices label sim-000001 site=roof floor= --name \"wind, north\""
    )]
    Label {
        /// Device id
        device: String,
        /// Labels
        #[arg(value_name = "NAME=VALUE", value_parser = label)]
        labels: Vec<(String, String)>,
        /// What people call it
        #[arg(long)]
        name: Option<String>,
    },
    /// Let a device in that waits, or that was refused
    #[command(after_help = "Example:\n  headwater devices approve sim-000001")]
    Approve {
        /// Device id
        device: String,
    },
    /// Keep a device out, also if it is here now
    #[command(after_help = "Example:\n  headwater devices refuse sim-000001")]
    Refuse {
        /// Device id
        device: String,
    },
}

pub(super) async fn run(options: &Options) -> Result<()> {
    let api = &options.api;
    match options.action.as_ref().unwrap_or(&Action::List) {
        Action::List => list(api, &mut stdout().lock()).await,
        Action::Watch => loop {
            // Clears the screen and goes to its top.
            print!("\x1b[2J\x1b[H");
            list(api, &mut stdout().lock()).await?;
            sleep(WATCH_EVERY).await;
        },
        Action::Show { device } => {
            let found = api.get(&path(device)).await?;
            show(&found, &mut stdout().lock())
        }
        Action::Command { device, command, timeout, commands_topic, results_topic } => {
            let timeout = Duration::from_secs(*timeout);
            let topics = (&commands_topic[..], &results_topic[..]);
            send(&options.gateway, topics, (device, command), timeout).await
        }
        Action::Label { device, labels, name } => {
            let mut query = String::new();
            if let Some(name) = name {
                let _ = write!(query, "&name={}", percent_encoded(name.as_bytes()));
            }
            for (label, value) in labels {
                let (label, value) =
                    (percent_encoded(label.as_bytes()), percent_encoded(value.as_bytes()));
                let _ = write!(query, "&label.{label}={value}");
            }
            edit(api, device, query.trim_start_matches('&')).await
        }
        Action::Approve { device } => edit(api, device, "admission=accepted").await,
        Action::Refuse { device } => edit(api, device, "admission=refused").await,
    }
}

fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(format!("{text:?} is not NAME=VALUE")),
    }
}

fn path(device: &str) -> String {
    format!("/api/v1/devices/{}", percent_encoded(device.as_bytes()))
}

async fn edit(api: &Api, device: &str, query: &str) -> Result<()> {
    let now = api.put(&format!("{}?{query}", path(device))).await?;
    let mut out = stdout().lock();
    write!(out, "{device}: {}", text(&now["admission"]))?;
    if let Some(name) = now["name"].as_str().filter(|name| !name.is_empty()) {
        write!(out, ", {name:?}")?;
    }
    writeln!(out, "{}", labels(&now["labels"]))?;
    Ok(())
}

async fn list(api: &Api, out: &mut impl Write) -> Result<()> {
    let status = api.get("/api/v1/status").await?;
    let now_ms = status["now_ms"].as_i64().unwrap_or_default();
    let devices = status["devices"].as_array().map(Vec::as_slice).unwrap_or_default();
    if devices.is_empty() {
        writeln!(out, "no device has spoken yet")?;
        return Ok(());
    }
    let head = ["DEVICE", "NAME", "STATE", "LAST SEEN", "READINGS", "LOST", "DAMAGED", "REPEATED"];
    let mut rows = vec![head.map(str::to_owned)];
    rows.extend(devices.iter().map(|device| row(device, now_ms)));
    let mut widths = [0; 8];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    for row in &rows {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        writeln!(out, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
    }
    Ok(())
}

fn row(device: &Value, now_ms: i64) -> [String; 8] {
    let number = |name: &str| device[name].as_u64().unwrap_or_default().to_string();
    [
        text(&device["device"]),
        text(&device["name"]),
        state(device).into(),
        match device["last_seen_ms"].as_i64() {
            Some(at) if at > 0 => ago(now_ms - at),
            _ => "-".into(),
        },
        number("readings"),
        number("gap_readings"),
        number("frame_errors"),
        number("retransmits"),
    ]
}

fn state(device: &Value) -> &'static str {
    let is = |name: &str| device[name].as_bool() == Some(true);
    match device["admission"].as_str() {
        Some("refused") => "refused",
        _ if is("held") => "waits",
        _ if is("connected") => "here",
        _ => "away",
    }
}

fn show(device: &Value, out: &mut impl Write) -> Result<()> {
    writeln!(out, "{}  {}{}", text(&device["device"]), state(device), labels(&device["labels"]))?;
    for (what, field) in [
        ("name", "name"),
        ("link", "transport"),
        ("stream", "stream"),
        ("boot", "boot"),
        ("readings", "readings"),
        ("readings lost", "gap_readings"),
        ("age of the newest reading when durable, ms", "backlog_ms"),
        ("drift of its clock, ppm (above 0: slow)", "skew_ppm"),
        ("clock known within, ms", "clock_error_ms"),
        ("damaged frames", "frame_errors"),
        ("of those by CRC alone", "crc_errors"),
        ("repeated items", "retransmits"),
        ("damaged at the device", "device_errors"),
        ("overruns at the device", "device_overruns"),
        ("log lines lost", "lines_lost"),
    ] {
        let value = text(&device[field]);
        if !value.is_empty() {
            writeln!(out, "  {what}: {value}")?;
        }
    }
    for (cause, count) in device["boots"].as_object().into_iter().flatten() {
        writeln!(out, "  boots by {cause}: {}", text(count))?;
    }
    for line in device["lines"].as_array().into_iter().flatten() {
        writeln!(out, "  log, severity {}: {}", text(&line["severity"]), text(&line["text"]))?;
    }
    Ok(())
}

/// A value as people read it; nothing for what is not there.
fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn labels(labels: &Value) -> String {
    let labels = labels.as_object().into_iter().flatten();
    labels.map(|(name, value)| format!("  {name}={}", text(value))).collect()
}

fn ago(ms: i64) -> String {
    match ms / 1000 {
        ..=0 => "now".into(),
        seconds @ 1..=119 => format!("{seconds} s ago"),
        seconds @ 120..=7199 => format!("{} min ago", seconds / 60),
        seconds @ 7200..=172_799 => format!("{} h ago", seconds / 3600),
        seconds => format!("{} d ago", seconds / 86_400),
    }
}

/// Writes the command and waits for the record of its result.
async fn send(
    gateway: &Gateway,
    (commands, results_of): (&str, &str),
    (device, command): (&str, &str),
    timeout: Duration,
) -> Result<()> {
    let explain = |error| gateway.explain(error);
    let kafka = gateway.connect(Unknown::MayBeCreated).await?;
    let results = kafka
        .consumer_without_group()
        .isolation_level(IsolationLevel::ReadCommitted)
        .build()
        .await
        .map_err(explain)?;
    let from = ends(gateway, &results, results_of).await?;
    let producer = kafka.producer().acks(Acks::All).build().await.map_err(explain)?;
    let record = Record::new(commands, command.as_bytes().to_vec())
        .key(device.as_bytes().to_vec())
        .header("timeout-ms", timeout.as_millis().to_string().into_bytes());
    let written = producer.send(record).await.map_err(explain)?;
    let place = format!("{}/{}", written.partition, written.offset);
    producer.close().await.map_err(explain)?;
    let partitions = from.iter().map(|(at, _)| at.partition).collect();
    results.assign(results_of, partitions).await.map_err(explain)?;
    results.seek_many(from).await.map_err(explain)?;
    let end = Instant::now() + timeout + RESULT_GRACE;
    while Instant::now() < end {
        for found in results.poll(POLL).await.map_err(explain)? {
            if header(&found, "command").as_deref() == Some(&place[..]) {
                return told(device, &found);
            }
        }
    }
    bail!(
        "{device}: nothing is known of command {place}; does a gateway with a device link run there?"
    )
}

/// Where the partitions of a topic end.
async fn ends(
    gateway: &Gateway,
    consumer: &Consumer,
    topic: &str,
) -> Result<Vec<(TopicPartition, i64)>> {
    let explain = |error| gateway.explain(error);
    let metadata = consumer.fetch_metadata(Some(topic)).await.map_err(explain)?;
    let found = metadata.topics.iter().find(|it| it.name == topic);
    let partitions: Vec<i32> =
        found.map(|it| it.partitions.keys().copied().collect()).unwrap_or_default();
    if partitions.is_empty() {
        return Err(gateway.no_topic(topic));
    }
    let mut ends = Vec::new();
    for partition in partitions {
        let (_, end) = consumer.fetch_watermarks(topic, partition).await.map_err(explain)?;
        ends.push((TopicPartition::new(topic.to_owned(), partition), end));
    }
    Ok(ends)
}

fn header(record: &ConsumerRecord, name: &str) -> Option<String> {
    let value = record.headers.iter().find(|(key, _)| *key == *name)?.1.clone()?;
    Some(String::from_utf8_lossy(&value).into_owned())
}

/// Says what became of the command; an error unless it was done.
fn told(device: &str, result: &ConsumerRecord) -> Result<()> {
    let said = result.value.as_deref().map(String::from_utf8_lossy).unwrap_or_default();
    let said = if said.is_empty() { String::new() } else { format!(": {said}") };
    match header(result, "status").unwrap_or_default().as_str() {
        "done" => {
            writeln!(stdout(), "{device}: done{said}")?;
            Ok(())
        }
        "failed" => bail!("{device}: tried, and failed{said}"),
        "no-such-command" => bail!("{device}: its firmware knows no such command"),
        "expired" => bail!("{device}: it was not here in time; nothing was sent"),
        "refused" => bail!("{device}: no device id, or the command is too long for it"),
        _ => bail!("{device}: sent, and no answer came: it may have been done or not"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_device_is_shown_with_what_is_known() {
        let device = json!({
            "device": "d", "connected": true, "admission": "undecided", "labels": {"site": "a"},
            "readings": 5, "backlog_ms": null, "skew_ppm": -12.3, "clock_error_ms": 1.9, "boots": {"power": 2},
            "lines": [{"severity": 4, "text": "cold"}]
        });
        let mut out = Vec::new();
        show(&device, &mut out).expect("written");
        let text = String::from_utf8(out).expect("UTF-8");
        assert_eq!(
            text,
            "d  here  site=a\n  readings: 5\n  drift of its clock, ppm (above 0: slow): -12.3\n  \
             clock known within, ms: 1.9\n  boots by power: 2\n  log, severity 4: cold\n"
        );
    }

    #[test]
    fn states_have_a_word() {
        for (device, word) in [
            (json!({"connected": true}), "here"),
            (json!({"connected": false}), "away"),
            (json!({"held": true}), "waits"),
            (json!({"connected": true, "admission": "refused"}), "refused"),
        ] {
            assert_eq!(state(&device), word);
        }
        assert_eq!(
            [0, 5_000, 130_000, 7_200_000, 200_000_000].map(ago),
            ["now", "5 s ago", "2 min ago", "2 h ago", "2 d ago"]
        );
    }
}
