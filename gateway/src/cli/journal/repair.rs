//! `headwater journal repair`.

use std::{
    io::{Write, stdout},
    process::ExitCode,
};

use anyhow::{Result, bail};

use super::{DAMAGED, Folder, explain, names::Names, progress::Bar, verify::finding_text};
use crate::journal::{
    JournalId, JournalOptions, RealDisk,
    inspect::{Plan, RepairError, carry_out, plan},
};

/// Options of `headwater journal repair`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  headwater journal repair /var/lib/headwater\n  headwater journal repair \
                        --config /etc/headwater/headwater.toml --accept-loss\n\nThe first one changes nothing and says \
                        what the second one would do. Copy the folder first.\nFiles move to quarantine/, none is removed; \
                        what was accepted as lost is noted in the journal\nand in quarantine/repair.log. Afterwards readers \
                        are taken past the lost offsets.\n\nExit code 0: nothing to do, or done; 1: there is \
                        something to accept; 2: not possible."
)]
pub(in crate::cli) struct Options {
    #[command(flatten)]
    folder: Folder,
    /// Do it: what is damaged is given up
    #[arg(long)]
    accept_loss: bool,
    /// Which journal to keep, if the folder holds segments of several
    #[arg(long, value_name = "ID", value_parser = journal_id)]
    keep: Option<JournalId>,
}

pub(super) fn run(options: &Options) -> Result<ExitCode> {
    let looked_at = options.folder.disk()?;
    let folder = looked_at.root().to_owned();
    if let Some(holder) = looked_at.holder() {
        bail!("{} is in use by {holder}: stop the gateway first", folder.display());
    }
    // Held from here on, so that nothing changes between the plan and what is done; not for a look alone.
    let locked = options.accept_loss.then(|| RealDisk::open(&folder)).transpose()?;
    let mut bar = Bar::new("reading");
    let planned = plan(&looked_at, options.keep, &mut |at| bar.show(at.done_bytes, at.total_bytes));
    let planned = planned.map_err(|error| advise(&looked_at, error))?;
    if planned.is_empty() {
        println!("nothing to repair");
        return Ok(ExitCode::SUCCESS);
    }
    show(&planned)?;
    let Some(disk) = locked else {
        println!(
            "nothing was changed; copy the folder, then add --accept-loss to do this. What is lost stays lost: \
             restore it from the centre or from a copy first, if there is one"
        );
        return Ok(ExitCode::from(DAMAGED));
    };
    let settings = options.folder.settings()?;
    let journal = JournalOptions::from_config(&settings.storage, &settings.journal)?;
    carry_out(disk, &planned, &journal).map_err(|error| advise(&looked_at, error))?;
    println!("done: noted in the journal and in {}/quarantine/repair.log", folder.display());
    Ok(ExitCode::SUCCESS)
}

fn show(planned: &Plan) -> Result<()> {
    let names = Names::of(&planned.state);
    let mut out = stdout().lock();
    for action in &planned.actions {
        writeln!(out, "{action}")?;
    }
    for finding in &planned.accept {
        write!(out, "accept: {}", finding_text(finding, &names))?;
    }
    Ok(())
}

/// What to do next.
fn advise(disk: &crate::journal::ReadOnlyDisk, error: RepairError) -> anyhow::Error {
    let next = match &error {
        RepairError::Nothing => return super::no_journal(disk),
        RepairError::Ambiguous(_) => "name the one to keep with --keep ID",
        RepairError::NotThere(_) => "leave --keep away to see which there are",
        RepairError::TooMuch { .. } => {
            "restore the folder from a copy, or move the segments that are beyond help away one by one"
        }
        RepairError::Io { .. } => "look at the disk's own messages, and at the folder's owner",
        RepairError::Admit(_) => {
            "make space on the disk or raise storage.max_bytes, then try again"
        }
        _ => {
            return match error {
                RepairError::Open(error) => explain(disk, error),
                error => anyhow::Error::new(error),
            };
        }
    };
    anyhow::Error::new(error).context(next)
}

fn journal_id(text: &str) -> Result<JournalId, String> {
    let number = u128::from_str_radix(text, 16).ok().filter(|_| text.len() == 32);
    let number = number.ok_or("an id has 32 hexadecimal digits; verify shows it")?;
    Ok(JournalId(number.to_be_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_id_reads_as_it_is_shown() {
        let id = JournalId(*b"0123456789abcdef");
        assert_eq!(journal_id(&format!("{id:?}")), Ok(id));
        assert!(journal_id("12").is_err());
        assert!(journal_id(&"g".repeat(32)).is_err());
    }
}
