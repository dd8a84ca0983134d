//! Groups with several members, as bytes on a socket: what a consumer says, a step at a time, so that a test can stop
//! between any two of them.

use std::io;

use super::{Fields, HEARTBEAT, JOIN_GROUP, SYNC_GROUP, Wire, string};

const OFFSET_COMMIT: (i16, i16) = (8, 2);
const OFFSET_FETCH: (i16, i16) = (9, 1);
const FIND_COORDINATOR: (i16, i16) = (10, 0);
const LEAVE_GROUP: (i16, i16) = (13, 0);
const CREATE_TOPICS: (i16, i16) = (19, 2);

/// How long the group remembers a silent member: the least that Kafka allows.
const SESSION_MS: i32 = 6_000;
/// How long a rebalance waits for members that do not come back.
const REBALANCE_MS: i32 = 1_000;

/// Kafka's error code, where it is not 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code(pub i16);

impl Code {
    /// The member's id is not known, or no longer.
    pub const UNKNOWN_MEMBER_ID: Self = Self(25);
}

/// What a broker answered, or why there is no answer.
pub type Answer<T> = io::Result<Result<T, Code>>;

/// A membership of one generation.
#[derive(Clone, Debug, Default)]
pub struct Joined {
    /// Counted by the group.
    pub generation: i32,
    /// The member that assigns.
    pub leader: String,
    /// Given by the group.
    pub id: String,
    /// All members, for the leader alone.
    pub members: Vec<String>,
}

impl Wire {
    /// Creates a topic; one that is there already is refused.
    pub fn create_topic(&mut self, topic: &str, partitions: i32) -> Answer<()> {
        let mut body = 1i32.to_be_bytes().to_vec();
        string(&mut body, topic);
        body.extend_from_slice(&partitions.to_be_bytes());
        body.extend_from_slice(&1i16.to_be_bytes());
        body.extend_from_slice(&[0; 8]); // neither assignments nor settings
        body.extend_from_slice(&10_000i32.to_be_bytes());
        body.push(0);
        let answer = self.ask(CREATE_TOPICS, &body)?;
        let mut fields = Fields(&answer);
        fields.i32()?;
        fields.i32()?;
        fields.string()?;
        Ok(checked(fields.i16()?))
    }

    /// Whether the group's coordinator can be told; Kafka makes its topic of offsets when it is asked first.
    pub fn find_coordinator(&mut self, group: &str) -> Answer<()> {
        let mut body = Vec::new();
        string(&mut body, group);
        let answer = self.ask(FIND_COORDINATOR, &body)?;
        Ok(checked(Fields(&answer).i16()?))
    }

    /// Joins, or joins again under an id; waits until the group is complete.
    pub fn join_as(&mut self, group: &str, id: &str) -> Answer<Joined> {
        let mut body = Vec::new();
        string(&mut body, group);
        body.extend_from_slice(&SESSION_MS.to_be_bytes());
        body.extend_from_slice(&REBALANCE_MS.to_be_bytes());
        string(&mut body, id);
        string(&mut body, "consumer");
        body.extend_from_slice(&1i32.to_be_bytes());
        string(&mut body, "range");
        body.extend_from_slice(&0i32.to_be_bytes());
        let answer = self.ask(JOIN_GROUP, &body)?;
        let mut fields = Fields(&answer);
        if let Err(code) = checked(fields.i16()?) {
            return Ok(Err(code));
        }
        let generation = fields.i32()?;
        fields.string()?;
        let (leader, id) = (fields.string()?, fields.string()?);
        let mut members = Vec::new();
        for _ in 0..fields.i32()? {
            members.push(fields.string()?);
            let length = fields.i32()?;
            fields.take(usize::try_from(length).unwrap_or(0))?;
        }
        Ok(Ok(Joined { generation, leader, id, members }))
    }

