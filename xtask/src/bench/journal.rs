//! The journal beside the bare disk; the bench itself is the gateway's (`gateway/benches/journal`).

use anyhow::{Result, bail};

use crate::workspace;

/// Options of `cargo xtask bench journal`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  cargo xtask bench journal --quick --only append,reopen")]
pub(crate) struct Options {
    /// Small sizes and short runs: a minute or two in all
    #[arg(long)]
    quick: bool,
    /// Only these parts: append, reopen, memory, read
    #[arg(long, value_name = "PARTS")]
    only: Option<String>,
    /// Folder on the file system to measure; default: the target folder's
    #[arg(long, value_name = "DIR")]
    folder: Option<std::path::PathBuf>,
}

pub(super) fn run(options: &Options) -> Result<()> {
    let mut command =
        workspace::cargo(&["bench", "--quiet", "--workspace", "--bench", "journal", "--"]);
    if options.quick {
        command.arg("--quick");
    }
    if let Some(parts) = &options.only {
        command.args(["--only", parts]);
    }
    if let Some(folder) = &options.folder {
        command.arg("--folder").arg(folder);
    }
    if !command.status()?.success() {
        bail!("the bench failed");
    }
    Ok(())
}
