//! `headwater config check FILE`: what is wrong with a configuration, before it is used.

use std::path::PathBuf;

use anyhow::Result;

use crate::config;

/// `headwater config ...`
#[derive(Debug, clap::Subcommand)]
pub(super) enum ConfigCommand {
    /// Say what is wrong with a configuration file, or that it is fine
    #[command(after_help = "Example:\n  headwater config check /etc/headwater/headwater.toml")]
    Check {
        /// Configuration file
        file: PathBuf,
    },
}

/// Checks the file; the error says what to change.
pub(super) fn run(command: &ConfigCommand) -> Result<()> {
    let ConfigCommand::Check { file } = command;
    config::load(file)?;
    println!("{}: fine", file.display());
    Ok(())
}
