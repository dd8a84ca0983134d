//! The device's state machine: HELLO, sessions, clock answers, and what goes out next. Items in
//! flight are `Flight`'s.

use super::{
    DeviceConfig, DeviceCounters, DeviceEvent, ItemQueue,
    due::Due,
    flight::{Departure, Flight, Patience, ticks},
    outbox::Outbox,
};
use crate::{
    DEVICE_RECEIVE_MIN, Hello, Position, StreamId, VERSION,
    frame::{self, Frame, Lead, Progress},
    item::Schema,
    message::{
        Ack, Command, CommandStatus, HEAD_MAX, HelloAck, TimeAnswer, TimeRequest, Verdict, kind,
        split_session,
    },
    wire::Writer,
};

/// The device end of a link. `RX` is its receive maximum: type, length, body and CRC, bytes, at
/// least 64.
#[derive(Clone, Debug)]
pub struct DeviceLink<const RX: usize = DEVICE_RECEIVE_MIN> {
    config: DeviceConfig,
    stream: Option<StreamId>,
    decoder: frame::Decoder<RX>,
    counters: DeviceCounters,
    /// The host's session, 0 = none heard of.
    session: u32,
    /// Whether the host has accepted this device in `session`.
    up: bool,
    /// Number of sessions begun or tried in this boot: HELLO carries it, the answer echoes it.
    attempt: u32,
    hello_due: Due,
    hello_wait_ms: u32,
    /// Id of the clock question to answer, 0 = none.
    question: u32,
    /// Index of the next description to send.
    description: Option<u8>,
    flight: Flight,
    outbox: Outbox,
    /// The next frame is led by a delimiter.
    noise: bool,
    /// When the last frame went out.
    last_sent: u64,
    /// To be told next, before what was freed.
    event: Option<DeviceEvent>,
}

impl<const RX: usize> DeviceLink<RX> {
    /// A link at power-up. `stream` is what memory holds; `None` when it holds none or cannot be
    /// read: the host then draws one.
    #[must_use]
    pub fn new(config: DeviceConfig, stream: Option<StreamId>) -> Self {
        const { assert!(RX >= DEVICE_RECEIVE_MIN && RX <= u16::MAX as usize) };
        Self {
            config,
            stream,
            decoder: frame::Decoder::new(),
            counters: DeviceCounters {
                frame_errors: 0,
                overruns: 0,
                foreign_frames: 0,
                retransmissions: 0,
            },
            session: 0,
            up: false,
            attempt: 1,
            hello_due: Due::at(0),
            hello_wait_ms: HELLO_MIN_MS,
            question: 0,
            description: None,
            flight: Flight::new(&config),
            outbox: Outbox::new(),
            noise: true,
            last_sent: 0,
            event: None,
        }
    }

    /// Declares that items up to `position`, stored by an earlier boot, may have been sent: they
    /// count as in flight until a session starts.
    #[must_use]
    pub const fn with_sent(mut self, position: Position) -> Self {
        self.flight.presume_sent(position);
        self
    }

    /// Takes received bytes until one of them leads to an event; call again until it gives `None`
    /// (then `bytes` is empty).
    pub fn receive<Q: ItemQueue>(
        &mut self,
        now: u64,
        bytes: &mut &[u8],
        queue: &mut Q,
    ) -> Option<DeviceEvent> {
        loop {
            if let Some(event) = self.event.take() {
                return Some(event);
            }
            if let Some(position) = self.flight.take_freed() {
                return Some(DeviceEvent::Acknowledged(position));
            }
            let (byte, rest) = bytes.split_first()?;
            *bytes = rest;
            let is_sound = match self.decoder.push(*byte) {
                Progress::Pending => true,
                Progress::Discarded(_) => false,
                Progress::Complete => self.take_frame(now, queue).is_some(),
            };
            if !is_sound {
                self.count_error();
            }
        }
    }

    /// Writes the next frame that is due to `out` and gives its length, 0 when none is. A frame
    /// that does not fit is not sent: `out` must have [`frame::encoded_max`] of the largest item's
    /// body and its head, [`frame::ENCODED_MAX`] always suffices.
    pub fn transmit<Q: ItemQueue>(&mut self, now: u64, queue: &Q, out: &mut [u8]) -> usize {
        let len = self.transmit_due(now, queue, out).unwrap_or(0);
        if len > 0 {
            self.noise = false;
            self.last_sent = now;
        }
        len
    }

