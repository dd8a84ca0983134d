//! What a recovery cannot do by itself: decisions that give something up, which a person has to take.
//!
//! A plan says what would be done; carrying it out moves files to quarantine, removes none, and ends with a durable
//! note of everything that was accepted as lost.

use std::{
    fmt, io,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use super::{
    Finding, Progress,
    accepted::{offsets_fact, range_fact, repair_fact},
    identity,
    overlay::Overlay,
    verify,
};
use crate::journal::{
    AdmitError, Append, Disk, DiskFile, Fact, Journal, JournalId, JournalOptions, OpenError, State,
    format::{SEGMENT_HEADER_BYTES, SegmentHeader},
    open,
    segment::{QUARANTINE_FOLDER, SEGMENT_FOLDER, sequence_of},
};

/// Ranges and offsets accepted at once: they become state.
const MAX_ACCEPTED: usize = 10_000;
/// Where repairs are noted beside the journal.
const LOG: &str = "quarantine/repair.log";
/// Facts of one append.
const FACTS_PER_APPEND: usize = 64;
/// Space comes from another thread; an opening that cannot write never gets any.
const SPACE_DEADLINE: Duration = Duration::from_secs(10);

/// What a repair would do.
#[derive(Debug)]
pub struct Plan {
    /// Changes of files, in order.
    pub actions: Vec<Action>,
    /// Damage that would be accepted.
    pub accept: Vec<Finding>,
    /// What the journal holds after it, as far as it can be read.
    pub state: State,
}

/// A change of a file.
#[derive(Clone, Debug)]
pub enum Action {
    /// A file moves to quarantine.
    SetAside {
        /// File within the data folder.
        file: String,
        /// Why.
        reason: String,
    },
    /// A segment gets the header that its frames tell; what was in its place is copied to quarantine.
    GiveHeader {
        /// File within the data folder.
        file: String,
        /// The whole first block.
        block: Vec<u8>,
    },
}

/// Why nothing can be repaired.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RepairError {
    /// There is no journal, and nothing that one could be made of.
    #[error("there is no journal in the folder")]
    Nothing,
    /// Segments of several journals, and nobody said which one it is.
    #[error("segments of {} journals: {}", .0.len(), list(.0))]
    Ambiguous(Vec<(JournalId, usize)>),
    /// The journal that is to be kept is not there.
    #[error("no segment is of journal {0:?}")]
    NotThere(JournalId),
    /// Nothing that a repair can help with.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// More than can be accepted at once.
    #[error(
        "{found} ranges are lost, more than the {limit} that can be accepted: this is a case for a copy"
    )]
    TooMuch {
        /// How many.
        found: usize,
        /// The limit.
        limit: usize,
    },
    /// A file could not be changed.
    #[error("{action}: {error}")]
    Io {
        /// What was being done.
        action: String,
        /// The error.
        error: io::Error,
    },
    /// The note could not be appended.
    #[error("the repaired journal accepts nothing: {0}; what was moved is in quarantine")]
    Admit(#[from] AdmitError),
}

fn list(journals: &[(JournalId, usize)]) -> String {
    let each = journals.iter().map(|(id, count)| format!("{id:?} ({count} segments)"));
    each.collect::<Vec<_>>().join(", ")
}

impl fmt::Display for Action {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SetAside { file, reason } => {
                write!(formatter, "move {file} to quarantine: {reason}")
            }
            Self::GiveHeader { file, .. } => write!(
                formatter,
                "write the header of {file} again, from its frames; the old block is copied to quarantine"
            ),
        }
    }
}

impl Plan {
    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.actions.is_empty() && self.accept.is_empty()
    }
}

/// What would have to be done so that the journal opens and all damage in it is accepted. Changes nothing.
pub fn plan(
    disk: &dyn Disk,
    keep: Option<JournalId>,
    progress: &mut dyn FnMut(Progress),
) -> Result<Plan, RepairError> {
    let mut overlay = Overlay::new(disk);
    let mut actions = Vec::new();
    for action in unreadable(disk)? {
        apply(&mut overlay, &mut actions, action);
    }
    for action in strangers(&overlay, keep)? {
        apply(&mut overlay, &mut actions, action);
    }
    let verdict = match verify(&overlay, progress) {
        Err(OpenError::NoIdentity { .. }) => {
            let rebuilt = identity::rebuild(&overlay).map_err(failed("read the segments"))?;
            for action in without_identity(&overlay, rebuilt)? {
                apply(&mut overlay, &mut actions, action);
            }
            verify(&overlay, progress)?
        }
        verdict => verdict?,
    };
    let Some(verdict) = verdict else {
        if actions.is_empty() {
            return Err(RepairError::Nothing);
        }
        return Ok(Plan { actions, accept: Vec::new(), state: State::default() });
    };
    let accept: Vec<_> = verdict.findings.into_iter().filter(Finding::is_open).collect();
    let found =
        verdict.unlisted as usize + accept.iter().map(|it| 1 + it.lost.len()).sum::<usize>();
    if found > MAX_ACCEPTED {
        return Err(RepairError::TooMuch { found, limit: MAX_ACCEPTED });
    }
    Ok(Plan { actions, accept, state: verdict.state })
}

