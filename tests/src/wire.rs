//! Kafka's protocol as bytes on a socket: a handful of requests in fixed versions.
//!
//! It shares no code with the gateway or with a client library, so an error of theirs is not repeated here.

pub mod member;

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

/// Nothing is asked that takes longer, but for a join that waits for others.
const PATIENCE: Duration = Duration::from_secs(20);
const CONNECTING: Duration = Duration::from_secs(2);
/// Longer answers are not asked for.
const MAX_ANSWER_BYTES: usize = 64 << 20;

/// Requests and the versions that are spoken.
const PRODUCE: (i16, i16) = (0, 3);
const FETCH: (i16, i16) = (1, 5);
const LIST_OFFSETS: (i16, i16) = (2, 1);
const JOIN_GROUP: (i16, i16) = (11, 1);
const HEARTBEAT: (i16, i16) = (12, 0);
const SYNC_GROUP: (i16, i16) = (14, 0);
const API_VERSIONS: (i16, i16) = (18, 0);
const INIT_PRODUCER_ID: (i16, i16) = (22, 1);

/// Times with a meaning of their own in ListOffsets.
const LATEST: i64 = -1;
const EARLIEST: i64 = -2;

/// One connection to a broker.
#[derive(Debug)]
pub struct Wire {
    stream: TcpStream,
    correlation: i32,
    answered: i32,
}

/// What became of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Produced {
    /// Kafka's error code; 0 is none.
    pub code: i16,
    /// Offset of the first record.
    pub base_offset: i64,
}

/// What a fetch found in one partition.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// Partition.
    pub partition: i32,
    /// Kafka's error code; 0 is none.
    pub code: i16,
    /// One past the last offset that may be read.
    pub high_watermark: i64,
    /// First offset that is there.
    pub log_start: i64,
    /// Whole batches, and perhaps a part of one.
    pub records: Vec<u8>,
}

/// Membership of a consumer group.
#[derive(Clone, Debug)]
pub struct Member {
    group: String,
    id: String,
    generation: i32,
}