    /// When `transmit` has something to send if nothing else happens: `now` or earlier means at
    /// once, `None` means never.
    #[must_use]
    pub fn next_wake<Q: ItemQueue>(&self, now: u64, queue: &Q) -> Option<u64> {
        let mut wake = self.hello_due;
        if self.up {
            if self.question != 0 || self.description.is_some() || self.outbox.is_waiting() {
                return Some(now);
            }
            wake = wake.min(self.flight.next_wake(now, queue)).min(self.beat_due());
        }
        wake.tick()
    }

    /// Takes the stream that was assigned and is now persisted. Also for a replaced stream: stored
    /// items go on under it.
    pub fn set_stream(&mut self, now: u64, stream: StreamId) {
        self.stream = Some(stream);
        self.end_session(now);
    }

    /// Received bytes were lost (overrun, framing error): what is being received is discarded, the
    /// next frame is led by a delimiter.
    pub fn line_error(&mut self) {
        self.decoder.break_frame();
        self.noise = true;
        self.counters.overruns = self.counters.overruns.wrapping_add(1);
    }

    /// The transport was made anew (TCP reconnected, port reopened): begins with HELLO.
    pub fn restart(&mut self, now: u64) {
        self.decoder = frame::Decoder::new();
        self.noise = true;
        self.session = 0;
        self.end_session(now);
    }

    /// The payload of the command that [`Self::receive`] told of last; meaningless once more has
    /// been received.
    #[must_use]
    pub fn command(&self) -> &[u8] {
        let frame = self.decoder.frame();
        let (session, body) = split_session(frame.body);
        let command = Command::read(session, body);
        command.filter(|_| frame.kind == kind::COMMAND).map_or(&[], |command| command.payload)
    }

    /// Says how a command ended; kept and said again if the host asks again. Of `result` the first
    /// 32 bytes are sent.
    pub fn finish_command(&mut self, id: u64, status: CommandStatus, result: &[u8]) {
        self.outbox.finish(id, status, result);
    }

    /// Sends a line of text when there is room for it beside the items; severity as in RFC 5424, 0
    /// to 7. Of `text` the first 64 bytes are sent, and only one line waits: others are counted as
    /// lost.
    pub fn log(&mut self, now: u64, severity: u8, text: &str) {
        self.outbox.log(now, severity.min(7), text.as_bytes());
    }

    /// The last item that the host may know of beyond what it acknowledged: items up to here must
    /// be neither dropped nor changed.
    #[must_use]
    pub const fn in_flight(&self) -> Position {
        self.flight.last()
    }

    /// The stream in use.
    #[must_use]
    pub const fn stream(&self) -> Option<StreamId> {
        self.stream
    }

    /// Whether the host takes items.
    #[must_use]
    pub const fn in_session(&self) -> bool {
        self.up
    }

    /// What went wrong so far.
    #[must_use]
    pub const fn counters(&self) -> DeviceCounters {
        self.counters
    }

    fn count_error(&mut self) {
        self.noise = true;
        self.counters.frame_errors = self.counters.frame_errors.wrapping_add(1);
    }

    fn count_foreign(&mut self) {
        self.counters.foreign_frames = self.counters.foreign_frames.wrapping_add(1);
    }

    /// Takes the frame that was received; `None` when it is no message.
    fn take_frame<Q: ItemQueue>(&mut self, now: u64, queue: &mut Q) -> Option<()> {
        let Frame { kind, body } = self.decoder.frame();
        let (session, body) = split_session(body);
        match kind {
            kind::HELLO_REQ => {
                body.finish(())?;
                self.take_request(now, session);
            }
            kind::HELLO_ACK => {
                let answer = HelloAck::read(session, body)?;
                self.take_answer(now, &answer, queue);
            }
            kind::ACK => {
                let ack = Ack::read(session, body)?;
                self.take_ack(now, &ack, queue);
            }
            kind::TIME_REQ => self.take_question(TimeRequest::read(session, body)?),
            kind::COMMAND => {
                let command = Command::read(session, body)?;
                let is_ours = self.up && session == self.session;
                if is_ours && self.outbox.take(&command, queue.next().boot) {
                    self.event = Some(DeviceEvent::Command { id: command.id });
                }
            }
            _ => return None,
        }
        Some(())
    }

