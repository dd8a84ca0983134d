//! Verify and repair, against what reads say: each lost offset is named, and no other.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use super::{
    super::{
        Fact, Journal, JournalOptions, Offset, OpenError, PartitionId, ReadError,
        format::{FRAME_HEADER_BYTES, FrameHeader, SEGMENT_HEADER_BYTES},
        open,
        sim::{Files, Random, SimDisk},
        tests::support::{append, batch, fact, small_options},
    },
    Action, FindingKind, Item, RepairError, Selection, Verdict, carry_out, dump, plan, verify,
};

const PARTITIONS: u32 = 3;

/// A journal of four segments or more, closed in order or killed.
fn sample(close: bool) -> Files {
    let disk = SimDisk::default();
    let (journal, mut state) = open(disk.clone(), &small_options()).unwrap();
    for round in 0_u32.. {
        let value = vec![round as u8; 900];
        let batches: Vec<_> =
            (0..PARTITIONS).map(|partition| (partition, batch(&[&value, b"second"]))).collect();
        let key = [b'k', (round % 7) as u8];
        append(&journal, &mut state, &batches, &[fact(&key, Some(&value[..9]))]).unwrap();
        if journal.status().segments > 3 && round % 10 == 0 {
            break;
        }
    }
    if close {
        close_covered(&journal);
    }
    disk.files()
}

/// A close still covers the last few segments; an index that lags further behind is complete at the next opening.
fn close_covered(journal: &Journal) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while journal.status().unindexed_bytes > 64 << 10 {
        assert!(Instant::now() < deadline, "the index is never written");
        std::thread::yield_now();
    }
    journal.close().unwrap();
}

/// A journal whose oldest segments were copied into two cold ones.
fn cleaned() -> Files {
    let disk = SimDisk::new(sample(true));
    let (journal, mut state) = open(disk.clone(), &small_options()).unwrap();
    for segments in [7, 10] {
        while journal.status().segments < segments {
            let value = vec![segments as u8; 900];
            let batches: Vec<_> =
                (0..PARTITIONS).map(|partition| (partition, batch(&[&value, b"second"]))).collect();
            append(&journal, &mut state, &batches, &[]).unwrap();
        }
        // Each copy holds what lives on of two partitions.
        let dead = PartitionId(PARTITIONS - 1);
        let start = Fact::log_start(dead, state.partition(dead).log_end);
        append(&journal, &mut state, &[], &[start]).unwrap();
        journal.clean_oldest().unwrap().unwrap();
    }
    close_covered(&journal);
    assert_eq!(journal.status().cold_segments, 2);
    disk.files()
}

fn cold_segments(files: &Files) -> Vec<String> {
    files.names().into_iter().filter(|name| name.starts_with("cold/")).collect()
}

fn verdict(files: &Files) -> Verdict {
    verify(&SimDisk::new(files.clone()), &mut |_| {}).unwrap().unwrap()
}

fn segments(files: &Files) -> Vec<String> {
    files
        .names()
        .into_iter()
        .filter(|name| name.ends_with(".seg") && is_begun(files, name))
        .collect()
}

fn is_begun(files: &Files, name: &str) -> bool {
    frame_places(files.content(name)).next().is_some()
}

/// Where frames of whatever journal begin.
fn frame_places(content: &[u8]) -> impl Iterator<Item = usize> {
    let blocks = (SEGMENT_HEADER_BYTES as usize..content.len()).step_by(4096);
    blocks.filter(|&at| {
        let header = content.get(at..).and_then(<[u8]>::first_chunk::<FRAME_HEADER_BYTES>);
        header.is_some_and(FrameHeader::has_magic)
    })
}

/// Offsets that a journal does not give out.
fn unreadable(journal: &Journal) -> BTreeSet<(u32, i64)> {
    let mut unreadable = BTreeSet::new();
    for partition in 0..PARTITIONS {
        let id = PartitionId(partition);
        for offset in journal.ends(id).log_start.0..journal.durable_end(id).0 {
            match journal.read(id, Offset(offset), 1) {
                Ok(batches) => assert_eq!(batches.len(), 1),
                Err(ReadError::Damaged { .. }) => {
                    unreadable.insert((partition, offset));
                }
                Err(error) => panic!("{error}"),
            }
        }
    }
    unreadable
}

