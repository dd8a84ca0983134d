//! What one bridge holds between the broker's PUBLISH and our acknowledgement: messages that wait for an
//! append, and acknowledgements that wait for durability.
//!
//! No I/O. Every message gets a number in the order of arrival; acknowledgements leave in the order in
//! which their PUBLISH came in this session (MQTT-4.6.0-2), each only once its number is durable.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use rumqttc::{Publish, QoS};

/// Messages without an append at which reading from the broker stops.
const MAX_WAITING: usize = 8 * 1024;
/// Bytes of those messages, likewise; one message may go over it.
const MAX_WAITING_BYTES: usize = 8 * 1024 * 1024;
/// Acknowledgements that may wait: every packet id of a session and as many repetitions. Reading goes on
/// up to here, because the client reads and writes in one.
const MAX_ACKS: usize = 2 * (u16::MAX as usize + 1);
/// Messages of one append.
const CHUNK_MESSAGES: usize = 1024;
/// Bytes of one append at which it closes; a larger message goes alone.
const CHUNK_BYTES: usize = 128 * 1024;

/// One message of the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    /// MQTT topic name.
    pub(super) topic: String,
    /// Payload, verbatim.
    pub(super) payload: Bytes,
    /// Whether the broker sent it as a retained message.
    pub(super) retained: bool,
    /// Unix ms of receipt.
    pub(super) received_ms: i64,
}

/// What an acknowledgement needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Receipt {
    /// Packet id in this session.
    pub(super) packet_id: u16,
    /// QoS of the PUBLISH.
    pub(super) qos: QoS,
}

/// Number of a message in the order of arrival, from 1.
pub(super) type Number = u64;

/// A message that the broker still counts as not acknowledged.
#[derive(Clone, Copy, Debug)]
struct Unacked {
    number: Number,
    crc: u32,
    bytes: usize,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Intake {
    waiting: VecDeque<Message>,
    waiting_bytes: usize,
    arrived: Number,
    durable: Number,
    acks: VecDeque<(Receipt, Number)>,
    unacked: HashMap<u16, Unacked>,
}

impl Intake {
    /// A session began. If the broker kept the old one it repeats with DUP what we have not acknowledged,
    /// under the same packet ids; else packet ids start anew.
    pub(super) fn connected(&mut self, session_present: bool) {
        if !session_present {
            self.unacked.clear();
        }
    }

    /// The session ended: acknowledgements may only be sent in the session of their PUBLISH. The messages
    /// stay, because the broker may come back without them.
    pub(super) fn disconnected(&mut self) {
        self.acks.clear();
    }

    /// Takes a PUBLISH; false if it repeats a message that is held or durable already.
    pub(super) fn publish(&mut self, publish: Publish, received_ms: i64) -> bool {
        if publish.qos == QoS::AtMostOnce {
            self.hold(publish, received_ms);
            return true;
        }
        let receipt = Receipt { packet_id: publish.pkid, qos: publish.qos };
        let crc = fingerprint(&publish);
        let bytes = publish.payload.len();
        // Not acknowledged by us, so the id cannot have been given to another message; the comparison
        // guards against a broker that came back with an older state.
        if publish.dup
            && let Some(known) = self.unacked.get(&publish.pkid)
            && known.crc == crc
            && known.bytes == bytes
        {
            self.acks.push_back((receipt, known.number));
            return false;
        }
        let number = self.hold(publish, received_ms);
        self.unacked.insert(receipt.packet_id, Unacked { number, crc, bytes });
        self.acks.push_back((receipt, number));
        true
    }

    /// The first `count` waiting messages were admitted; they are durable once this number is.
    pub(super) fn admitted(&mut self, count: usize) -> Number {
        for message in self.waiting.drain(..count) {
            self.waiting_bytes -= message.payload.len() + message.topic.len();
        }
        self.arrived - self.waiting.len() as Number
    }

    /// Lets go of the messages without an append, and of their acknowledgements.
    pub(super) fn forget_waiting(&mut self) {
        let admitted = self.arrived - self.waiting.len() as Number;
        self.waiting.clear();
        self.waiting_bytes = 0;
        self.acks.retain(|(_, number)| *number <= admitted);
    }

    /// Everything up to this message is durable.
    pub(super) fn durable_through(&mut self, number: Number) {
        self.durable = self.durable.max(number);
    }

    /// The acknowledgement was handed to the client.
    pub(super) fn acked(&mut self) {
        if let Some((receipt, number)) = self.acks.pop_front()
            && self.unacked.get(&receipt.packet_id).is_some_and(|known| known.number == number)
        {
            self.unacked.remove(&receipt.packet_id);
        }
    }

    /// The next acknowledgement, if its message is durable.
    pub(super) fn next_ack(&self) -> Option<Receipt> {
        self.acks.front().filter(|(_, number)| *number <= self.durable).map(|(receipt, _)| *receipt)
    }

    /// The messages of the next append: as many as fit one chunk, at most `most`, at least one if any waits.
    pub(super) fn chunk(&self, most: usize) -> impl Iterator<Item = &Message> + Clone {
        let mut bytes = 0usize;
        let mut count = 0usize;
        for message in self.waiting.iter().take(most.min(CHUNK_MESSAGES)) {
            bytes += message.payload.len() + message.topic.len();
            if count > 0 && bytes > CHUNK_BYTES {
                break;
            }
            count += 1;
        }
        self.waiting.iter().take(count)
    }

    /// Whether any message waits for an append.
    pub(super) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Whether gathering more would not make the next append larger.
    pub(super) fn fills_a_chunk(&self) -> bool {
        self.waiting.len() >= CHUNK_MESSAGES || self.waiting_bytes >= CHUNK_BYTES
    }

