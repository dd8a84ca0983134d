//! The shell against a centre of the tests' own, which can do what no fake cluster does: refuse
//! particular records.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;

use super::site::{Site, eventually, value};
use crate::{
    Shutdown,
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
    let shared = Arc::new(Shared::new(site.broker().clone()));
    let watch = UplinkWatch::new(shared.clone());
    let shutdown = Shutdown::new();
    let selection = Selection::new(vec!["*".into()], String::new(), "headwater-cursors".into());
    let shell = Shell::new(
        centre.clone(),
        site.broker().clone(),
        shared,
        shutdown.clone(),
        selection,
        Duration::from_millis(1),
        1 << 20,
    );
    let task = tokio::spawn(shell.run());

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
