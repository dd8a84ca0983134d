//! `headwater serve`: the gateway itself.

use std::{
    fs,
    io::IsTerminal,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, Result};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use crate::{Addresses, Config, Shutdown, allocator, config, journal::RealDisk, run};

/// Options of `headwater serve`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  headwater serve --config /etc/headwater/headwater.toml\n\nWithout a \
                        configuration: data in ./headwater-data, Kafka on 127.0.0.1:9092,\ndevices on \
                        127.0.0.1:7411, page on http://127.0.0.1:8080. RUST_LOG sets what is logged."
)]
pub(super) struct Options {
    /// Configuration file; without one every key has its default
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Write the listening addresses to this file as JSON once every listener accepts
    #[arg(long, value_name = "PATH")]
    ready_file: Option<PathBuf>,
    /// Log as JSON, one object a line
    #[arg(long)]
    log_json: bool,
}

/// Runs until SIGINT or SIGTERM.
pub(super) fn serve(options: &Options) -> Result<()> {
    allocator::limit();
    start_logging(options.log_json);
    let config = match &options.config {
        Some(path) => config::load(path)?,
        None => Config::default(),
    };
    raise_file_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        // Blocking work is file reads; more threads would only queue at the disk and cost memory.
        .max_blocking_threads(8)
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(async {
        let shutdown = Shutdown::new();
        stop_on_signals(shutdown.clone())?;
        let disk = RealDisk::open(&config.storage.path)?;
        run(config, Arc::new(disk), shutdown, |addresses| announce(options, addresses)).await?;
        Ok(())
    })
}

fn start_logging(json: bool) {
    // The uplink tells what its client library means; on its own that logs every transaction.
    let default = || EnvFilter::new("info,krafka=error");
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| default());
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if json {
        builder.json().init();
    } else {
        builder.with_ansi(std::io::stderr().is_terminal()).with_target(false).init();
    }
}

/// A user's soft limit is often 1,024 files, less than the connections that are allowed.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, soft_limit = limit.current, "the limit of open files stays");
    }
}

/// The first signal drains; a second one means that somebody does not want to wait.
fn stop_on_signals(shutdown: Shutdown) -> Result<()> {
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot watch SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot watch SIGTERM")?;
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if shutdown.is_requested() {
                std::process::exit(130);
            }
            shutdown.request();
        }
    });
    Ok(())
}

fn announce(options: &Options, addresses: &Addresses) {
    let Some(path) = &options.ready_file else { return };
    if let Err(error) = write_ready_file(path, addresses) {
        tracing::error!(%error, path = %path.display(), "cannot write the ready file");
    }
}

/// Written aside and renamed, so that nobody reads half of it.
fn write_ready_file(path: &Path, addresses: &Addresses) -> std::io::Result<()> {
    let text = serde_json::json!({
        "kafka": addresses.kafka.to_string(),
        "device": addresses.device.to_string(),
        "http": addresses.http.to_string(),
    });
    let aside = path.with_extension("partial");
    fs::write(&aside, text.to_string())?;
    fs::rename(aside, path)
}