fn named_lost(verdict: &Verdict) -> BTreeSet<(u32, i64)> {
    let lost = verdict.findings.iter().flat_map(|finding| &finding.lost);
    lost.flat_map(|it| (it.from.0..it.to.0).map(|offset| (it.partition.0, offset))).collect()
}

fn options() -> JournalOptions {
    small_options()
}

#[test]
fn a_sound_journal_is_sound_and_counted() {
    for close in [true, false] {
        let files = sample(close);
        let before = files.fingerprint();
        let mut last = None;
        let verdict = verify(&SimDisk::new(files.clone()), &mut |at| {
            assert!(at.done_bytes <= at.total_bytes);
            last = Some(at);
        });
        let verdict = verdict.unwrap().unwrap();
        let last = last.unwrap();
        assert_eq!(last.done_bytes, last.total_bytes);
        assert!(verdict.is_sound(), "{:?}", verdict.findings);
        // A kill may come before the index of the segment that was left last is written.
        let is_late = |kind| !close && kind == FindingKind::IndexMissing;
        let others = verdict.findings.iter().filter(|it| !is_late(it.kind)).count();
        assert_eq!(others, 0, "{:?}", verdict.findings);
        assert_eq!(verdict.closed, close);
        assert!(verdict.segments > 3);
        let ends: i64 =
            (0..PARTITIONS).map(|it| verdict.state.partition(PartitionId(it)).log_end.0).sum();
        assert_eq!(verdict.batches as i64 * 2, ends, "two records each");
        assert_eq!(files.fingerprint(), before, "nothing was changed");
    }
}

#[test]
fn an_empty_folder_holds_no_journal() {
    assert!(verify(&SimDisk::default(), &mut |_| {}).unwrap().is_none());
    let planned = plan(&SimDisk::default(), None, &mut |_| {});
    assert!(matches!(planned, Err(RepairError::Nothing)));
}

/// Whatever is hit: the offsets that verify names are those that reads refuse.
#[test]
fn what_is_named_as_lost_is_what_reads_refuse() {
    let files = sample(true);
    let names = segments(&files);
    let mut random = Random(5);
    for round in 0..60 {
        let mut hit = files.clone();
        let name = &names[random.below(names.len() as u64) as usize];
        let length = files.content(name).len() as u64;
        let at = SEGMENT_HEADER_BYTES + random.below(length - SEGMENT_HEADER_BYTES);
        let kind = random.below(3);
        hit.damage(name, |content| {
            let at = at as usize;
            match kind {
                0 => content[at] ^= 1 << (round % 8),
                1 => {
                    let from = at / 512 * 512;
                    let to = (from + 512).min(content.len());
                    content[from..to].fill(0);
                }
                _ => {
                    let from = at / 4096 * 4096;
                    let to = (from + 4096 * 3).min(content.len());
                    content[from..to].fill(0xa5);
                }
            }
        });
        let verdict = verdict(&hit);
        let what = format!("round {round}: {name} at {at}, kind {kind}: {:?}", verdict.findings);
        // Without the index files, which know about batches whose headers are gone.
        for name in hit.names().iter().filter(|name| name.ends_with(".idx")) {
            hit.damage(name, Vec::clear);
        }
        let (journal, _) = open(SimDisk::new(hit), &options()).unwrap();
        let refused = unreadable(&journal);
        assert!(refused.is_subset(&named_lost(&verdict)), "{what}: {refused:?}");
        let visible = named_lost(&verdict)
            .into_iter()
            .filter(|(partition, offset)| *offset < journal.durable_end(PartitionId(*partition)).0);
        let torn = verdict.findings.iter().any(|it| it.kind == FindingKind::TornTail);
        assert!(torn || visible.collect::<BTreeSet<_>>() == refused, "{what}: {refused:?}");
        if !refused.is_empty() {
            assert!(!verdict.is_sound(), "{what}");
        }
    }
}

