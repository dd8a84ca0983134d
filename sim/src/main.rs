//! The `headwater-sim` program: `fleet` runs simulated devices, `verify` compares their ledgers
//! with the log.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Result;
use clap::{ArgGroup, Args, Parser, Subcommand};
use headwater_sim::{
    device::Attachment,
    faults::Faults,
    fleet::{self, Plan},
    verify::verify,
};
use tracing_subscriber::EnvFilter;

/// Simulated devices for Headwater.
#[derive(Debug, Parser)]
#[command(name = "headwater-sim", version, propagate_version = true)]
struct Command {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Fleet(Fleet),
    Verify(Verify),
}

/// Runs devices with the firmware's own library; exits 0 if every reading was acknowledged in the
/// end.
///
/// A fleet started again on the same folder is the same devices after a reset.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("attachment").required(true).args(["connect", "pty"]))]
#[command(
    after_help = "Examples:\n  headwater-sim fleet --devices 50 --connect 127.0.0.1:7411 --ledgers ledgers\n  headwater-sim \
                  fleet --devices 50 --connect 127.0.0.1:7411 --ledgers ledgers --bit-errors 1e-5 --cuts \"20 s\" --resets \"60 s\""
)]
struct Fleet {
    /// How many devices.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=100_000))]
    devices: u64,
    /// Number of the first device: 1 is sim-000001.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(..=900_000))]
    first: u64,
    /// Readings a second of each device.
    #[arg(long, value_name = "HZ", default_value_t = 10.0)]
    rate: f64,
    /// Connect each device to this address of a gateway over TCP.
    #[arg(long, value_name = "ADDR")]
    connect: Option<SocketAddr>,
    /// Give each device a pseudo-terminal.
    #[arg(long, requires = "links")]
    pty: bool,
    /// Folder for links of stable names to the pseudo-terminals, DIR/sim-000001 and so on.
    #[arg(long, value_name = "DIR", requires = "pty")]
    links: Option<PathBuf>,
    /// Folder of ledgers and of the devices' memories.
    #[arg(long, value_name = "DIR")]
    ledgers: PathBuf,
    /// Stop sampling after so many seconds.
    #[arg(long, value_name = "S")]
    seconds: Option<u64>,
    /// How long a reading waits for company in a block.
    #[arg(long, value_name = "TIME", default_value = "1 s", value_parser = time)]
    linger: Duration,
    /// After the end of sampling, how long the queues may take to empty.
    #[arg(long, value_name = "TIME", default_value = "10 s", value_parser = time)]
    drain: Duration,
    /// Other seeds are other rooms, and other faults.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Share of the bits on the line that are damaged, as 1e-5.
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, value_parser = share)]
    bit_errors: f64,
    /// Mean time between cuts of a device's line.
    #[arg(long, value_name = "TIME", value_parser = time)]
    cuts: Option<Duration>,
    /// Mean time between resets of a device, which lose what is in its RAM.
    #[arg(long, value_name = "TIME", value_parser = time)]
    resets: Option<Duration>,
    /// Share of the resets that erase the device's memory, too.
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, value_parser = share)]
    erasures: f64,
}

/// Compares all ledgers of a folder with the readings' topic; exits 0 if they agree.
#[derive(Debug, Args)]
#[command(
    after_help = "Example: headwater-sim verify --ledgers ledgers --bootstrap 127.0.0.1:9092"
)]
struct Verify {
    /// Folder of the ledgers.
    #[arg(long, value_name = "DIR")]
    ledgers: PathBuf,
    /// A gateway, or any Kafka that the readings were carried to.
    #[arg(long, value_name = "HOST:PORT")]
    bootstrap: String,
    /// Topic of the readings.
    #[arg(long, value_name = "NAME", default_value = "readings")]
    topic: String,
}

#[tokio::main]
async fn main() -> ExitCode {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let done = match Command::parse().verb {
        Verb::Fleet(arguments) => run_fleet(arguments).await,
        Verb::Verify(arguments) => run_verify(arguments).await,
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("headwater-sim: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run_fleet(arguments: Fleet) -> Result<bool> {
    let attachment = match (arguments.connect, arguments.links) {
        (Some(address), _) => Attachment::Tcp(address),
        (None, links) => Attachment::Serial(links.unwrap_or_default()),
    };
    let plan = Plan {
        first: arguments.first,
        devices: arguments.devices,
        rate_hz: arguments.rate,
        linger: arguments.linger,
        attachment,
        folder: arguments.ledgers,
        life: arguments.seconds.map(Duration::from_secs),
        drain: arguments.drain,
        seed: arguments.seed,
        faults: Faults {
            bit_errors: arguments.bit_errors,
            cuts: arguments.cuts,
            resets: arguments.resets,
            erasures: arguments.erasures,
        },
    };
    let outcome = fleet::run(plan).await?;
    println!("{outcome}");
    Ok(outcome.is_acknowledged())
}

async fn run_verify(arguments: Verify) -> Result<bool> {
    let Verify { ledgers, bootstrap, topic } = arguments;
    let report = verify(&ledgers, &bootstrap, &topic).await?;
    println!("{report}");
    for example in &report.examples {
        println!("  {example}");
    }
    Ok(report.defects() == 0)
}

/// A number from 0 to 1.
fn share(text: &str) -> Result<f64, String> {
    let share = text.parse().ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| format!("{text:?} is no share: write a number from 0 to 1, as 1e-5"))
}

/// A time with its unit: `200 ms`, `1.5 s`.
fn time(text: &str) -> Result<Duration, String> {
    let unknown = || format!("{text:?} is no time: write 200 ms or 1.5 s");
    let split = text.find(|c: char| c.is_ascii_alphabetic()).ok_or_else(unknown)?;
    let (number, unit) = text.split_at(split);
    let number: f64 = number.trim().parse().map_err(|_| unknown())?;
    let seconds = match unit {
        "ms" => number / 1e3,
        "s" => number,
        "min" => number * 60.0,
        _ => return Err(unknown()),
    };
    Duration::try_from_secs_f64(seconds).map_err(|_| unknown())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        for (text, expect) in
            [("200 ms", 200), ("200ms", 200), ("1.5 s", 1_500), ("2 min", 120_000)]
        {
            assert_eq!(time(text), Ok(Duration::from_millis(expect)), "{text}");
        }
        for text in ["", "5", "s", "-1 s", "1 h", "NaN s", "1 s s"] {
            assert!(time(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_fleet_needs_one_way_to_its_gateway() {
        let parse = |text: &str| Command::try_parse_from(text.split(' ')).is_ok();
        assert!(parse("sim fleet --devices 2 --connect 127.0.0.1:1 --ledgers l"));
        assert!(parse("sim fleet --devices 2 --pty --links k --ledgers l"));
        assert!(!parse("sim fleet --devices 2 --pty --ledgers l"));
        assert!(!parse("sim fleet --devices 2 --ledgers l"));
        assert!(!parse("sim fleet --devices 2 --connect 127.0.0.1:1 --pty --links k --ledgers l"));
    }
}