/// Does what the plan says, and notes it in the journal and beside it. The disk is locked by the caller.
pub fn carry_out(
    disk: impl Disk + 'static,
    plan: &Plan,
    options: &JournalOptions,
) -> Result<(), RepairError> {
    let disk: Arc<dyn Disk> = Arc::new(disk);
    let at_ms = options.clock.now().unix_ms;
    note(&*disk, &report(plan, at_ms)).map_err(failed(LOG))?;
    for action in &plan.actions {
        change(&*disk, action)?;
    }
    let (journal, _) = open(disk, options)?;
    let mut facts: Vec<Fact> = vec![repair_fact(&report(plan, at_ms), at_ms)];
    for finding in &plan.accept {
        facts.push(range_fact(finding, at_ms));
        facts.extend(finding.lost.iter().map(|lost| offsets_fact(lost, at_ms)));
    }
    for facts in facts.chunks(FACTS_PER_APPEND) {
        append(&journal, facts)?;
    }
    journal.close().map_err(AdmitError::from)?;
    Ok(())
}

fn apply(overlay: &mut Overlay<'_>, actions: &mut Vec<Action>, action: Action) {
    match &action {
        Action::SetAside { file, .. } => drop(overlay.away.insert(file.clone())),
        Action::GiveHeader { file, block } => {
            overlay.heads.insert(file.clone(), block.clone());
        }
    }
    actions.push(action);
}

/// Files that cannot even be opened keep the whole journal from opening.
fn unreadable(disk: &dyn Disk) -> Result<Vec<Action>, RepairError> {
    let names = disk.list(SEGMENT_FOLDER).map_err(failed("list the journal folder"))?;
    let mut actions = Vec::new();
    for name in names {
        let file = format!("{SEGMENT_FOLDER}/{name}");
        match disk.open(&file).and_then(|file| file.len()) {
            Ok(_) => {}
            // Not damage, and moving it would help nobody.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                return Err(failed(&format!("open {file}"))(error));
            }
            Err(error) => {
                let reason = format!("it cannot be opened: {error}");
                actions.push(Action::SetAside { file, reason });
            }
        }
    }
    Ok(actions)
}

/// Segments of other journals than the one to keep.
fn strangers(disk: &dyn Disk, keep: Option<JournalId>) -> Result<Vec<Action>, RepairError> {
    let mut journals: Vec<(JournalId, Vec<String>)> = Vec::new();
    let names = disk.list(SEGMENT_FOLDER).map_err(failed("list the journal folder"))?;
    for name in names.iter().filter(|name| sequence_of(name).is_some()) {
        let file = format!("{SEGMENT_FOLDER}/{name}");
        let mut block = [0; SEGMENT_HEADER_BYTES as usize];
        let read = disk.open(&file).and_then(|file| file.read_at(&mut block, 0));
        let Some(header) = read.ok().and_then(|()| SegmentHeader::decode(&block).ok()) else {
            continue;
        };
        match journals.iter_mut().find(|(known, _)| *known == header.journal) {
            Some((_, files)) => files.push(file),
            None => journals.push((header.journal, vec![file])),
        }
    }
    let keep = match (keep, &*journals) {
        (Some(keep), journals) if !journals.iter().any(|(known, _)| *known == keep) => {
            return Err(RepairError::NotThere(keep));
        }
        (Some(keep), _) => keep,
        (None, [] | [_]) => return Ok(Vec::new()),
        (None, journals) => {
            let counts = journals.iter().map(|(known, files)| (*known, files.len()));
            return Err(RepairError::Ambiguous(counts.collect()));
        }
    };
    let others = journals.into_iter().filter(|(known, _)| *known != keep);
    let set_aside = |(known, files): (JournalId, Vec<String>)| {
        let reason = format!("it is of journal {known:?}");
        files.into_iter().map(move |file| Action::SetAside { file, reason: reason.clone() })
    };
    Ok(others.flat_map(set_aside).collect())
}