    /// Tells the assignments, if it is the leader, and hears the own one.
    pub fn sync_as(
        &mut self,
        group: &str,
        joined: &Joined,
        assignments: &[(String, Vec<i32>)],
    ) -> Answer<Vec<i32>> {
        let mut body = membership(group, joined);
        body.extend_from_slice(&(assignments.len() as i32).to_be_bytes());
        for (id, partitions) in assignments {
            string(&mut body, id);
            // The broker does not read it, so the partitions alone do.
            body.extend_from_slice(&((partitions.len() * 4) as i32).to_be_bytes());
            body.extend(partitions.iter().flat_map(|partition| partition.to_be_bytes()));
        }
        let answer = self.ask(SYNC_GROUP, &body)?;
        let mut fields = Fields(&answer);
        if let Err(code) = checked(fields.i16()?) {
            return Ok(Err(code));
        }
        let count = fields.i32()? / 4;
        Ok(Ok((0..count).map(|_| fields.i32()).collect::<io::Result<_>>()?))
    }

    /// Tells the group that the member lives.
    pub fn beat(&mut self, group: &str, joined: &Joined) -> Answer<()> {
        let answer = self.ask(HEARTBEAT, &membership(group, joined))?;
        Ok(checked(Fields(&answer).i16()?))
    }

    /// Leaves for good.
    pub fn leave(&mut self, group: &str, joined: &Joined) -> Answer<()> {
        let mut body = Vec::new();
        string(&mut body, group);
        string(&mut body, &joined.id);
        let answer = self.ask(LEAVE_GROUP, &body)?;
        Ok(checked(Fields(&answer).i16()?))
    }

    /// Sends a commit; [`Wire::committed_as`] is the answer.
    pub fn commit_as(
        &mut self,
        group: &str,
        joined: &Joined,
        (topic, partition): (&str, i32),
        offset: i64,
    ) -> io::Result<()> {
        let mut body = membership(group, joined);
        body.extend_from_slice(&(-1i64).to_be_bytes());
        body.extend_from_slice(&1i32.to_be_bytes());
        string(&mut body, topic);
        body.extend_from_slice(&1i32.to_be_bytes());
        body.extend_from_slice(&partition.to_be_bytes());
        body.extend_from_slice(&offset.to_be_bytes());
        string(&mut body, "");
        self.send(OFFSET_COMMIT, &body)
    }

    /// What became of [`Wire::commit_as`].
    pub fn committed_as(&mut self) -> Answer<()> {
        let answer = self.receive()?;
        let mut fields = Fields(&answer);
        fields.i32()?;
        fields.string()?;
        fields.i32()?;
        fields.i32()?;
        Ok(checked(fields.i16()?))
    }

    /// Offsets that the group has committed, -1 where there is none.
    pub fn offsets(&mut self, group: &str, topic: &str, partitions: &[i32]) -> Answer<Vec<i64>> {
        let mut body = Vec::new();
        string(&mut body, group);
        body.extend_from_slice(&1i32.to_be_bytes());
        string(&mut body, topic);
        body.extend_from_slice(&(partitions.len() as i32).to_be_bytes());
        body.extend(partitions.iter().flat_map(|partition| partition.to_be_bytes()));
        let answer = self.ask(OFFSET_FETCH, &body)?;
        let mut fields = Fields(&answer);
        fields.i32()?;
        fields.string()?;
        let count = fields.i32()?;
        let mut found = vec![-1; partitions.len()];
        for _ in 0..count {
            let partition = fields.i32()?;
            let offset = fields.i64()?;
            fields.string()?;
            if let Err(code) = checked(fields.i16()?) {
                return Ok(Err(code));
            }
            let place = partitions.iter().position(|wanted| *wanted == partition);
            found[place.ok_or(io::ErrorKind::InvalidData)?] = offset;
        }
        Ok(Ok(found))
    }
}

/// How the requests of a member begin.
fn membership(group: &str, joined: &Joined) -> Vec<u8> {
    let mut body = Vec::new();
    string(&mut body, group);
    body.extend_from_slice(&joined.generation.to_be_bytes());
    string(&mut body, &joined.id);
    body
}

fn checked(code: i16) -> Result<(), Code> {
    if code == 0 { Ok(()) } else { Err(Code(code)) }
}
