//! `headwater journal dump`.

use std::{
    io::{Write, stdout},
    ops::ControlFlow,
    process::ExitCode,
};

use anyhow::Result;
use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::{Folder, explain, no_journal};
use crate::{
    journal::{
        Offset, PartitionId, Position,
        inspect::{Content, EntryItem, Item, Place, Selection, dump},
    },
    record::{Batch, Record},
};

/// Options of `headwater journal dump`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  headwater journal dump /var/lib/headwater --show segments,index\n  \
                        headwater journal dump /var/lib/headwater --partition 3 --from-offset 1000 \
                        --show records --values --json\n\nA gateway may go on running meanwhile."
)]
pub(in crate::cli) struct Options {
    #[command(flatten)]
    folder: Folder,
    /// What to show, separated by commas
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "segments,frames,entries,facts"
    )]
    show: Vec<Show>,
    /// Only this file, such as 0000000000000007.seg
    #[arg(long, value_name = "NAME")]
    file: Option<String>,
    /// Only frames that reach behind this position
    #[arg(long, value_name = "POSITION")]
    from: Option<u64>,
    /// Only frames that begin before this position
    #[arg(long, value_name = "POSITION")]
    to: Option<u64>,
    /// Only batches of this partition id (`verify` and entries tell it)
    #[arg(long, value_name = "ID")]
    partition: Option<u32>,
    /// Only batches with this offset or a later one
    #[arg(long, value_name = "OFFSET")]
    from_offset: Option<i64>,
    /// Only batches with an offset before this one
    #[arg(long, value_name = "OFFSET")]
    to_offset: Option<i64>,
    /// Values of facts, and keys and values of records, too
    #[arg(long)]
    values: bool,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
    /// Lines to show at most
    #[arg(long, value_name = "LINES", default_value_t = 10_000)]
    limit: u64,
}

/// Kinds of lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Show {
    /// Segments, cold segments, and other files
    Segments,
    /// Frames, and damaged ranges
    Frames,
    /// Batches, slices, barriers
    Entries,
    /// Facts
    Facts,
    /// Records of batches, decompressed
    Records,
    /// Chunks of index files
    Index,
}

/// Bytes of a key or value that are shown.
const SHOWN_BYTES: usize = 4096;
/// A batch that is larger when decompressed is not shown record by record.
const MAX_BATCH_BYTES: usize = 16 << 20;