#[test]
fn each_kind_of_damage_has_its_name_and_place() {
    type Change = fn(&mut Files, &str);
    let cases: [(Change, FindingKind, bool); 6] = [
        (|files, name| files.damage(name, |it| it[..4096].fill(0)), FindingKind::Header, false),
        (
            |files, name| files.damage(name, |it| it[SEGMENT_HEADER_BYTES as usize + 700] ^= 1),
            FindingKind::Damage,
            false,
        ),
        (
            |files, name| files.rewire(|it| assert!(it.remove(name).is_some())),
            FindingKind::MissingSegment,
            false,
        ),
        (
            |files, name| {
                let content = files.content(name).to_vec();
                files.add("journal/00000000000000ff.seg", &content);
            },
            FindingKind::DoubledFile,
            false,
        ),
        (
            |files, name| {
                files.rewire(|it| assert!(it.remove(&name.replace(".seg", ".idx")).is_some()));
            },
            FindingKind::IndexMissing,
            true,
        ),
        (
            |files, name| files.damage(&name.replace(".seg", ".idx"), |it| it[100] ^= 1),
            FindingKind::IndexDamaged,
            true,
        ),
    ];
    let files = sample(true);
    let name = segments(&files)[1].clone();
    for (change, kind, is_sound) in cases {
        let mut hit = files.clone();
        change(&mut hit, &name);
        let verdict = verdict(&hit);
        let found = verdict.findings.iter().find(|finding| finding.kind == kind);
        let found = found.unwrap_or_else(|| panic!("{kind:?} not in {:?}", verdict.findings));
        assert_eq!(verdict.is_sound(), is_sound, "{kind:?}: {:?}", verdict.findings);
        if matches!(kind, FindingKind::Damage) {
            assert_eq!((&found.file, found.at), (&name, SEGMENT_HEADER_BYTES));
        }
    }
}

#[test]
fn a_journal_with_cold_segments_is_sound_and_shown() {
    let files = cleaned();
    let verdict = verdict(&files);
    assert_eq!(verdict.findings, []);
    assert_eq!(verdict.cold_segments, 2);
    let (mut cold, mut batches) = (0, 0);
    dump(&SimDisk::new(files), &Selection::default(), &mut |item| {
        match item {
            Item::Cold(_) => cold += 1,
            Item::Entry(super::EntryItem { content: super::Content::Batch { .. }, .. }) => {
                batches += 1;
            }
            _ => {}
        }
        std::ops::ControlFlow::Continue(())
    })
    .unwrap();
    assert_eq!((cold, batches), (verdict.cold_segments, verdict.batches));
}

#[test]
fn what_is_lost_of_cold_segments_is_what_reads_refuse() {
    let files = cleaned();
    let mut hits = 0;
    for name in cold_segments(&files) {
        let length = files.content(&name).len();
        for at in (0..length).step_by(331) {
            let mut hit = files.clone();
            hit.damage(&name, |content| content[at] ^= 1);
            let verdict = verdict(&hit);
            let what = format!("{name} at {at}: {:?}", verdict.findings);
            let (journal, _) = open(SimDisk::new(hit), &options()).unwrap();
            let refused = unreadable(&journal);
            assert_eq!(named_lost(&verdict), refused, "{what}");
            assert_eq!(verdict.is_sound(), refused.is_empty(), "{what}");
            hits += u64::from(!refused.is_empty());
        }
        let mut gone = files.clone();
        gone.rewire(|names| assert!(names.remove(&name).is_some()));
        let verdict = verdict(&gone);
        assert_eq!(verdict.findings[0].kind, FindingKind::ColdSegment, "{:?}", verdict.findings);
        // Accepted, it is passed over from then on.
        let disk = SimDisk::new(gone);
        let planned = plan(&disk, None, &mut |_| {}).unwrap();
        let (journal, _) = open(disk.clone(), &options()).unwrap();
        assert_eq!(named_lost(&verdict), unreadable(&journal));
        assert_eq!(journal.status().open_damage, 1);
        drop(journal);
        carry_out(disk.clone(), &planned, &options()).unwrap();
        let again = verify(&disk, &mut |_| {}).unwrap().unwrap();
        assert!(again.is_sound(), "{:?}", again.findings);
        let (journal, _) = open(disk, &options()).unwrap();
        let found = journal.read(PartitionId(0), Offset(0), 1).unwrap();
        assert_eq!((found.len(), journal.status().open_damage), (1, 0));
    }
    assert!(hits > 20, "only {hits}");
}

