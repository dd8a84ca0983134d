//! Lookups over deletions of the view, damage of it, and a log that is not the one it was built from.

use std::{collections::BTreeMap, fs, path::Path, sync::Arc, time::Duration};

use super::{
    FOLDER, Listing, Views,
    last_value::Changes,
    store::{Applied, Store},
};
use crate::{
    Shutdown,
    broker::{AppendRequest, Broker, BrokerOptions, TopicDefaults},
    journal::{self, Journal, JournalOptions, Offset, RealDisk},
    record::BatchBuilder,
};

struct Site {
    broker: Arc<Broker>,
    journal: Journal,
    views: Arc<Views>,
    shutdown: Shutdown,
    following: tokio::task::JoinHandle<()>,
}

impl Site {
    async fn open(folder: &Path) -> Self {
        let options = JournalOptions { max_bytes: Some(64 << 20), ..JournalOptions::default() };
        let (journal, state) = journal::open(RealDisk::open(folder).unwrap(), &options).unwrap();
        let options = BrokerOptions {
            default_partitions: 1,
            auto_create_topics: true,
            max_message_bytes: 1 << 20,
            topic_defaults: TopicDefaults::default(),
        };
        let broker = Broker::open(journal.clone(), state, options).await.unwrap();
        if broker.topic("t").is_none() {
            broker.create_topic("t", Some(2), BTreeMap::new()).await.unwrap();
        }
        let views = Views::open(folder, Arc::clone(&broker), &["t".to_owned()]).unwrap();
        let shutdown = Shutdown::new();
        let following = tokio::spawn(Arc::clone(&views).run(shutdown.clone()));
        Self { broker, journal, views, shutdown, following }
    }

    async fn close(self) {
        self.shutdown.request();
        self.following.await.unwrap();
        drop((self.views, self.broker));
        self.journal.close().unwrap();
    }

    async fn put(&self, key: &str, value: Option<&str>) {
        let topic = self.broker.topic("t").unwrap();
        let index = crate::broker::partition_for_key(key.as_bytes(), 2);
        let mut batch = BatchBuilder::default();
        batch.push(1, Some(key.as_bytes()), value.map(str::as_bytes), &[]);
        let batches = vec![(topic.partitions[index], batch.finish().unwrap())];
        let commit = self.broker.append(AppendRequest { batches, facts: Vec::new() }).unwrap();
        commit.durable().await.unwrap();
    }