impl Wire {
    /// Connects, once, and asks for the versions.
    pub fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, CONNECTING)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut wire = Self { stream, correlation: 0, answered: 0 };
        // As every client does: who has not said anything sensible yet may not send long frames.
        wire.send(API_VERSIONS, &[])?;
        let answer = wire.receive()?;
        refused("ApiVersions", Fields(&answer).i16()?)?;
        Ok(wire)
    }

    /// An id for an idempotent producer: its code, id and epoch.
    pub fn init_producer_id(&mut self) -> io::Result<(i16, i64, i16)> {
        let mut body = Vec::new();
        body.extend_from_slice(&(-1i16).to_be_bytes());
        body.extend_from_slice(&60_000i32.to_be_bytes());
        self.send(INIT_PRODUCER_ID, &body)?;
        let answer = self.receive()?;
        let mut fields = Fields(&answer);
        fields.i32()?;
        Ok((fields.i16()?, fields.i64()?, fields.i16()?))
    }

    /// Sends one batch, to be acknowledged when it is durable; the answer is [`Wire::produced`].
    pub fn produce(&mut self, topic: &str, partition: i32, batch: &[u8]) -> io::Result<()> {
        let mut body = Vec::with_capacity(batch.len() + 64);
        body.extend_from_slice(&(-1i16).to_be_bytes());
        body.extend_from_slice(&(-1i16).to_be_bytes());
        body.extend_from_slice(&10_000i32.to_be_bytes());
        body.extend_from_slice(&1i32.to_be_bytes());
        string(&mut body, topic);
        body.extend_from_slice(&1i32.to_be_bytes());
        body.extend_from_slice(&partition.to_be_bytes());
        body.extend_from_slice(&(batch.len() as i32).to_be_bytes());
        body.extend_from_slice(batch);
        self.send(PRODUCE, &body)
    }

    /// The answer to the oldest [`Wire::produce`] that has none yet.
    pub fn produced(&mut self) -> io::Result<Produced> {
        let answer = self.receive()?;
        let mut fields = Fields(&answer);
        fields.i32()?;
        fields.string()?;
        fields.i32()?;
        fields.i32()?;
        Ok(Produced { code: fields.i16()?, base_offset: fields.i64()? })
    }

    /// First offset that is there, and one past the last.
    pub fn ends(&mut self, topic: &str, partition: i32) -> io::Result<(i64, i64)> {
        Ok((self.offset(topic, partition, EARLIEST)?, self.offset(topic, partition, LATEST)?))
    }

    fn offset(&mut self, topic: &str, partition: i32, time: i64) -> io::Result<i64> {
        let mut body = (-1i32).to_be_bytes().to_vec();
        body.extend_from_slice(&1i32.to_be_bytes());
        string(&mut body, topic);
        body.extend_from_slice(&1i32.to_be_bytes());
        body.extend_from_slice(&partition.to_be_bytes());
        body.extend_from_slice(&time.to_be_bytes());
        self.send(LIST_OFFSETS, &body)?;
        let answer = self.receive()?;
        let mut fields = Fields(&answer);
        fields.i32()?;
        fields.string()?;
        fields.i32()?;
        fields.i32()?;
        match fields.i16()? {
            0 => {
                fields.i64()?;
                fields.i64()
            }
            code => Err(io::Error::other(format!("ListOffsets: error code {code}"))),
        }
    }

    /// What lies at these offsets of the partitions, in order; waits a while if there is nothing.
    pub fn fetch(
        &mut self,
        topic: &str,
        from: &[(i32, i64)],
        max_wait_ms: i32,
    ) -> io::Result<Vec<Fetched>> {
        let mut body = (-1i32).to_be_bytes().to_vec();
        body.extend_from_slice(&max_wait_ms.to_be_bytes());
        body.extend_from_slice(&1i32.to_be_bytes());
        body.extend_from_slice(&(4i32 << 20).to_be_bytes());
        body.push(0);
        body.extend_from_slice(&1i32.to_be_bytes());
        string(&mut body, topic);
        body.extend_from_slice(&(from.len() as i32).to_be_bytes());
        for (partition, offset) in from {
            body.extend_from_slice(&partition.to_be_bytes());
            body.extend_from_slice(&offset.to_be_bytes());
            body.extend_from_slice(&(-1i64).to_be_bytes());
            body.extend_from_slice(&(1i32 << 20).to_be_bytes());
        }
        self.send(FETCH, &body)?;
        let answer = self.receive()?;
        let mut fields = Fields(&answer);
        fields.i32()?;
        fields.i32()?;
        fields.string()?;
        let count = fields.i32()?;
        (0..count).map(|_| fields.fetched()).collect()
    }

    /// Joins a group as its only member and leader.
    pub fn join(&mut self, group: &str, session_ms: i32) -> io::Result<Member> {
        let mut body = Vec::new();
        string(&mut body, group);
        body.extend_from_slice(&session_ms.to_be_bytes());
        body.extend_from_slice(&session_ms.to_be_bytes());
        string(&mut body, "");
        string(&mut body, "consumer");
        body.extend_from_slice(&1i32.to_be_bytes());
        string(&mut body, "range");
        body.extend_from_slice(&0i32.to_be_bytes());
        self.send(JOIN_GROUP, &body)?;
        let answer = self.receive()?;
        let mut fields = Fields(&answer);
        refused("JoinGroup", fields.i16()?)?;
        let generation = fields.i32()?;
        fields.string()?;
        fields.string()?;
        let id = fields.string()?;
        let member = Member { group: group.to_owned(), id, generation };
        let mut body = member.fields();
        body.extend_from_slice(&1i32.to_be_bytes());
        string(&mut body, &member.id);
        body.extend_from_slice(&0i32.to_be_bytes());
        self.send(SYNC_GROUP, &body)?;
        let answer = self.receive()?;
        refused("SyncGroup", Fields(&answer).i16()?)?;
        Ok(member)
    }

    /// Tells the group that the member lives; the error code.
    pub fn heartbeat(&mut self, member: &Member) -> io::Result<i16> {
        self.send(HEARTBEAT, &member.fields())?;
        let answer = self.receive()?;
        Fields(&answer).i16()
    }

    /// Sends the body of any request whose header has no tagged fields; gives the body of its answer.
    pub fn ask(&mut self, api: (i16, i16), body: &[u8]) -> io::Result<Vec<u8>> {
        self.send(api, body)?;
        self.receive()
    }

    fn send(&mut self, (key, version): (i16, i16), body: &[u8]) -> io::Result<()> {
        self.correlation += 1;
        let mut frame = Vec::with_capacity(body.len() + 32);
        frame.extend_from_slice(&[0; 4]);
        frame.extend_from_slice(&key.to_be_bytes());
        frame.extend_from_slice(&version.to_be_bytes());
        frame.extend_from_slice(&self.correlation.to_be_bytes());
        string(&mut frame, "ledger");
        frame.extend_from_slice(body);
        let length = (frame.len() - 4) as i32;
        frame[..4].copy_from_slice(&length.to_be_bytes());
        self.stream.write_all(&frame)
    }

    /// The next answer without its header.
    fn receive(&mut self) -> io::Result<Vec<u8>> {
        let mut head = [0; 8];
        self.stream.read_exact(&mut head)?;
        let length = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let correlation = i32::from_be_bytes([head[4], head[5], head[6], head[7]]);
        self.answered += 1;
        if correlation != self.answered || !(4..=MAX_ANSWER_BYTES).contains(&length) {
            let what = format!("answer {correlation} of {length} bytes, {} is due", self.answered);
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        let mut answer = vec![0; length - 4];
        self.stream.read_exact(&mut answer)?;
        Ok(answer)
    }
}