    fn take_request(&mut self, now: u64, session: u32) {
        if session != self.session {
            self.session = session;
            self.end_session(now);
        }
        self.hello_due = Due::at(now);
    }

    fn take_ack<Q: ItemQueue>(&mut self, now: u64, ack: &Ack, queue: &mut Q) {
        let ours = self.up && ack.session == self.session && Some(ack.stream) == self.stream;
        if !ours || !self.flight.covers(ack) {
            self.count_foreign();
            return;
        }
        self.flight.acknowledge(now, ack, queue);
    }

    fn take_question(&mut self, request: TimeRequest) {
        let TimeRequest { session, id, wall_ms } = request;
        if session != self.session {
            self.count_foreign();
            return;
        }
        self.question = id;
        if wall_ms > 0 {
            self.event = Some(DeviceEvent::WallTime(wall_ms));
        }
    }

    fn take_answer<Q: ItemQueue>(&mut self, now: u64, answer: &HelloAck, queue: &mut Q) {
        let next = queue.next();
        if answer.boot != next.boot || answer.attempt != self.attempt {
            self.count_foreign();
            return;
        }
        if self.up && answer.session != self.session {
            // Another host process answers a HELLO meant for the one before it: that session is
            // over.
            self.count_foreign();
            self.end_session(now);
            return;
        }
        self.event = match (answer.verdict, answer.stream) {
            (Verdict::Refused(reason), _) => Some(DeviceEvent::Refused(reason)),
            (Verdict::Assigned, Some(stream)) if self.stream != Some(stream) => {
                Some(DeviceEvent::StreamAssigned(stream))
            }
            (Verdict::Accepted | Verdict::Describe, stream @ Some(_))
                if self.stream == stream && answer.version == VERSION && answer.start < next =>
            {
                return self.take_acceptance(answer, queue);
            }
            _ => return self.count_foreign(),
        };
        if self.up {
            self.end_session(now);
            self.wait_for_answer(now);
        }
    }

    fn take_acceptance<Q: ItemQueue>(&mut self, answer: &HelloAck, queue: &mut Q) {
        if answer.verdict == Verdict::Describe {
            self.description = Some(0);
        }
        if self.up {
            // An answer that came twice, or one to a HELLO that the host asked for in passing.
            let durable = answer.start.min(self.flight.last());
            return self.flight.advance_durable(durable, queue);
        }
        self.session = answer.session;
        self.up = true;
        self.hello_due = Due::NEVER;
        self.flight.begin(answer.start, answer.window, queue);
        self.event = Some(DeviceEvent::SessionStarted);
    }

    /// Forgets what belongs to a session and says HELLO.
    fn end_session(&mut self, now: u64) {
        self.up = false;
        self.attempt = self.attempt.wrapping_add(1);
        self.question = 0;
        self.description = None;
        self.hello_due = Due::at(now);
        self.hello_wait_ms = HELLO_MIN_MS;
        self.flight.rest();
    }

    /// HELLO was said, or need not be said at once; it is said again if no answer comes.
    fn wait_for_answer(&mut self, now: u64) {
        self.hello_due = Due::at(now + self.ticks(self.hello_wait_ms));
        self.hello_wait_ms = (self.hello_wait_ms * 2).min(HELLO_MAX_MS);
    }

    fn transmit_due<Q: ItemQueue>(&mut self, now: u64, queue: &Q, out: &mut [u8]) -> Option<usize> {
        if self.up && self.flight.expire(now, queue) == Patience::Exhausted {
            self.session = 0;
            self.end_session(now);
        }
        let is_idle = self.last_sent + self.ticks(IDLE_MS) <= now;
        let lead = if is_idle || self.noise { Lead::Delimiter } else { Lead::None };
        let mut space = [0; HEAD_MAX];
        let mut description = [0; Schema::LEN_MAX];
        let mut head = Writer::new(&mut space);
        let Outgoing { kind, tail, departure } =
            self.next_message(now, queue, &mut head, &mut description)?;
        let head_len = head.finish()?;
        let len = frame::encode(lead, kind, space.get(..head_len)?, tail, out)?;
        self.note_sent(now, queue, kind, departure);
        Some(len)
    }