pub(super) fn run(options: &Options) -> Result<ExitCode> {
    let disk = options.folder.disk()?;
    let selection = Selection {
        file: options.file.clone(),
        from: options.from.map(Position),
        to: options.to.map(Position),
        partition: options.partition.map(PartitionId),
        from_offset: options.from_offset.map(Offset),
        to_offset: options.to_offset.map(Offset),
        index: options.shows(Show::Index),
    };
    let mut out = stdout().lock();
    let mut lines = 0;
    let mut failed = None;
    let mut cut_at = None;
    let found = dump(&disk, &selection, &mut |item| {
        for line in options.lines(&item) {
            if lines == options.limit {
                cut_at = position_of(&item);
                return ControlFlow::Break(());
            }
            lines += 1;
            let written = match options.json {
                true => writeln!(out, "{}", Value::Object(line)),
                false => writeln!(out, "{}", text(&line)),
            };
            if let Err(error) = written {
                failed = Some(error);
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    });
    if let Some(error) = failed {
        return Err(error.into());
    }
    if !found.map_err(|error| explain(&disk, error))? {
        return Err(no_journal(&disk));
    }
    if let Some(position) = cut_at {
        eprintln!("more than {lines} lines: go on with --from {}, or raise --limit", position.0);
    }
    Ok(ExitCode::SUCCESS)
}

impl Options {
    fn shows(&self, what: Show) -> bool {
        self.show.contains(&what)
    }

    /// The lines of an item, as fields.
    fn lines(&self, item: &Item) -> Vec<Map<String, Value>> {
        let line = match item {
            Item::Other { file, what } if self.shows(Show::Segments) => {
                fields(json!({"kind": "file", "file": file, "what": what}))
            }
            Item::Segment(it) if self.shows(Show::Segments) => placed(
                "segment",
                &it.place,
                json!({
                    "sequence": it.sequence, "length": it.length, "previous_end": it.previous_end.0,
                    "journal": format!("{:?}", it.journal), "max_bytes": it.max_bytes,
                    "header_intact": it.header_intact, "rightly_named": it.rightly_named,
                }),
            ),
            Item::Cold(it) if self.shows(Show::Segments) => placed(
                "cold",
                &it.place,
                json!({
                    "sequence": it.sequence, "from": it.from.0, "to": it.to.0,
                    "length": it.length, "settled_ms": it.settled_ms,
                }),
            ),
            Item::Chunk(it) => placed(
                "chunk",
                &it.place,
                json!({
                    "length": it.length, "to": it.to.0, "sealed": it.sealed,
                    "partitions": it.partitions, "slices": it.slices,
                }),
            ),
            Item::Frame(it) if self.shows(Show::Frames) => placed(
                "frame",
                &it.place,
                json!({
                    "length": it.length, "opening": it.opening, "entries": it.entries,
                    "append_time_ms": it.append_time_ms, "open_ms": it.open_ms,
                    "crc": format!("{:08x}", it.crc),
                }),
            ),
            Item::Damage { place, length } if self.shows(Show::Frames) => {
                placed("damage", place, json!({"length": length}))
            }
            Item::TornTail { place, length } if self.shows(Show::Frames) => {
                placed("torn-tail", place, json!({"length": length}))
            }
            Item::Entry(entry) => return self.entry(entry),
            _ => return Vec::new(),
        };
        vec![line]
    }

    fn entry(&self, entry: &EntryItem) -> Vec<Map<String, Value>> {
        let length = entry.length;
        let intact = entry.intact;
        match &entry.content {
            Content::Batch { partition, from, to, header, bytes } => {
                let mut lines = Vec::new();
                if self.shows(Show::Entries) {
                    let mut line = placed(
                        "batch",
                        &entry.place,
                        json!({
                            "length": length, "intact": intact, "partition": partition.0,
                            "from": from.0, "to": to.0,
                        }),
                    );
                    if let Some(header) = header {
                        line.append(&mut fields(json!({
                            "records": header.record_count, "attributes": header.attributes,
                            "max_timestamp": header.max_timestamp,
                            "leader_epoch": header.leader_epoch,
                            "producer_id": header.producer_id,
                            "producer_epoch": header.producer_epoch,
                            "base_sequence": header.base_sequence,
                        })));
                    }
                    lines.push(line);
                }
                if self.shows(Show::Records) && intact {
                    lines.extend(self.records(*partition, bytes));
                }
                lines
            }
            Content::Fact { space, key, value } if self.shows(Show::Facts) => {
                let mut line = placed(
                    "fact",
                    &entry.place,
                    json!({
                        "length": length, "intact": intact, "space": space.map(|space| space.0),
                        "deleted": intact && value.is_none(),
                    }),
                );
                put(&mut line, "key", Some(key));
                if self.values {
                    put(&mut line, "value", value.as_ref());
                }
                vec![line]
            }
            Content::Slice { index, total } if self.shows(Show::Entries) => {
                let more =
                    json!({"length": length, "intact": intact, "index": index, "total": total});
                vec![placed("slice", &entry.place, more)]
            }
            Content::Barrier { numbers } if self.shows(Show::Entries) => {
                let more = json!({
                    "intact": intact, "incarnation": numbers.map(|it| it.0),
                    "leader_epoch": numbers.map(|it| it.1),
                });
                vec![placed("barrier", &entry.place, more)]
            }
            Content::Close if self.shows(Show::Entries) => {
                vec![placed("close", &entry.place, json!({"intact": intact}))]
            }
            _ => Vec::new(),
        }
    }

    fn records(&self, partition: PartitionId, bytes: &Bytes) -> Vec<Map<String, Value>> {
        let records =
            Batch::parse_stored(bytes.clone()).and_then(|batch| batch.records(MAX_BATCH_BYTES));
        let wanted = |record: &Record| {
            self.from_offset.is_none_or(|from| record.offset >= from)
                && self.to_offset.is_none_or(|to| record.offset < to)
        };
        let line = |record: Record| {
            let mut line = fields(json!({
                "kind": "record", "partition": partition.0, "offset": record.offset,
                "timestamp": record.timestamp,
                "key_bytes": record.key.as_ref().map(Bytes::len),
                "value_bytes": record.value.as_ref().map(Bytes::len),
                "headers": record.headers.len(),
            }));
            if self.values {
                put(&mut line, "key", record.key.as_ref());
                put(&mut line, "value", record.value.as_ref());
            }
            line
        };
        match records {
            Ok(records) => records.into_iter().filter(wanted).map(line).collect(),
            Err(error) => {
                let more = json!({"kind": "records", "partition": partition.0, "error": error.to_string()});
                vec![fields(more)]
            }
        }
    }
}

fn position_of(item: &Item) -> Option<Position> {
    match item {
        Item::Segment(it) => Some(it.place.position),
        Item::Cold(it) => Some(it.place.position),
        Item::Frame(it) => Some(it.place.position),
        Item::Entry(it) => Some(it.place.position),
        Item::Damage { place, .. } | Item::TornTail { place, .. } => Some(place.position),
        Item::Chunk(_) | Item::Other { .. } => None,
    }
}

fn placed(kind: &str, place: &Place, more: Value) -> Map<String, Value> {
    let mut line = fields(json!({
        "kind": kind, "file": place.file, "at": place.at, "position": place.position.0,
    }));
    line.append(&mut fields(more));
    line
}

fn fields(object: Value) -> Map<String, Value> {
    match object {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

/// Bytes as text where they are, else as hexadecimal digits under `*_hex`; not more than a screen of them.
fn put(line: &mut Map<String, Value>, name: &str, bytes: Option<&Bytes>) {
    let Some(bytes) = bytes else {
        line.insert(name.into(), Value::Null);
        return;
    };
    let shown = bytes.slice(..bytes.len().min(SHOWN_BYTES));
    match str::from_utf8(&shown) {
        Ok(text) => line.insert(name.into(), json!(text)),
        Err(_) => {
            let digits: String = shown.iter().map(|byte| format!("{byte:02x}")).collect();
            line.insert(format!("{name}_hex"), json!(digits))
        }
    };
    if shown.len() < bytes.len() {
        line.insert(format!("{name}_bytes"), json!(bytes.len()));
    }
}

/// For people: the kind, then `name=value`.
fn text(line: &Map<String, Value>) -> String {
    let kind = line.get("kind").and_then(Value::as_str).unwrap_or_default();
    let rest = line.iter().filter(|(name, value)| *name != "kind" && !value.is_null());
    let rest = rest.map(|(name, value)| match value {
        // Without control characters, which a terminal would obey.
        Value::String(text) if text.chars().all(|c| !c.is_control() && c != ' ') => {
            format!("{name}={text}")
        }
        other => format!("{name}={other}"),
    });
    let rest: Vec<_> = rest.collect();
    format!("{kind:9} {}", rest.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_for_people_are_safe_on_a_terminal() {
        let mut line = fields(json!({"kind": "fact", "at": 7, "none": null}));
        put(&mut line, "key", Some(&Bytes::from_static(b"a\x1b[31mb")));
        put(&mut line, "value", Some(&Bytes::from_static(b"\xff\x00")));
        put(&mut line, "long", Some(&vec![b'x'; SHOWN_BYTES + 1].into()));
        let text = text(&line);
        assert!(!text.contains('\x1b'), "{text}");
        assert!(text.contains("value_hex=ff00"), "{text}");
        assert!(text.contains("long_bytes=4097"), "{text}");
        assert!(!text.contains("none"), "{text}");
        assert!(text.len() < SHOWN_BYTES + 200);
    }
}
