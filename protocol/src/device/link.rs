//! The device's state machine: HELLO, sessions, clock answers, and what goes out next. Items in
//! flight are `Flight`'s.

use super::{
    DeviceConfig, DeviceCounters, DeviceEvent, ItemQueue,
    flight::{Departure, Flight, Patience, ticks},
    outbox::Outbox,
};
use crate::{
    DEVICE_RECEIVE_MIN, Hello, Position, StreamId, VERSION,
    frame::{self, Lead, Progress},
    item::Schema,
    message::{
        Ack, CommandStatus, DeviceMessage, HEAD_MAX, HelloAck, HostMessage, TimeAnswer,
        TimeRequest, Verdict,
    },
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
    hello_due: Option<u64>,
    hello_wait_ms: u32,
    /// Id of the clock question to answer, 0 = none.
    question: u32,
    /// Index of the next description to send.
    description: Option<u8>,
    flight: Flight,
    outbox: Outbox,
    /// The next frame is led by a delimiter.
    noise: bool,
    last_sent: Option<u64>,
    deferred: Option<DeviceEvent>,
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
            hello_due: Some(0),
            hello_wait_ms: HELLO_MIN_MS,
            question: 0,
            description: None,
            flight: Flight::new(&config),
            outbox: Outbox::new(),
            noise: true,
            last_sent: None,
            deferred: None,
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
        if let Some(event) = self.deferred.take() {
            return Some(event);
        }
        while let Some((byte, rest)) = bytes.split_first() {
            *bytes = rest;
            match self.decoder.push(*byte) {
                Progress::Pending => {}
                Progress::Discarded(_) => self.count_error(),
                Progress::Complete => {
                    let frame = self.decoder.frame();
                    let event = match HostMessage::decode(frame.kind, frame.body) {
                        Some(HostMessage::Command(command)) => {
                            let is_ours = self.up && command.session == self.session;
                            let boot = queue.next().boot;
                            if is_ours && self.outbox.take(&command, boot) {
                                Some(DeviceEvent::Command { id: command.id })
                            } else {
                                None
                            }
                        }
                        Some(HostMessage::HelloReq { session }) => {
                            self.take_request(now, session);
                            None
                        }
                        Some(HostMessage::HelloAck(answer)) => {
                            self.take_answer(now, &answer, queue)
                        }
                        Some(HostMessage::Ack(ack)) => self.take_ack(now, &ack, queue),
                        Some(HostMessage::Time(request)) => self.take_question(request),
                        None => {
                            self.count_error();
                            None
                        }
                    };
                    if event.is_some() {
                        return event;
                    }
                }
            }
        }
        None
    }

    /// Writes the next frame that is due to `out` and gives its length, 0 when none is. A frame
    /// that does not fit is not sent: `out` must have [`frame::encoded_max`] of the largest item's
    /// body and its head, [`frame::ENCODED_MAX`] always suffices.
    pub fn transmit<Q: ItemQueue>(&mut self, now: u64, queue: &Q, out: &mut [u8]) -> usize {
        let len = self.transmit_due(now, queue, out).unwrap_or(0);
        if len > 0 {
            self.noise = false;
            self.last_sent = Some(now);
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
            wake = earlier(wake, self.flight.next_wake(now, queue));
            wake = earlier(wake, self.beat_due());
        }
        wake
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
        match HostMessage::decode(frame.kind, frame.body) {
            Some(HostMessage::Command(command)) => command.payload,
            _ => &[],
        }
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

    fn take_request(&mut self, now: u64, session: u32) {
        if session != self.session {
            self.session = session;
            self.end_session(now);
        }
        self.hello_due = Some(now);
    }

    fn take_ack<Q: ItemQueue>(
        &mut self,
        now: u64,
        ack: &Ack,
        queue: &mut Q,
    ) -> Option<DeviceEvent> {
        let ours = self.up && ack.session == self.session && Some(ack.stream) == self.stream;
        if !ours || !self.flight.covers(ack) {
            self.count_foreign();
            return None;
        }
        self.flight.acknowledge(now, ack, queue).map(DeviceEvent::Acknowledged)
    }

    fn take_question(&mut self, request: TimeRequest) -> Option<DeviceEvent> {
        let TimeRequest { session, id, wall_ms } = request;
        if session != self.session {
            self.count_foreign();
            return None;
        }
        self.question = id;
        (wall_ms > 0).then_some(DeviceEvent::WallTime(wall_ms))
    }

    fn take_answer<Q: ItemQueue>(
        &mut self,
        now: u64,
        answer: &HelloAck,
        queue: &mut Q,
    ) -> Option<DeviceEvent> {
        let next = queue.next();
        if answer.boot != next.boot || answer.attempt != self.attempt {
            self.count_foreign();
            return None;
        }
        if self.up && answer.session != self.session {
            // Another host process answers a HELLO meant for the one before it: that session is
            // over.
            self.count_foreign();
            self.end_session(now);
            return None;
        }
        match (answer.verdict, answer.stream) {
            (Verdict::Refused(reason), _) => {
                if self.up {
                    self.end_session(now);
                    self.wait_for_answer(now);
                }
                Some(DeviceEvent::Refused(reason))
            }
            (Verdict::Assigned, Some(stream)) if self.stream != Some(stream) => {
                if self.up {
                    self.end_session(now);
                    self.wait_for_answer(now);
                }
                Some(DeviceEvent::StreamAssigned(stream))
            }
            (Verdict::Accepted | Verdict::Describe, Some(stream))
                if self.stream == Some(stream)
                    && answer.version == VERSION
                    && answer.start < next =>
            {
                if answer.verdict == Verdict::Describe {
                    self.description = Some(0);
                }
                if self.up {
                    // An answer that came twice, or one to a HELLO that the host asked for in
                    // passing.
                    let durable = answer.start.min(self.flight.last());
                    return self
                        .flight
                        .advance_durable(durable, queue)
                        .map(DeviceEvent::Acknowledged);
                }
                self.session = answer.session;
                self.up = true;
                self.hello_due = None;
                let freed = self.flight.begin(answer.start, answer.window, queue);
                self.deferred = freed.map(DeviceEvent::Acknowledged);
                Some(DeviceEvent::SessionStarted)
            }
            _ => {
                self.count_foreign();
                None
            }
        }
    }

    /// Forgets what belongs to a session and says HELLO.
    fn end_session(&mut self, now: u64) {
        self.up = false;
        self.attempt = self.attempt.wrapping_add(1);
        self.question = 0;
        self.description = None;
        self.hello_due = Some(now);
        self.hello_wait_ms = HELLO_MIN_MS;
        self.flight.rest();
    }

    /// HELLO was said, or need not be said at once; it is said again if no answer comes.
    fn wait_for_answer(&mut self, now: u64) {
        self.hello_due = Some(now + self.ticks(self.hello_wait_ms));
        self.hello_wait_ms = (self.hello_wait_ms * 2).min(HELLO_MAX_MS);
    }

    fn transmit_due<Q: ItemQueue>(&mut self, now: u64, queue: &Q, out: &mut [u8]) -> Option<usize> {
        if self.up && self.flight.expire(now, queue) == Patience::Exhausted {
            self.session = 0;
            self.end_session(now);
        }
        if self.hello_due.is_some_and(|due| due <= now) {
            let len = self.send(now, &DeviceMessage::Hello(self.hello(queue)), out)?;
            if self.up {
                self.hello_due = None;
            } else {
                self.wait_for_answer(now);
            }
            return Some(len);
        }
        if !self.up {
            return None;
        }
        if self.question != 0 {
            let len = self.send(now, &self.tick(self.question, now, queue), out)?;
            self.question = 0;
            return Some(len);
        }
        if let Some(result) = self.outbox.result(queue.next()) {
            let len = self.send(now, &result, out)?;
            self.outbox.result_sent();
            return Some(len);
        }
        if let Some(len) = self.send_description(now, queue, out) {
            return Some(len);
        }
        if let Some(len) = self.send_item(now, queue, out) {
            return Some(len);
        }
        if let Some(line) = self.outbox.line(queue.next()) {
            let len = self.send(now, &line, out)?;
            self.outbox.line_sent();
            return Some(len);
        }
        if self.beat_due().is_some_and(|due| due <= now) {
            return self.send(now, &self.tick(0, now, queue), out);
        }
        None
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

    fn tick<Q: ItemQueue>(&self, id: u32, now: u64, queue: &Q) -> DeviceMessage<'static> {
        let DeviceCounters { frame_errors: errors, overruns, .. } = self.counters;
        let boot = queue.next().boot;
        DeviceMessage::Time(TimeAnswer { id, boot, tick: now, errors, overruns })
    }

    fn send_description<Q: ItemQueue>(
        &mut self,
        now: u64,
        queue: &Q,
        out: &mut [u8],
    ) -> Option<usize> {
        let index = self.description?;
        let mut buffer = [0; Schema::LEN_MAX];
        let Some((kind, len)) = queue.describe(index, &mut buffer) else {
            self.description = None;
            return None;
        };
        let body = buffer.get(..len).unwrap_or_default();
        let boot = queue.next().boot;
        let len = self.send(now, &DeviceMessage::Description { boot, kind, body }, out)?;
        self.description = index.checked_add(1);
        Some(len)
    }

    fn send_item<Q: ItemQueue>(&mut self, now: u64, queue: &Q, out: &mut [u8]) -> Option<usize> {
        let Departure { item, transmission } = self.flight.next_departure(now, queue)?;
        let len = self.send(now, &DeviceMessage::Item { transmission, item }, out)?;
        if transmission > 1 {
            self.counters.retransmissions = self.counters.retransmissions.wrapping_add(1);
        }
        self.flight.departed(now, &item, queue);
        Some(len)
    }

    /// When silence would break the promise: halfway, so that one lost frame does not.
    fn beat_due(&self) -> Option<u64> {
        let silence_ms = self.config.longest_silence_ms;
        let last = self.last_sent.filter(|_| silence_ms > 0)?;
        Some(last + self.ticks(silence_ms / 2))
    }

    fn send(&self, now: u64, message: &DeviceMessage<'_>, out: &mut [u8]) -> Option<usize> {
        let idle =
            self.last_sent.is_none_or(|last| now.saturating_sub(last) >= self.ticks(IDLE_MS));
        let lead = if idle || self.noise { Lead::Delimiter } else { Lead::None };
        let mut head = [0; HEAD_MAX];
        let (kind, len, tail) = message.encode(&mut head)?;
        frame::encode(lead, kind, head.get(..len)?, tail, out)
    }

    fn ticks(&self, ms: u32) -> u64 {
        ticks(ms, self.config.tick_hz)
    }
}

fn earlier(a: Option<u64>, b: Option<u64>) -> Option<u64> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (one, other) => one.or(other),
    }
}

/// HELLO is repeated after this time, doubling.
const HELLO_MIN_MS: u32 = 500;
/// Longest time between two HELLOs.
const HELLO_MAX_MS: u32 = 30_000;
/// A line that was silent for so long may have collected noise.
const IDLE_MS: u32 = 10;