#[test]
fn a_dump_shows_everything_and_what_was_selected() {
    let files = sample(true);
    let collect = |selection: &Selection| {
        let mut items = Vec::new();
        let found = dump(&SimDisk::new(files.clone()), selection, &mut |item| {
            items.push(item);
            std::ops::ControlFlow::Continue(())
        });
        assert!(found.unwrap());
        items
    };
    let all = collect(&Selection { index: true, ..Selection::default() });
    let count = |is: fn(&Item) -> bool| all.iter().filter(|item| is(item)).count() as u64;
    let verdict = verdict(&files);
    assert_eq!(count(|it| matches!(it, Item::Segment(_))), verdict.segments);
    assert_eq!(count(|it| matches!(it, Item::Frame(_))), verdict.frames);
    assert_eq!(count(|it| matches!(it, Item::Entry(_))), verdict.entries);
    assert!(count(|it| matches!(it, Item::Chunk(_))) >= verdict.segments);
    let one = collect(&Selection {
        partition: Some(PartitionId(1)),
        from_offset: Some(Offset(6)),
        to_offset: Some(Offset(10)),
        ..Selection::default()
    });
    let entries: Vec<_> = one
        .iter()
        .filter_map(|item| match item {
            Item::Entry(entry) => Some(entry.content.clone()),
            _ => None,
        })
        .collect();
    assert!(
        matches!(
            &entries[..],
            [
                super::Content::Batch { from: Offset(6), .. },
                super::Content::Batch { from: Offset(8), .. }
            ]
        ),
        "{entries:?}"
    );
}

/// Damage in the middle: a repair takes readers past it, notes it, and moves nothing.
#[test]
fn an_accepted_loss_is_passed_over_and_remembered() {
    let mut files = sample(true);
    let name = segments(&files)[1].clone();
    let places: Vec<_> = frame_places(files.content(&name)).collect();
    let at = places[places.len() / 2];
    files.damage(&name, |it| it[at..at + 4096].fill(0));
    let lost = named_lost(&verdict(&files));
    assert!(!lost.is_empty());

    let disk = SimDisk::new(files);
    let before = disk.files().fingerprint();
    let planned = plan(&disk, None, &mut |_| {}).unwrap();
    assert!(planned.actions.is_empty() && planned.accept.len() == 1, "{planned:?}");
    assert_eq!(disk.files().fingerprint(), before, "a plan changes nothing");
    carry_out(disk.clone(), &planned, &options()).unwrap();

    // Twice: the note is in the state, and in every snapshot of it.
    for _ in 0..2 {
        let (journal, _) = open(disk.clone(), &options()).unwrap();
        assert_eq!(unreadable(&journal), BTreeSet::new());
        let &(partition, offset) = lost.first().unwrap();
        let batches = journal.read(PartitionId(partition), Offset(offset), 1).unwrap();
        let header = crate::record::BatchHeader::read(batches[0].first_chunk().unwrap());
        assert!(header.base_offset > offset);
        journal.close().unwrap();
        let verdict = verdict(&disk.files());
        assert!(verdict.is_sound(), "{:?}", verdict.findings);
        assert!(verdict.findings.iter().any(|it| it.accepted_ms.is_some()));
        assert_eq!(named_lost(&verdict), lost, "what was lost is not forgotten");
        assert!(plan(&disk, None, &mut |_| {}).unwrap().is_empty(), "nothing is left to do");
    }
    // Seen again at an opening that scans it, it is damage that nobody has to be told of.
    let mut scanned = disk.files();
    for name in scanned.names().iter().filter(|name| name.ends_with(".idx")) {
        scanned.damage(name, Vec::clear);
    }
    let (journal, _) = open(SimDisk::new(scanned), &options()).unwrap();
    let status = journal.status();
    assert_eq!((status.recovery.damaged_ranges, status.open_damage), (1, 0));
    let log = disk.files().content("quarantine/repair.log").to_vec();
    assert!(String::from_utf8(log).unwrap().contains("accepted as lost: damage"));
}

