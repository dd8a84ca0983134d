//! A consumer that reads along and notes what it saw: what was served once must stay.

use std::{
    io,
    net::SocketAddr,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use super::{
    book::{Book, Note},
    record::RecordId,
};
use crate::{batch, wire::Wire};

const RETRY: Duration = Duration::from_millis(5);
/// Short, so that the end is noticed.
const WAIT_MS: i32 = 100;
const OFFSET_OUT_OF_RANGE: i16 = 1;

/// Reads all partitions until `stop`.
///
/// # Errors
/// If the notes cannot be written.
pub fn run(
    broker: SocketAddr,
    topic: &str,
    partitions: i32,
    mut book: Book,
    stop: &AtomicBool,
) -> io::Result<()> {
    let mut next: Vec<(i32, i64)> = (0..partitions).map(|partition| (partition, 0)).collect();
    while !stop.load(Ordering::Relaxed) {
        let Ok(mut wire) = Wire::connect(broker) else {
            thread::sleep(RETRY);
            continue;
        };
        while !stop.load(Ordering::Relaxed) {
            let Ok(fetched) = wire.fetch(topic, &next, WAIT_MS) else { break };
            for partition in fetched {
                let Some((_, next)) = next.get_mut(partition.partition as usize) else { continue };
                match partition.code {
                    0 => *next = note(&mut book, partition.partition, *next, &partition.records),
                    OFFSET_OUT_OF_RANGE => {
                        *next = step_over(&mut wire, topic, partition.partition, *next, &mut book);
                    }
                    // Retriable, or the final comparison tells.
                    _ => {}
                }
            }
            book.write()?;
        }
    }
    book.settle()
}

/// Notes what was fetched; where to go on.
fn note(book: &mut Book, partition: i32, mut next: i64, records: &[u8]) -> i64 {
    let batches = match batch::decode(records) {
        Ok(batches) => batches,
        Err(what) => {
            book.note(&Note::Broken(format!("partition {partition}: {what}")));
            return next;
        }
    };
    for batch in batches {
        for (value, offset) in batch.values.iter().zip(batch.base_offset..) {
            if offset < next {
                continue;
            }
            if offset > next {
                let what =
                    format!("partition {partition}: {offset} was served where {next} is due");
                book.note(&Note::Broken(what));
            }
            match RecordId::of(value) {
                Some(id) => book.note(&Note::Seen(partition, offset, id)),
                None => book.note(&Note::Broken(format!("{partition}:{offset} is no record"))),
            }
            next = offset + 1;
        }
    }
    next
}

/// The log was deleted up to somewhere behind `next`, or it ends before: then what was served is gone.
fn step_over(wire: &mut Wire, topic: &str, partition: i32, next: i64, book: &mut Book) -> i64 {
    match wire.ends(topic, partition) {
        Ok((start, _)) if start > next => start,
        Ok((_, end)) if end < next => {
            book.note(&Note::Broken(format!(
                "partition {partition} ends at {end}, {next} was served"
            )));
            end
        }
        _ => next,
    }
}