impl Member {
    /// How Heartbeat and SyncGroup begin.
    fn fields(&self) -> Vec<u8> {
        let mut body = Vec::new();
        string(&mut body, &self.group);
        body.extend_from_slice(&self.generation.to_be_bytes());
        string(&mut body, &self.id);
        body
    }
}

fn refused(what: &str, code: i16) -> io::Result<()> {
    match code {
        0 => Ok(()),
        code => Err(io::Error::other(format!("{what}: error code {code}"))),
    }
}

fn string(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(&(text.len() as i16).to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

/// What is left of an answer.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take(&mut self, count: usize) -> io::Result<&[u8]> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(io::ErrorKind::UnexpectedEof)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        Ok(self.take(N)?.try_into().expect("so many were taken"))
    }

    fn i16(&mut self) -> io::Result<i16> {
        Ok(i16::from_be_bytes(self.array()?))
    }

    fn i32(&mut self) -> io::Result<i32> {
        Ok(i32::from_be_bytes(self.array()?))
    }

    fn i64(&mut self) -> io::Result<i64> {
        Ok(i64::from_be_bytes(self.array()?))
    }

    /// A string, a missing one as an empty one.
    fn string(&mut self) -> io::Result<String> {
        let length = usize::try_from(self.i16()?).unwrap_or(0);
        Ok(String::from_utf8_lossy(self.take(length)?).into_owned())
    }

    fn fetched(&mut self) -> io::Result<Fetched> {
        let (partition, code) = (self.i32()?, self.i16()?);
        let (high_watermark, _stable, log_start) = (self.i64()?, self.i64()?, self.i64()?);
        for _ in 0..self.i32()? {
            self.take(16)?;
        }
        let length = usize::try_from(self.i32()?).unwrap_or(0);
        let records = self.take(length)?.to_vec();
        Ok(Fetched { partition, code, high_watermark, log_start, records })
    }
}