/// All headers are gone: the frames tell everything, and nothing is lost.
#[test]
fn a_journal_without_a_header_gets_its_identity_back() {
    let files = sample(true);
    let mut hit = files.clone();
    for name in files.names().iter().filter(|name| name.ends_with(".seg")) {
        hit.damage(name, |it| it[..4096].fill(0xee));
    }
    let disk = SimDisk::new(hit);
    let refused = open(disk.clone(), &options());
    assert!(matches!(refused, Err(OpenError::NoIdentity { .. })));
    let planned = plan(&disk, None, &mut |_| {}).unwrap();
    let given = |action: &Action| matches!(action, Action::GiveHeader { .. });
    assert!(planned.actions.iter().all(given) && planned.actions.len() > 3, "{planned:?}");
    assert!(planned.accept.is_empty(), "{:?}", planned.accept);
    carry_out(disk.clone(), &planned, &options()).unwrap();
    let (journal, state) = open(disk.clone(), &options()).unwrap();
    let (_, expected) = open(SimDisk::new(files.clone()), &options()).unwrap();
    assert_eq!(state.content(), expected.content());
    assert_eq!(unreadable(&journal), BTreeSet::new());
    for partition in 0..PARTITIONS {
        let id = PartitionId(partition);
        assert_eq!(journal.durable_end(id), expected.partition(id).log_end);
    }
    let copies = disk.files().names();
    let copies = copies.iter().filter(|name| name.ends_with(".header"));
    assert_eq!(copies.count(), planned.actions.len(), "what was overwritten is in quarantine");
}

#[test]
fn segments_of_another_journal_move_away_when_somebody_says_which() {
    let files = sample(true);
    let other = SimDisk::default();
    let id = crate::journal::JournalId(*b"another journal!");
    let (journal, mut state) =
        open(other.clone(), &JournalOptions { new_id: Some(id), ..options() }).unwrap();
    append(&journal, &mut state, &[(0, batch(&[b"foreign"]))], &[]).unwrap();
    journal.close().unwrap();
    let mut mixed = files.clone();
    let foreign = segments(&other.files());
    mixed.add("journal/0000000000000100.seg", other.files().content(&foreign[0]));
    let disk = SimDisk::new(mixed);
    assert!(matches!(open(disk.clone(), &options()), Err(OpenError::Foreign { .. })));
    let undecided = plan(&disk, None, &mut |_| {});
    assert!(matches!(undecided, Err(RepairError::Ambiguous(ref all)) if all.len() == 2));
    let kept = options().new_id.unwrap();
    let nobody = crate::journal::JournalId([7; 16]);
    let unknown = plan(&disk, Some(nobody), &mut |_| {});
    assert!(matches!(unknown, Err(RepairError::NotThere(_))));
    let planned = plan(&disk, Some(kept), &mut |_| {}).unwrap();
    assert_eq!(planned.actions.len(), 1);
    carry_out(disk.clone(), &planned, &options()).unwrap();
    let (journal, _) = open(disk.clone(), &options()).unwrap();
    assert_eq!(unreadable(&journal), BTreeSet::new());
    assert!(disk.files().names().contains(&"quarantine/0000000000000100.seg".to_owned()));
}
