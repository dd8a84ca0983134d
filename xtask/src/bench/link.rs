//! Goodput of the device link; the bench itself is `tests/benches/link.rs`.

use anyhow::{Result, bail};

use crate::workspace;

/// Options of `cargo xtask bench link`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  cargo xtask bench link --seconds 60")]
pub(crate) struct Options {
    /// Seconds for each of six measurements
    #[arg(long, value_name = "N", default_value_t = 30)]
    seconds: u64,
}

pub(super) fn run(options: &Options) -> Result<()> {
    if !workspace::cargo(&["build", "--release", "--workspace", "--bins"]).status()?.success() {
        bail!("the release build failed");
    }
    let mut command =
        workspace::cargo(&["bench", "--quiet", "--workspace", "--bench", "link", "--"]);
    command.args(["--seconds", &options.seconds.to_string()]);
    command.env("HEADWATER_BIN_DIR", workspace::target().join("release"));
    if !command.status()?.success() {
        bail!("the bench failed");
    }
    Ok(())
}