    /// Until the view has caught up with what was put.
    async fn expect(&self, key: &str, value: Option<&str>) {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
        loop {
            let found = self.views.lookup("t", key.as_bytes()).await.unwrap();
            let found = found.map(|found| found.record.value.unwrap());
            if found.as_deref() == value.map(str::as_bytes) {
                return;
            }
            assert!(tokio::time::Instant::now() < deadline, "{key}: {found:?}, not {value:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn expect_all(&self) {
        self.expect("a", Some("3")).await;
        self.expect("b", Some("2")).await;
        self.expect("gone", None).await;
        self.expect("never", None).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_value_is_found_whatever_happens_to_the_view() {
    let folder = tempfile::tempdir().unwrap();
    let site = Site::open(folder.path()).await;
    for (key, value) in
        [("a", Some("1")), ("b", Some("2")), ("gone", Some("x")), ("a", Some("3")), ("gone", None)]
    {
        site.put(key, value).await;
    }
    site.expect_all().await;
    assert!(site.views.lookup("other", b"a").await.is_err());
    site.close().await;

    // As it was left.
    let site = Site::open(folder.path()).await;
    site.expect_all().await;
    site.close().await;

    let views = folder.path().join(FOLDER);
    fs::remove_dir_all(&views).unwrap();
    let site = Site::open(folder.path()).await;
    site.expect_all().await;
    site.close().await;

    // Each block of each file zeroed: nothing wrong is found, and it opens.
    let files: Vec<_> = fs::read_dir(&views).unwrap().map(|file| file.unwrap().path()).collect();
    for file in files.iter().filter(|file| file.is_file()) {
        let content = fs::read(file).unwrap();
        for at in (0..content.len().min(64 * 1024)).step_by(16 * 1024) {
            let mut damaged = content.clone();
            let end = (at + 4096).min(damaged.len());
            damaged[at..end].fill(0);
            fs::write(file, damaged).unwrap();
            let site = Site::open(folder.path()).await;
            for (key, value) in [("a", "3"), ("b", "2")] {
                let found = site.views.lookup("t", key.as_bytes()).await;
                let found = found.ok().flatten().map(|found| found.record.value.unwrap());
                // Late or missing, but never another key's.
                let right = found.as_deref().is_none_or(|it| it == value.as_bytes() || it == b"1");
                assert!(right, "{file:?} at {at}: {key} is {found:?}");
            }
            site.close().await;
        }
        fs::remove_dir_all(&views).unwrap();
        let site = Site::open(folder.path()).await;
        site.expect_all().await;
        site.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_retention_took_leaves_a_view_that_was_away() {
    let folder = tempfile::tempdir().unwrap();
    let site = Site::open(folder.path()).await;
    site.put("a", Some("1")).await;
    site.expect("a", Some("1")).await;
    let topic = site.broker.topic("t").unwrap();
    let index = crate::broker::partition_for_key(b"a", 2);
    site.put("a", Some("2")).await;
    site.expect("a", Some("2")).await;
    // The record is deleted: the view still names its place, and the log has nothing there.
    site.broker.delete_records(topic.partitions[index], None).await.unwrap();
    site.expect("a", None).await;
    assert!(site.broker.ends(topic.partitions[index]).start > Offset(1));
    site.close().await;
}

impl Site {
    /// All keys with a prefix, in pages of so many; each page's keys with their values.
    async fn list(&self, prefix: &str, limit: usize) -> Vec<Vec<(String, String)>> {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let mut pages = Vec::new();
        let mut after: Option<bytes::Bytes> = None;
        loop {
            let listing = Listing { prefix: prefix.as_bytes(), after: after.as_deref(), limit };
            let page = self.views.list("t", listing).await.unwrap();
            let pairs = page.found.iter().map(|(key, found)| {
                let record = &found.as_ref().unwrap().record;
                assert_eq!(record.key.as_ref(), Some(key));
                (text(key), text(record.value.as_ref().unwrap()))
            });
            pages.push(pairs.collect());
            match page.next {
                Some(next) => after = Some(next),
                None => return pages,
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_has_each_key_once_in_order_page_by_page() {
    let folder = tempfile::tempdir().unwrap();
    let site = Site::open(folder.path()).await;
    let mut model = BTreeMap::new();
    for n in 0..60u32 {
        let key = format!("{}/{}", if n % 3 == 0 { "b" } else { "a" }, n * 7 % 40);
        let value = (n % 11 != 0).then(|| format!("{n}"));
        site.put(&key, value.as_deref()).await;
        match value {
            Some(value) => drop(model.insert(key, value)),
            None => drop(model.remove(&key)),
        }
    }
    // Both partitions are followed to here.
    for key in ["y", "z0", "z1", "z2", "z3"] {
        site.put(key, Some("end")).await;
        site.expect(key, Some("end")).await;
        model.insert(key.to_owned(), "end".to_owned());
    }
    for prefix in ["", "a", "a/", "a/1", "b/", "y", "z", "none"] {
        let expected: Vec<_> =
            model.clone().into_iter().filter(|(key, _)| key.starts_with(prefix)).collect();
        for limit in [1, 7, 1000] {
            let pages = site.list(prefix, limit).await;
            assert!(pages.iter().all(|page| page.len() <= limit));
            assert_eq!(pages.len(), expected.len().div_ceil(limit).max(1), "{prefix} {limit}");
            assert_eq!(pages.concat(), expected, "{prefix} {limit}");
        }
    }
    // Nobody's place in the list is lost with its key.
    let listing = Listing { prefix: b"a", after: Some(b"a/1x"), limit: 1 };
    let page = site.views.list("t", listing).await.unwrap();
    let expected = model.range("a/1x".to_owned()..).next().unwrap().0;
    assert_eq!(page.found[0].0, expected.as_bytes());
    let listing = Listing { prefix: b"", after: None, limit: 1 };
    assert!(site.views.list("other", listing).await.is_err());
    site.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_large_records_is_bounded_and_none_is_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let site = Site::open(folder.path()).await;
    let large = "x".repeat(300_000);
    for n in (0..9).rev() {
        site.put(&format!("k{n}"), Some(&large)).await;
    }
    for n in 0..9 {
        site.expect(&format!("k{n}"), Some(&large)).await;
    }
    let pages = site.list("k", 1000).await;
    assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), [3, 3, 3]);
    let keys: Vec<_> = pages.concat().into_iter().map(|(key, _)| key).collect();
    assert_eq!(keys, (0..9).map(|n| format!("k{n}")).collect::<Vec<_>>());
    site.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_of_another_log_or_from_before_its_start_is_built_again() {
    let folder = tempfile::tempdir().unwrap();
    let site = Site::open(folder.path()).await;
    for (key, value) in [("a", "1"), ("b", "2")] {
        site.put(key, Some(value)).await;
        site.expect(key, Some(value)).await;
    }
    let topic = site.broker.topic("t").unwrap();
    let (id, incarnation) = (topic.id, site.broker.incarnation());
    let partitions = topic.partitions.clone();
    site.close().await;
    let right = Applied { topic: id, incarnation, next: 0 };
    for wrong in [
        Applied { incarnation: incarnation + 1, ..right },
        Applied { topic: [9; 16], ..right },
        Applied { next: 1000, ..right },
        Applied { next: -1, ..right },
    ] {
        let store = Store::open(&folder.path().join(FOLDER)).unwrap();
        for &partition in &partitions {
            // A key that the log never had, and none of those that it has.
            store.clear(partition).unwrap();
            let mut changes = Changes::default();
            changes.keys.insert("never".into(), Some(0));
            store.apply(partition, &changes, &wrong).unwrap();
        }
        store.flush().unwrap();
        drop(store);
        let site = Site::open(folder.path()).await;
        site.expect("a", Some("1")).await;
        site.expect("b", Some("2")).await;
        site.expect("never", None).await;
        for &partition in &partitions {
            assert_eq!(site.views.store.offset_of(partition, b"never").unwrap(), None, "{wrong:?}");
        }
        site.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_folder_may_be_deleted_under_a_running_gateway() {
    let folder = tempfile::tempdir().unwrap();
    let site = Site::open(folder.path()).await;
    for (key, value) in [("a", Some("1")), ("gone", Some("x")), ("b", Some("2"))] {
        site.put(key, value).await;
        site.expect(key, value).await;
    }
    fs::remove_dir_all(folder.path().join(FOLDER)).unwrap();
    site.put("a", Some("3")).await;
    site.put("gone", None).await;
    for key in ["a", "b"] {
        // What is found, if anything, is what was put.
        let found = site.views.lookup("t", key.as_bytes()).await.ok().flatten();
        let found = found.map(|found| found.record.value.unwrap());
        assert!(found.as_deref().is_none_or(|it| matches!(it, b"1" | b"2" | b"3")), "{found:?}");
    }
    site.close().await;
    let site = Site::open(folder.path()).await;
    site.expect_all().await;
    site.close().await;
}
