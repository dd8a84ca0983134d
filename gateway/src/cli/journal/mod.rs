//! `headwater journal`: the journal of a data folder, looked at from outside.
//!
//! Exit codes are for scripts: 0 sound or done, 1 damage, 2 not possible.

mod dump;
mod names;
mod progress;
mod repair;
mod verify;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Result, bail};

use super::is_closed_pipe;
use crate::{
    Config, config,
    journal::{OpenError, ReadOnlyDisk},
};

/// Damage was found.
const DAMAGED: u8 = 1;
/// The journal cannot be read, or what was asked for is not possible.
const FAILED: u8 = 2;

/// `headwater journal ...`
#[derive(Debug, clap::Subcommand)]
pub(in crate::cli) enum JournalCommand {
    /// Read all of the journal and list what is damaged; changes nothing
    Verify(verify::Options),
    /// Show segments, frames, entries, facts and index files
    Dump(dump::Options),
    /// Say what of a damaged journal has to be given up, and give it up if told to
    Repair(repair::Options),
}

/// Which folder.
#[derive(Debug, clap::Args)]
struct Folder {
    /// Data folder; the configuration's or ./headwater-data if not given
    #[arg(value_name = "DIR")]
    folder: Option<PathBuf>,
    /// Configuration file that names the data folder
    #[arg(long, value_name = "FILE", conflicts_with = "folder")]
    config: Option<PathBuf>,
}

/// Runs the command; errors go to standard error with what to do next.
pub(in crate::cli) fn run(command: &JournalCommand) -> ExitCode {
    let outcome = match command {
        JournalCommand::Verify(options) => verify::run(options),
        JournalCommand::Dump(options) => dump::run(options),
        JournalCommand::Repair(options) => repair::run(options),
    };
    match outcome {
        Ok(code) => code,
        Err(error) if is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("headwater: {error:#}");
            ExitCode::from(FAILED)
        }
    }
}

impl Folder {
    fn path(&self) -> Result<PathBuf> {
        let path = match (&self.folder, &self.config) {
            (Some(folder), _) => folder.clone(),
            (None, Some(file)) => config::load(file)?.storage.path,
            (None, None) => Config::default().storage.path,
        };
        if !path.is_dir() {
            bail!("{}: no such folder; name the data folder, or use --config FILE", path.display());
        }
        let inside = path.file_name().is_some_and(|name| name == "journal");
        if inside && !path.join("journal").is_dir() {
            let data = path.parent().unwrap_or(Path::new("."));
            bail!("{} is inside a data folder: name {}", path.display(), data.display());
        }
        Ok(path)
    }

    /// What the configuration says of storage and journal, defaults without one.
    fn settings(&self) -> Result<Config> {
        let file = self.config.as_ref();
        Ok(file.map(|file| config::load(file)).transpose()?.unwrap_or_default())
    }

    fn disk(&self) -> Result<ReadOnlyDisk> {
        Ok(ReadOnlyDisk::new(self.path()?))
    }
}

/// An error of opening, with what to do next.
fn explain(disk: &ReadOnlyDisk, error: OpenError) -> anyhow::Error {
    let folder = disk.root().display();
    let next = match &error {
        OpenError::NoIdentity { .. } | OpenError::Foreign { .. } => {
            format!("`headwater journal repair {folder}` says what can be done")
        }
        OpenError::Version { .. } => "use the newer program for this folder".into(),
        OpenError::Io { error, .. } if error.kind() == std::io::ErrorKind::PermissionDenied => {
            format!("run this as the user that {folder} belongs to")
        }
        _ => format!("look at the disk's own messages, then `headwater journal repair {folder}`"),
    };
    anyhow::Error::new(error).context(format!("the journal in {folder} cannot be read; {next}"))
}

/// What to say where no journal is.
fn no_journal(disk: &ReadOnlyDisk) -> anyhow::Error {
    anyhow::anyhow!(
        "{} holds no journal: is it the data folder of a gateway (storage.path)?",
        disk.root().display()
    )
}
