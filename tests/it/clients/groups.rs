//! A group whose members come, go and crash, under a broker that is killed: one owner of each partition, nothing skipped,
//! and committed offsets as they were acknowledged.

use std::{
    net::SocketAddr,
    sync::atomic::Ordering,
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use headwater_tests::{
    batch::{self, Numbered},
    churn::{self, Books, GROUP, PARTITIONS, TOPIC},
    cluster::Cluster,
    effort, permit,
    random::Random,
    wait,
    wire::{
        Wire,
        member::{Answer, Code},
    },
};

const MEMBERS: u64 = 20;
const DEADLINE: Duration = Duration::from_secs(60);
/// Records of a batch, and how long the producer rests between rounds over all partitions.
const BATCH: usize = 5;
const REST: Duration = Duration::from_millis(20);

#[test]
fn groups_of_members_that_come_go_and_crash_own_each_partition_once() {
    let _permit = permit::waiting();
    let folder = tempfile::tempdir().unwrap();
    let random = Random::new("groups");
    let mut cluster = Cluster::start(folder.path());
    let broker = cluster.address();
    until_answered(broker, |wire| wire.create_topic(TOPIC, PARTITIONS));
    until_answered(broker, |wire| wire.find_coordinator(GROUP));
    let (seconds, kills) = (effort::count(20, 60), effort::count(2, 6));

    let books = Books::default();
    let records = thread::scope(|scope| {
        // Whatever fails, everybody has to end.
        let _end = End(&books);
        for number in 0..MEMBERS {
            let (books, random) = (&books, random.fork(number));
            scope.spawn(move || churn::live(books, broker, random));
        }
        let producer = scope.spawn(|| produce(&books, broker));
        for _ in 0..kills {
            let part = Duration::from_secs(seconds) / (kills as u32 + 1);
            churn_on(&books, part);
            kill(&books, &mut cluster);
        }
        churn_on(&books, Duration::from_secs(seconds) / (kills as u32 + 1));
        books.calm.store(true, Ordering::Relaxed);
        let ends = producer.join().unwrap();
        settle(&books, broker, &ends);
        ends.iter().sum::<i64>()
    });
    books.assert_right();
    let counts = [&books.joined, &books.left, &books.crashed].map(|it| it.load(Ordering::Relaxed));
    let [joined, left, crashed] = counts;
    assert!(left >= 5 && crashed >= 3 && joined >= 2 * MEMBERS, "{counts:?} of too little");
    println!(
        "shown: {MEMBERS} members joined {joined} times, left {left} times and crashed {crashed} times in {seconds} s; \
         {kills} SIGKILLs of the broker; {} commits of {records} records, one chain for each partition",
        books.certain()
    );
}

/// Ends the members when it is dropped.
struct End<'a>(&'a Books);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.calm.store(true, Ordering::Relaxed);
        self.0.done.store(true, Ordering::Relaxed);
    }
}

fn churn_on(books: &Books, time: Duration) {
    let started = Instant::now();
    wait::for_condition("the end of this part", time + DEADLINE, || {
        books.assert_right();
        started.elapsed() >= time
    });
}

/// What was acknowledged before is committed after, and nothing that nobody has sent.
fn kill(books: &Books, cluster: &mut Cluster) {
    let before = books.certain();
    cluster.kill();
    let floors: Vec<i64> = (0..PARTITIONS).map(|it| books.floor(it)).collect();
    cluster.restart();
    let committed = committed(cluster.address());
    for ((partition, floor), committed) in (0..).zip(floors).zip(committed) {
        let committed = committed.max(0);
        assert!(committed >= floor, "{partition}: {committed} is committed, {floor} was before");
        // The member may have no answer yet, or just not have noted it.
        wait::for_condition("the commit that is there", DEADLINE, || {
            committed <= books.ceiling(partition)
        });
    }
    wait::for_condition("commits after the kill", DEADLINE, || {
        books.assert_right();
        books.certain() > before
    });
}

/// Until everything is read and committed.
fn settle(books: &Books, broker: SocketAddr, ends: &[i64]) {
    wait::for_condition("all being read", DEADLINE, || {
        books.assert_right();
        committed(broker) == ends
    });
    for (partition, end) in (0..).zip(ends) {
        // The last answers may still be on their way.
        wait::for_condition("the last commit", DEADLINE, || books.ceiling(partition) >= *end);
        if let Err(gap) = books.chain(partition, *end) {
            panic!("{gap}");
        }
    }
}

fn committed(broker: SocketAddr) -> Vec<i64> {
    let all: Vec<i32> = (0..PARTITIONS).collect();
    until_answered(broker, |wire| wire.offsets(GROUP, TOPIC, &all))
}

/// A broker that has just started may refuse for a while.
fn until_answered<T>(broker: SocketAddr, mut ask: impl FnMut(&mut Wire) -> Answer<T>) -> T {
    wait::until("the broker's answer", DEADLINE, || {
        Wire::connect(broker).and_then(|mut wire| ask(&mut wire)).ok()?.ok()
    })
}

/// Writes values that name their places until it is calm; gives the ends of the partitions.
fn produce(books: &Books, broker: SocketAddr) -> Vec<i64> {
    let id = until_answered(broker, |wire| {
        let (code, id, epoch) = wire.init_producer_id()?;
        Ok(if code == 0 { Ok((id, epoch)) } else { Err(Code(code)) })
    });
    let mut ends = vec![0; PARTITIONS as usize];
    let mut wire = None;
    while !books.calm.load(Ordering::Relaxed) {
        // The same again after a kill: the broker knows what it has, by its number.
        match round(&mut wire, broker, id, &ends) {
            Ok(()) => ends.iter_mut().for_each(|end| *end += BATCH as i64),
            Err(_) => wire = None,
        }
        thread::sleep(REST);
    }
    // What the last round may have left.
    wait::until("the last round", DEADLINE, || {
        let sent = round(&mut wire, broker, id, &ends);
        wire = wire.take().filter(|_| sent.is_ok());
        sent.ok()
    });
    ends.iter().map(|end| end + BATCH as i64).collect()
}

/// A batch for each partition.
fn round(
    wire: &mut Option<Wire>,
    broker: SocketAddr,
    (producer_id, epoch): (i64, i16),
    ends: &[i64],
) -> std::io::Result<()> {
    let wire = match wire {
        Some(wire) => wire,
        None => wire.insert(Wire::connect(broker)?),
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |it| it.as_millis() as i64);
    for (partition, &end) in (0..).zip(ends) {
        let values: Vec<Vec<u8>> =
            (end..end + BATCH as i64).map(|at| churn::value(partition, at)).collect();
        let by = Numbered { producer_id, epoch, sequence: end as i32 };
        wire.produce(TOPIC, partition, &batch::encode(&values, now, by))?;
        let produced = wire.produced()?;
        // In the log already, from the try that got no answer.
        let is_there = produced.code == 0 && produced.base_offset == end;
        if !is_there {
            return Err(std::io::Error::other(format!("{produced:?} instead of {end}")));
        }
    }
    Ok(())
}
