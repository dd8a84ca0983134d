//! A transaction that a partition never sees the end of, written in another producer's name, as a Kafka that forgot
//! its marker leaves it behind. The broker has to take writes without asking the coordinator
//! (`transaction.partition.verification.enable=false`).

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crate::{clients, kcat};

const TIMEOUT: Duration = Duration::from_secs(10);
const TRANSACTIONAL: i16 = 1 << 4;
/// Compacted topics want one.
const KEY: &[u8] = b"test";

/// A transactional producer as the coordinator knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Producer {
    /// Its `transactional.id`.
    pub transactional_id: String,
    /// What became of its last transaction, in the coordinator's words.
    pub state: String,
    id: i64,
    epoch: i16,
}

impl Producer {
    /// The only transactional producer that the cluster has.
    ///
    /// # Panics
    /// If there is not exactly one.
    #[must_use]
    pub fn only(broker: SocketAddr) -> Self {
        let listed = transactions(broker, &["list"]);
        let ids: Vec<_> =
            listed.lines().skip(1).filter_map(|line| line.split('\t').next()).collect();
        let [id] = ids[..] else { panic!("not one producer: {listed}") };
        let described = transactions(broker, &["describe", "--transactional-id", id.trim()]);
        let mut lines = described.lines().map(|line| line.split('\t').map(str::trim));
        let (head, row) = (lines.next().expect("a head"), lines.next().expect("a row"));
        let row: Vec<_> = head.zip(row).collect();
        let cell = |name: &str| {
            let cell = row.iter().find(|(head, _)| *head == name);
            cell.unwrap_or_else(|| panic!("no {name}: {described}")).1
        };
        Self {
            transactional_id: id.trim().to_owned(),
            state: cell("TransactionState").to_owned(),
            id: cell("ProducerId").parse().expect("a number"),
            epoch: cell("ProducerEpoch").parse().expect("a number"),
        }
    }

    /// Writes a record into partition `index` of `topic` in a transaction that nobody ends.
    ///
    /// # Panics
    /// If the broker refuses it.
    pub fn leave_open(&self, broker: SocketAddr, topic: &str, index: i32, value: &str) {
        let batch = self.batch(value);
        let mut request = Vec::new();
        request.extend(0_i16.to_be_bytes()); // Produce
        request.extend(7_i16.to_be_bytes());
        request.extend(0_i32.to_be_bytes());
        put_text(&mut request, "test");
        put_text(&mut request, &self.transactional_id);
        request.extend((-1_i16).to_be_bytes()); // acks
        request.extend(10_000_i32.to_be_bytes());
        request.extend(1_i32.to_be_bytes());
        put_text(&mut request, topic);
        request.extend(1_i32.to_be_bytes());
        request.extend(index.to_be_bytes());
        request.extend(length(&batch).to_be_bytes());
        request.extend(batch);

        let mut stream = TcpStream::connect(broker).expect("the broker listens");
        stream.set_read_timeout(Some(TIMEOUT)).expect("a timeout");
        stream.write_all(&length(&request).to_be_bytes()).expect("the broker reads");
        stream.write_all(&request).expect("the broker reads");
        // Size, correlation id, one topic, its name, one partition, its index.
        let mut answer = vec![0; 4 + 4 + 4 + 2 + topic.len() + 4 + 4 + 2];
        stream.read_exact(&mut answer).expect("an answer");
        assert_eq!(answer[answer.len() - 2..], [0, 0], "the broker's error code");
    }

    /// A record batch (v2) of one record.
    fn batch(&self, value: &str) -> Vec<u8> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis();
        let now = i64::try_from(now).expect("not that late");
        let mut record = vec![0, 0, 0]; // attributes, deltas
        put_varint(&mut record, KEY.len());
        record.extend(KEY);
        put_varint(&mut record, value.len());
        record.extend(value.as_bytes());
        record.push(0);

        let mut body = Vec::new(); // what the CRC covers
        body.extend(TRANSACTIONAL.to_be_bytes());
        body.extend(0_i32.to_be_bytes());
        body.extend(now.to_be_bytes());
        body.extend(now.to_be_bytes());
        body.extend(self.id.to_be_bytes());
        body.extend(self.epoch.to_be_bytes());
        body.extend(0_i32.to_be_bytes()); // first sequence number
        body.extend(1_i32.to_be_bytes());
        put_varint(&mut body, record.len());
        body.extend(record);

        let mut batch = 0_i64.to_be_bytes().to_vec();
        batch.extend((length(&body) + 9).to_be_bytes());
        batch.extend((-1_i32).to_be_bytes());
        batch.push(2);
        batch.extend(crc32c::crc32c(&body).to_be_bytes());
        batch.extend(body);
        batch
    }
}

fn transactions(broker: SocketAddr, arguments: &[&str]) -> String {
    let mut tool = clients::java_tool("org.apache.kafka.tools.TransactionsCommand", "128m");
    tool.args(["--bootstrap-server", &broker.to_string()]).args(arguments);
    kcat::run(&mut tool)
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    out.extend(i16::try_from(text.len()).expect("short").to_be_bytes());
    out.extend(text.as_bytes());
}

fn put_varint(out: &mut Vec<u8>, value: usize) {
    let mut rest = value << 1;
    while rest >= 0x80 {
        out.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

fn length(bytes: &[u8]) -> i32 {
    i32::try_from(bytes.len()).expect("short")
}
