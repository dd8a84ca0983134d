//! Goodput of the device link; the bench itself is `tests/benches/link.rs`.

use anyhow::{Result, bail};

use crate::{
    test::{PROFILE, test_environment},
    workspace,
};

/// Options of `cargo xtask bench link`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  cargo xtask bench link --seconds 60")]
pub(crate) struct Options {
    /// Seconds for each of six measurements
    #[arg(long, value_name = "N", default_value_t = 30)]
    seconds: u64,
}

pub(super) fn run(options: &Options) -> Result<()> {
    // The profile of the tests, which is there already: what is measured waits for the line, not for the processor.
    let bins = ["build", "--profile", PROFILE, "--workspace", "--bins"];
    if !workspace::cargo(&bins).status()?.success() {
        bail!("the workspace does not build");
    }
    let bench = ["bench", "--quiet", "--profile", PROFILE, "--workspace", "--bench", "link", "--"];
    let mut command = workspace::cargo(&bench);
    test_environment(&mut command);
    if !command.args(["--seconds", &options.seconds.to_string()]).status()?.success() {
        bail!("the bench failed");
    }
    Ok(())
}
