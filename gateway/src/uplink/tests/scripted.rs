//! The shell against a centre of the tests' own, which can do what no fake cluster does: refuse
//! particular records.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use tokio::task::JoinHandle;

use super::site::{Site, eventually, open_on, value};
use crate::{
    Shutdown,
    broker::{AppendRequest, Broker},
    journal::{JournalOptions, sim::SimDisk},
    record::BatchBuilder,
    uplink::{
        centre::{
            CentralPartition, CentralTopic, Centre, CentreError, CommitError, CursorScope, Session,
            Transaction, WantedTopic,
        },
        cursor::CursorTable,
        selection::Selection,
        shell::Shell,
        status::{Shared, UplinkWatch},
    },
};

const MAX_TRANSACTION_BYTES: usize = 1 << 20;

#[derive(Clone, Default)]
struct Scripted(Arc<Mutex<There>>);

#[derive(Default)]
struct There {
    gateway: [u8; 16],
    data: BTreeMap<(Arc<str>, u32), Vec<Bytes>>,
    cursors: BTreeMap<Bytes, Bytes>,
    refused: BTreeSet<Bytes>,
    sessions: u32,
}

impl Centre for Scripted {
    type Session = Self;

    async fn open(&self, _: &[CentralPartition]) -> Result<Self, CentreError> {
        self.0.lock().unwrap().sessions += 1;
        Ok(self.clone())
    }
}

impl Session for Scripted {
    async fn ensure_topics(
        &mut self,
        wanted: &[WantedTopic],
    ) -> Result<Vec<Result<CentralTopic, String>>, CentreError> {
        let answer = |topic: &WantedTopic| match &*topic.name {
            "forbidden" => Err("no permission".to_owned()),
            _ => Ok(CentralTopic { partitions: topic.partitions, retention_ms: Some(1) }),
        };
        Ok(wanted.iter().map(answer).collect())
    }

    async fn cursors(&mut self, _: CursorScope) -> Result<CursorTable, CentreError> {
        let there = self.0.lock().unwrap();
        let mut table = CursorTable::default();
        for (key, value) in &there.cursors {
            table.apply(there.gateway, Some(key), Some(value));
        }
        Ok(table)
    }

    async fn commit(&mut self, transaction: &mut Transaction) -> Result<(), CommitError> {
        let mut there = self.0.lock().unwrap();
        let mut poison = Vec::new();
        for (partition, leg) in &transaction.legs {
            let mut values = leg.records.iter().filter_map(|record| record.value.as_ref());
            if values.any(|value| there.refused.contains(value)) {
                poison.push((*partition, "MessageTooLarge".to_owned()));
            }
        }
        if !poison.is_empty() {
            return Err(CommitError::Poison(poison));
        }
        for leg in transaction.legs.values() {
            let values = leg.records.iter().filter_map(|record| record.value.clone());
            there.data.entry((leg.topic.clone(), leg.index)).or_default().extend(values);
            there.cursors.insert(leg.cursor_key.clone(), leg.cursor.encode(&leg.cursor_key));
        }
        Ok(())
    }

    async fn close(self) {}
}