    /// Whether reading from the broker has to pause.
    pub(super) fn is_full(&self) -> bool {
        self.waiting.len() >= MAX_WAITING || self.waiting_bytes >= MAX_WAITING_BYTES
    }

    /// Whether the broker sent more than a session can have in flight.
    pub(super) fn has_too_many_acks(&self) -> bool {
        self.acks.len() >= MAX_ACKS
    }

    fn hold(&mut self, publish: Publish, received_ms: i64) -> Number {
        self.waiting_bytes += publish.payload.len() + publish.topic.len();
        self.waiting.push_back(Message {
            topic: publish.topic,
            payload: publish.payload,
            retained: publish.retain,
            received_ms,
        });
        self.arrived += 1;
        self.arrived
    }
}

fn fingerprint(publish: &Publish) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(publish.topic.as_bytes()), &publish.payload)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: [u16; 0] = [];

    fn publish(packet_id: u16, payload: &str) -> Publish {
        let qos = if packet_id == 0 { QoS::AtMostOnce } else { QoS::AtLeastOnce };
        let mut publish = Publish::new("t", qos, payload);
        publish.pkid = packet_id;
        publish
    }

    fn repeated(packet_id: u16, payload: &str) -> Publish {
        Publish { dup: true, ..publish(packet_id, payload) }
    }

    fn acks(intake: &mut Intake) -> Vec<u16> {
        let mut ids = Vec::new();
        while let Some(receipt) = intake.next_ack() {
            ids.push(receipt.packet_id);
            intake.acked();
        }
        ids
    }

    #[test]
    fn acknowledges_in_order_of_receipt_and_only_what_is_durable() {
        let mut intake = Intake::default();
        for id in [7, 3, 5] {
            assert!(intake.publish(publish(id, "x"), 0));
        }
        let first = intake.admitted(2);
        assert_eq!(acks(&mut intake), NONE);
        intake.durable_through(first);
        assert_eq!(acks(&mut intake), [7, 3]);
        let second = intake.admitted(1);
        intake.durable_through(second);
        assert_eq!(acks(&mut intake), [5]);
    }

    #[test]
    fn a_message_without_acknowledgement_does_not_shift_the_others() {
        let mut intake = Intake::default();
        for id in [1, 0, 2] {
            assert!(intake.publish(publish(id, "x"), 0));
        }
        let first = intake.admitted(1);
        intake.durable_through(first);
        assert_eq!(acks(&mut intake), [1]);
        let second = intake.admitted(1);
        intake.durable_through(second);
        assert_eq!(acks(&mut intake), NONE);
        let third = intake.admitted(1);
        intake.durable_through(third);
        assert_eq!(acks(&mut intake), [2]);
    }

    #[test]
    fn a_resumed_session_repeats_without_a_second_record() {
        let mut intake = Intake::default();
        for id in [1, 2] {
            assert!(intake.publish(publish(id, "x"), 0));
        }
        let both = intake.admitted(2);
        intake.disconnected();
        intake.durable_through(both);
        assert_eq!(acks(&mut intake), NONE, "no acknowledgement crosses sessions");
        intake.connected(true);
        assert!(!intake.publish(repeated(1, "x"), 0));
        assert!(!intake.publish(repeated(2, "x"), 0));
        assert!(!intake.has_waiting());
        assert_eq!(acks(&mut intake), [1, 2]);
    }

    #[test]
    fn a_repetition_of_something_else_is_a_new_message() {
        for (case, present, again) in [
            ("the broker lost the session", false, repeated(1, "x")),
            ("another payload under the id", true, repeated(1, "y")),
            ("the id without DUP", true, publish(1, "x")),
            ("an id that we have acknowledged", true, repeated(2, "x")),
        ] {
            let mut intake = Intake::default();
            intake.publish(publish(2, "x"), 0);
            let first = intake.admitted(1);
            intake.durable_through(first);
            assert_eq!(acks(&mut intake), [2]);
            intake.publish(publish(1, "x"), 0);
            intake.disconnected();
            intake.connected(present);
            assert!(intake.publish(again, 0), "{case}");
            assert_eq!(intake.chunk(usize::MAX).count(), 2, "{case}");
        }
    }

    #[test]
    fn chunks_are_bounded_and_never_empty() {
        let mut intake = Intake::default();
        let large = "x".repeat(CHUNK_BYTES + 1);
        intake.publish(publish(1, &large), 0);
        intake.publish(publish(2, "x"), 0);
        intake.publish(publish(3, &large), 0);
        assert_eq!(intake.chunk(usize::MAX).count(), 1);
        intake.admitted(1);
        assert_eq!(intake.chunk(usize::MAX).count(), 1);
        assert_eq!(intake.chunk(1).count(), 1);
        intake.admitted(1);
        assert_eq!(intake.chunk(usize::MAX).count(), 1);
    }

    #[test]
    fn reading_pauses_at_the_limits() {
        let mut many = Intake::default();
        for _ in 0..MAX_WAITING {
            assert!(!many.is_full());
            many.publish(publish(0, ""), 0);
        }
        assert!(many.is_full());
        many.admitted(1);
        assert!(!many.is_full());

        let mut large = Intake::default();
        large.publish(publish(1, &"x".repeat(MAX_WAITING_BYTES)), 0);
        assert!(large.is_full());

        let mut repeats = Intake::default();
        repeats.publish(publish(1, "x"), 0);
        while repeats.acks.len() < MAX_ACKS {
            assert!(!repeats.has_too_many_acks());
            repeats.publish(repeated(1, "x"), 0);
        }
        assert!(repeats.has_too_many_acks());
    }
}