/// Headers from the frames; without them everything moves away, and a new journal begins.
fn without_identity(
    disk: &dyn Disk,
    rebuilt: Option<identity::Rebuilt>,
) -> Result<Vec<Action>, RepairError> {
    let Some(rebuilt) = rebuilt else {
        let names = disk.list(SEGMENT_FOLDER).map_err(failed("list the journal folder"))?;
        let set_aside = |name: &String| Action::SetAside {
            file: format!("{SEGMENT_FOLDER}/{name}"),
            reason: "nothing in the folder tells which journal it is of: all of it is lost".into(),
        };
        return Ok(names.iter().map(set_aside).collect());
    };
    let given = rebuilt
        .headers
        .into_iter()
        .map(|(file, header)| Action::GiveHeader { file, block: header.encode().to_vec() });
    let away = rebuilt.strangers.into_iter().map(|file| Action::SetAside {
        file,
        reason: "its frames are not of the journal that the others are of".into(),
    });
    Ok(given.chain(away).collect())
}

fn change(disk: &dyn Disk, action: &Action) -> Result<(), RepairError> {
    let changed = match action {
        Action::SetAside { file, .. } => set_aside(disk, file),
        Action::GiveHeader { file, block } => give_header(disk, file, block),
    };
    changed.map_err(failed(&action.to_string()))
}

/// Under a name that is free: no original takes the place of another.
fn set_aside(disk: &dyn Disk, file: &str) -> io::Result<()> {
    let base = file.rsplit('/').next().unwrap_or(file);
    let name = free_name(disk, base)?;
    disk.rename(file, &name)?;
    disk.sync_folder(QUARANTINE_FOLDER)?;
    disk.sync_folder(SEGMENT_FOLDER)
}

fn give_header(disk: &dyn Disk, name: &str, block: &[u8]) -> io::Result<()> {
    let file = disk.open(name)?;
    let mut old = vec![0; block.len()];
    if file.read_at(&mut old, 0).is_ok() {
        let base = name.rsplit('/').next().unwrap_or(name);
        let copy = disk.create(&free_name(disk, &format!("{base}.header"))?)?;
        copy.write_at(&old, 0)?;
        copy.sync()?;
        disk.sync_folder(QUARANTINE_FOLDER)?;
    }
    file.write_at(block, 0)?;
    file.sync()
}

fn free_name(disk: &dyn Disk, base: &str) -> io::Result<String> {
    let taken = disk.list(QUARANTINE_FOLDER)?;
    let names = (1..).map(|number| format!("{base}.{number}"));
    let mut names = std::iter::once(base.to_owned()).chain(names);
    let free = names.find(|name| !taken.contains(name)).unwrap_or_default();
    Ok(format!("{QUARANTINE_FOLDER}/{free}"))
}

/// One line that says what was done, for the journal and for the file beside it.
fn report(plan: &Plan, at_ms: i64) -> String {
    let actions: Vec<_> = plan.actions.iter().map(ToString::to_string).collect();
    let ranges = plan.accept.iter().map(|finding| {
        let lost = finding.lost.iter();
        let lost = lost.map(|it| format!("{}:{}-{}", it.partition.0, it.from.0, it.to.0 - 1));
        format!(
            "{} {}+{} lost {}",
            finding.kind.name(),
            finding.position.0,
            finding.length,
            lost.collect::<Vec<_>>().join(",")
        )
    });
    let ranges: Vec<_> = ranges.collect();
    format!("{at_ms} accepted as lost: {}; done: {}", ranges.join("; "), actions.join("; "))
}

/// Appended before anything is changed: an interrupted repair is known by it.
fn note(disk: &dyn Disk, line: &str) -> io::Result<()> {
    let file: Arc<dyn DiskFile> = match disk.open(LOG) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => disk.create(LOG)?,
        opened => opened?,
    };
    file.write_at(format!("{line}\n").as_bytes(), file.len()?)?;
    file.sync()?;
    disk.sync_folder(QUARANTINE_FOLDER)
}

fn append(journal: &Journal, facts: &[Fact]) -> Result<(), RepairError> {
    let append = Append { batches: Vec::new(), facts: facts.to_vec() };
    let deadline = Instant::now() + SPACE_DEADLINE;
    let permit = loop {
        match journal.admit_freeing(append.encoded_len()) {
            Err(AdmitError::Full) if Instant::now() < deadline => {
                thread::sleep(Duration::from_millis(10));
            }
            admitted => break admitted?,
        }
    };
    Ok(journal.append(permit, append).wait().map_err(AdmitError::from)?)
}

fn failed(action: &str) -> impl FnOnce(io::Error) -> RepairError {
    let action = action.to_owned();
    move |error| RepairError::Io { action, error }
}
