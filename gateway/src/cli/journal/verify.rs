//! `headwater journal verify`.

use std::{
    io::{Write, stdout},
    process::ExitCode,
};

use anyhow::Result;
use serde_json::{Value, json};

use super::{DAMAGED, Folder, explain, names::Names, no_journal, progress::Bar};
use crate::journal::inspect::{Finding, FindingKind, Verdict, verify};

/// Options of `headwater journal verify`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  headwater journal verify /var/lib/headwater\n\nExit code 0: sound, 1: \
                        damage, 2: cannot be read. A gateway may go on running meanwhile."
)]
pub(in crate::cli) struct Options {
    #[command(flatten)]
    folder: Folder,
    /// One JSON object a line, the last one with the sums
    #[arg(long)]
    json: bool,
}

pub(super) fn run(options: &Options) -> Result<ExitCode> {
    let disk = options.folder.disk()?;
    if let Some(holder) = disk.holder() {
        eprintln!(
            "{holder} has the folder open: what it is writing just now may show as a torn tail"
        );
    }
    let mut bar = Bar::new("verifying");
    let verdict = verify(&disk, &mut |at| bar.show(at.done_bytes, at.total_bytes));
    let verdict = verdict.map_err(|error| explain(&disk, error))?;
    let verdict = verdict.ok_or_else(|| no_journal(&disk))?;
    let names = Names::of(&verdict.state);
    let mut out = stdout().lock();
    for finding in &verdict.findings {
        if options.json {
            writeln!(out, "{}", finding_json(finding, &names))?;
        } else {
            write!(out, "{}", finding_text(finding, &names))?;
        }
    }
    if options.json {
        writeln!(out, "{}", verdict_json(&verdict))?;
    } else {
        write!(out, "{}", verdict_text(&verdict, &disk.root().display().to_string()))?;
    }
    Ok(if verdict.is_sound() { ExitCode::SUCCESS } else { ExitCode::from(DAMAGED) })
}

/// One line for the place, then one for each range of lost offsets.
pub(super) fn finding_text(finding: &Finding, names: &Names) -> String {
    let Finding { kind, file, at, position, length, .. } = finding;
    let mut text = format!("{kind}: {file} at {at}, position {}, {length} bytes", position.0);
    match kind {
        FindingKind::Damage => {
            text += &format!(
                "; {} entries in it are intact, {} are not",
                finding.survivors, finding.damaged_entries
            );
        }
        FindingKind::TornTail => {
            text += "; a commit that a crash cut off, which nobody was told of (or damage to the very last one)";
        }
        FindingKind::IndexMissing | FindingKind::IndexDamaged => {
            text += "; costs time at a start, no data";
        }
        _ => {}
    }
    if finding.accepted_ms.is_some() {
        text += "; accepted as lost";
    }
    text.push('\n');
    for lost in &finding.lost {
        let (from, last) = (lost.from.0, lost.to.0 - 1);
        text += &format!("  lost: {} offsets {from} to {last}\n", names.show(lost.partition));
    }
    text
}

fn finding_json(finding: &Finding, names: &Names) -> Value {
    let lost: Vec<_> = finding
        .lost
        .iter()
        .map(|lost| {
            let name = names.find(lost.partition);
            json!({
                "partition_id": lost.partition.0, "topic": name.map(|it| it.0),
                "partition": name.map(|it| it.1), "from": lost.from.0, "to": lost.to.0,
            })
        })
        .collect();
    json!({
        "finding": finding.kind.name(), "damage": finding.kind.is_damage(), "file": finding.file,
        "at": finding.at, "position": finding.position.0, "length": finding.length,
        "survivors": finding.survivors, "damaged_entries": finding.damaged_entries, "lost": lost,
        "accepted_ms": finding.accepted_ms,
    })
}

fn verdict_text(verdict: &Verdict, folder: &str) -> String {
    let Verdict { segments, cold_segments, frames, batches, bytes, .. } = verdict;
    let mut text = format!(
        "journal {:?}: {segments} segments, {cold_segments} cold ones, {bytes} bytes, {frames} intact frames, \
         {batches} intact batches\n",
        verdict.journal
    );
    let open = verdict.findings.iter().filter(|finding| finding.is_open()).count();
    if verdict.unlisted > 0 {
        text += &format!("{} more findings are not listed\n", verdict.unlisted);
    }
    if verdict.is_sound() {
        text += match (verdict.closed, verdict.findings.iter().any(|it| it.kind.is_damage())) {
            (_, true) => "no damage but what was accepted as lost\n",
            (true, false) => "sound, and closed in order\n",
            (false, false) => "sound\n",
        };
    } else {
        text += &format!(
            "{open} damaged: reads of the lost offsets answer with an error, everything else is served.\n\
             Copy the folder before anything else is tried; `headwater journal repair {folder}` says what can be done.\n"
        );
    }
    text
}

fn verdict_json(verdict: &Verdict) -> Value {
    json!({
        "verdict": if verdict.is_sound() { "sound" } else { "damaged" },
        "journal": format!("{:?}", verdict.journal), "segments": verdict.segments,
        "cold_segments": verdict.cold_segments,
        "frames": verdict.frames, "batches": verdict.batches, "entries": verdict.entries,
        "bytes": verdict.bytes, "closed": verdict.closed, "findings": verdict.findings.len(),
        "unlisted": verdict.unlisted,
    })
}