    /// Chooses what is sent now, and writes the head of its body.
    fn next_message<'a, 'q: 'a, Q: ItemQueue>(
        &'a mut self,
        now: u64,
        queue: &'q Q,
        head: &mut Writer<'_>,
        description: &'a mut [u8],
    ) -> Option<Outgoing<'a, 'q>> {
        let boot = queue.next().boot;
        let mut outgoing = Outgoing { kind: kind::TIME, tail: &[], departure: None };
        if self.hello_due.is_past(now) {
            self.hello(queue).write(head);
            outgoing.kind = kind::HELLO;
            return Some(outgoing);
        }
        if !self.up {
            return None;
        }
        if self.question == 0 {
            if let Some(outcome) = self.outbox.result(boot) {
                outcome.write_head(head);
                return Some(Outgoing { kind: kind::RESULT, tail: outcome.payload, ..outgoing });
            }
            if let Some(index) = self.description {
                if let Some((kind, len)) = queue.describe(index, description) {
                    head.varint(u64::from(boot));
                    head.u8(kind.0);
                    let tail = description.get(..len).unwrap_or_default();
                    return Some(Outgoing { kind: kind::DESCRIPTION, tail, ..outgoing });
                }
                self.description = None;
            }
            if let Some(departure) = self.flight.next_departure(now, queue) {
                let Departure { item, transmission } = departure;
                item.write_head(transmission, head);
                let departure = Some(departure);
                return Some(Outgoing { kind: kind::ITEM, tail: item.body, departure });
            }
            if let Some(line) = self.outbox.line(boot) {
                line.write_head(head);
                return Some(Outgoing { kind: kind::LOG, tail: line.text, ..outgoing });
            }
            if !self.beat_due().is_past(now) {
                return None;
            }
        }
        let DeviceCounters { frame_errors: errors, overruns, .. } = self.counters;
        TimeAnswer { id: self.question, boot, tick: now, errors, overruns }.write(head);
        Some(outgoing)
    }

    /// What `next_message` chose went out.
    fn note_sent<Q: ItemQueue>(
        &mut self,
        now: u64,
        queue: &Q,
        kind: u8,
        departure: Option<Departure<'_>>,
    ) {
        match kind {
            kind::HELLO if self.up => self.hello_due = Due::NEVER,
            kind::HELLO => self.wait_for_answer(now),
            kind::TIME => self.question = 0,
            kind::RESULT => self.outbox.result_sent(),
            kind::DESCRIPTION => {
                self.description = self.description.and_then(|index| index.checked_add(1));
            }
            kind::LOG => self.outbox.line_sent(),
            _ => {}
        }
        if let Some(Departure { item, transmission }) = departure {
            if transmission > 1 {
                self.counters.retransmissions = self.counters.retransmissions.wrapping_add(1);
            }
            self.flight.departed(now, &item, queue);
        }
    }

    fn hello<Q: ItemQueue>(&self, queue: &Q) -> Hello {
        Hello {
            version_min: VERSION,
            version_max: VERSION,
            device: self.config.id,
            stream: self.stream,
            attempt: self.attempt,
            oldest: queue.oldest(),
            next: queue.next(),
            receive_max: RX as u16,
            longest_silence_ms: self.config.longest_silence_ms,
            listen_window_ms: self.config.listen_window_ms,
        }
    }

    /// When silence would break the promise: halfway, so that one lost frame does not.
    fn beat_due(&self) -> Due {
        match self.config.longest_silence_ms {
            0 => Due::NEVER,
            silence_ms => Due::at(self.last_sent + self.ticks(silence_ms / 2)),
        }
    }

    fn ticks(&self, ms: u32) -> u64 {
        ticks(ms, self.config.tick_hz)
    }
}

/// A message whose head has been written.
struct Outgoing<'a, 'q> {
    kind: u8,
    /// What follows the head.
    tail: &'a [u8],
    /// The item that it carries, if one.
    departure: Option<Departure<'q>>,
}

/// HELLO is repeated after this time, doubling.
const HELLO_MIN_MS: u32 = 500;
/// Longest time between two HELLOs.
const HELLO_MAX_MS: u32 = 30_000;
/// A line that was silent for so long may have collected noise.
const IDLE_MS: u32 = 10;