/// An uplink of everything.
fn start(centre: &Scripted, broker: &Arc<Broker>) -> (UplinkWatch, Shutdown, JoinHandle<()>) {
    let shared = Arc::new(Shared::new(broker.clone()));
    let watch = UplinkWatch::new(shared.clone());
    let shutdown = Shutdown::new();
    let selection = Selection::new(vec!["*".into()], String::new(), "headwater-cursors".into());
    let shell = Shell::new(
        centre.clone(),
        broker.clone(),
        shared,
        shutdown.clone(),
        selection,
        Duration::from_millis(1),
        MAX_TRANSACTION_BYTES,
    );
    (watch, shutdown, tokio::spawn(shell.run()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_record_and_a_forbidden_topic_stop_nobody_else() {
    let site = Site::new().await;
    for (topic, partitions) in [("a", 2), ("forbidden", 1)] {
        site.topic(topic, partitions).await;
        site.append_until(topic, 0, 500).await;
    }
    site.append_until("a", 1, 500).await;
    let centre = Scripted::default();
    {
        let mut there = centre.0.lock().unwrap();
        there.gateway = site.broker().gateway_id();
        there.refused.insert(value("a", 0, 321).into());
    }
    let (watch, shutdown, task) = start(&centre, site.broker());

    let status = eventually("both are parked and the rest is there", || {
        let status = watch.status();
        let stuck = status.partitions.iter().filter(|lane| lane.error.is_some()).count();
        if stuck == 2 && status.lag_records == 179 + 500 { Ok(status) } else { Err(status) }
    })
    .await;
    let errors: Vec<_> =
        status.partitions.iter().filter_map(|lane| lane.error.as_deref()).collect();
    assert_eq!(
        errors,
        [
            "the centre refuses the record at offset 321: MessageTooLarge",
            "topic \"forbidden\" at the centre: no permission"
        ]
    );
    shutdown.request();
    task.await.unwrap();
    let there = centre.0.lock().unwrap();
    assert!(there.sessions > 1, "each refusal ended its session");
    for (partition, count) in [(0, 321), (1, 500)] {
        let expect: Vec<_> =
            (0..count).map(|offset| Bytes::from(value("a", partition, offset))).collect();
        assert_eq!(there.data[&("a".into(), partition)], expect);
    }
}

/// What the uplink reads of the disk while it forwards a backlog of interleaved partitions, per byte of the journal.
async fn passes(partitions: u32, rounds: u32, value_bytes: usize) -> f64 {
    let disk = SimDisk::default();
    // Nothing of it is in memory.
    let options = JournalOptions {
        max_bytes: Some(256 << 20),
        tail_bytes: 0,
        scrub_bytes_per_s: 0,
        ..JournalOptions::default()
    };
    let broker = open_on(disk.clone(), options).await;
    broker.create_topic("t", Some(partitions), BTreeMap::new()).await.unwrap();
    let topic = broker.topic("t").unwrap();
    let empty = broker.journal().status().written_bytes;
    for round in 0..rounds {
        let batch = |partition| {
            let mut builder = BatchBuilder::default();
            let value = [round as u8].repeat(value_bytes);
            builder.push(1_790_000_000_000, None, Some(&value), &[]);
            (partition, builder.finish().unwrap())
        };
        let batches: Vec<_> = topic.partitions.iter().map(|it| batch(*it)).collect();
        let request = AppendRequest { batches, facts: Vec::new() };
        broker.append(request).unwrap().durable().await.unwrap();
    }
    // The index is written in the background, from what is read again for it.
    let written = eventually("all of it is indexed", || {
        let status = broker.journal().status();
        if status.unindexed_bytes == 0 {
            Ok(status.written_bytes - empty)
        } else {
            Err(status.unindexed_bytes)
        }
    })
    .await;
    let centre = Scripted::default();
    centre.0.lock().unwrap().gateway = broker.gateway_id();
    let before = disk.read_bytes();
    let (watch, shutdown, task) = start(&centre, &broker);
    eventually("all of it is there", || {
        let status = watch.status();
        (status.connected && status.lag_records == 0).then_some(()).ok_or(status)
    })
    .await;
    let read = disk.read_bytes() - before;
    shutdown.request();
    task.await.unwrap();
    let there = centre.0.lock().unwrap();
    for index in 0..partitions {
        let values = &there.data[&("t".into(), index)];
        assert_eq!(values.len(), rounds as usize);
        assert!((0..rounds).zip(values).all(|(round, value)| value[0] == round as u8));
    }
    read as f64 / written as f64
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backlog_of_many_partitions_is_read_in_about_one_pass() {
    // Small records: a transaction takes them from some of what was read only. Large ones: of some lanes only.
    for (partitions, rounds, value_bytes) in [(30, 300, 40), (30, 150, 400), (60, 40, 2000)] {
        let passes = passes(partitions, rounds, value_bytes).await;
        println!("{partitions} partitions, {value_bytes} B: {passes:.2} passes");
        assert!(passes < 2.0, "{partitions} partitions, {value_bytes} B: {passes} passes");
    }
}
