//! The host's state machine: who is there, answers to HELLO, acknowledgements, clock questions.

use super::{
    Accept, Arrival, Description, HostConfig, HostCounters, HostEvent, NotAccepted, NotSent,
    errand::Errand,
    intake::{Intake, NotTaken, Turn},
};
use crate::{
    ClockSample, HOST_RECEIVE_MAX, Hello, Item, Position, Refusal, StreamId, VERSION,
    frame::{self, FrameError, Lead, Progress},
    message::{
        Ack, COMMAND_MAX, DeviceMessage, HEAD_MAX, HelloAck, HostMessage, TimeAnswer, TimeRequest,
        Verdict,
    },
};

/// The host end of one connection.
#[derive(Clone, Debug)]
pub struct HostLink {
    decoder: frame::Decoder<HOST_RECEIVE_MAX>,
    machine: Machine,
}

/// All but the receive buffer, from which events borrow.
#[derive(Clone, Debug)]
struct Machine {
    config: HostConfig,
    counters: HostCounters,
    session: u32,
    hello_req_due: Option<u64>,
    hello_req_wait: u64,
    /// The HELLO to be answered, or answered last.
    hello: Option<Hello>,
    answer: Answer,
    /// The stream accepted on this connection.
    stream: Option<StreamId>,
    intake: Intake,
    /// Whether items are taken: HELLO-ACK is out.
    taking: bool,
    ack_due: Option<u64>,
    /// Transmission count of the last item, as ACK echoes it.
    echo: u8,
    /// An item arrived since that one that does not follow it.
    missing: bool,
    /// The command that waits for its result.
    errand: Option<Errand>,
    /// Number of the last command of this session.
    last_command: u64,
    time_due: Option<u64>,
    question: Option<Question>,
    /// Id of the last question. Counts on from the session number and never back, so that no late
    /// answer, also to an earlier link, fits a new question.
    last_id: u32,
    quick_questions_left: u8,
    last_heard: Option<u64>,
    last_sent: Option<u64>,
}

/// What the owner has decided about the last HELLO.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    /// Nothing yet, or the answer is out.
    None,
    /// Goes out once everything taken is durable.
    Accept {
        describe: bool,
    },
    Assign(StreamId),
    Refuse(Refusal),
}

/// A clock question under way.
#[derive(Clone, Copy, Debug)]
struct Question {
    id: u32,
    asked: u64,
}

/// An event before it borrows from the receive buffer.
enum Outcome {
    Hello(Hello),
    Item {
        loss: Option<super::Loss>,
    },
    Time(ClockSample),
    /// Description, log or result: all of it is in the frame.
    Other,
}

impl HostLink {
    /// Room for any frame of a host, bytes.
    pub const FRAME_MAX: usize = frame::encoded_max(HEAD_MAX + COMMAND_MAX);

    /// A connection just opened. `session` differs from those before it (random, or counted); 0 is
    /// taken as 1.
    #[must_use]
    pub const fn new(config: HostConfig, session: u32, now: u64) -> Self {
        Self { decoder: frame::Decoder::new(), machine: Machine::new(config, session, now) }
    }

    /// Takes received bytes until one of them leads to an event; call again until it gives `None`
    /// (then `bytes` is empty).
    pub fn receive(&mut self, now: u64, bytes: &mut &[u8]) -> Option<HostEvent<'_>> {
        let outcome = loop {
            let (byte, rest) = bytes.split_first()?;
            *bytes = rest;
            match self.decoder.push(*byte) {
                Progress::Pending => {}
                Progress::Discarded(error) => {
                    self.machine.counters.frame_errors += 1;
                    self.machine.counters.crc_errors += u64::from(error == FrameError::Crc);
                }
                Progress::Complete => {
                    let frame = self.decoder.frame();
                    if let Some(outcome) = self.machine.take_frame(now, frame.kind, frame.body) {
                        break outcome;
                    }
                }
            }
        };
        let frame = self.decoder.frame();
        let message = DeviceMessage::decode(frame.kind, frame.body)?;
        Some(match (outcome, message) {
            (Outcome::Hello(hello), _) => HostEvent::Hello(hello),
            (Outcome::Time(sample), _) => HostEvent::Time(sample),
            (Outcome::Item { loss }, DeviceMessage::Item { transmission, item }) => {
                HostEvent::Item(Arrival { item, loss, transmission })
            }
            (Outcome::Other, DeviceMessage::Description { boot, kind, body }) => {
                HostEvent::Description(Description { boot, kind, body })
            }
            (Outcome::Other, DeviceMessage::Log(log)) => HostEvent::Log(log),
            (Outcome::Other, DeviceMessage::Result(outcome)) => HostEvent::Result(outcome),
            _ => return None,
        })
    }

    /// Writes the next frame that is due to `out` (at least [`Self::FRAME_MAX`] bytes) and gives
    /// its length, 0 when none is. `wall_ms` is the wall time, Unix ms, 0 when not known; devices
    /// learn it from clock questions.
    pub fn transmit(&mut self, now: u64, wall_ms: u64, out: &mut [u8]) -> usize {
        self.machine.transmit(now, wall_ms, out)
    }

    /// When `transmit` has something to send if nothing else happens: now or earlier means at once.
    #[must_use]
    pub fn next_wake(&self, now: u64) -> Option<u64> {
        self.machine.next_wake(now)
    }

    /// Answers the last HELLO: items of its stream up to `durable` are durable, send what follows.
    /// `durable` is [`Position::START`] for a stream that is not known. It must be read after all
    /// appends for the stream have settled, those that came by *other* links and those that came by
    /// this one before it had another stream. Only while the stream is [`Self::stream`] the answer
    /// waits by itself until [`Self::durable`] reaches what was yielded.
    ///
    /// # Errors
    /// [`NotAccepted`]: the HELLO still waits for another answer.
    pub fn accept(&mut self, durable: Position, options: Accept) -> Result<(), NotAccepted> {
        self.machine.accept(durable, options)
    }

    /// Answers the last HELLO with a stream that the device shall take and persist; it says HELLO
    /// again under it. Each call gives a stream of its own: the device takes the first and says so
    /// by another attempt, and who asks again may be another board.
    pub fn assign(&mut self, stream: StreamId) {
        self.machine.decline(Answer::Assign(stream));
    }

    /// Answers the last HELLO with no; the device asks again later. Without effect when there is none.
    pub fn refuse(&mut self, reason: Refusal) {
        self.machine.decline(Answer::Refuse(reason));
    }

    /// Everything yielded of `stream` up to `position` is durable. Without effect when the device
    /// has another stream by now.
    pub fn durable(&mut self, now: u64, stream: StreamId, position: Position) {
        if self.machine.stream == Some(stream) && self.machine.intake.set_durable(position) {
            self.machine.ack_due = Some(now);
        }
    }

    /// Bytes of item bodies past the durable position that the owner takes; 0 stops the device. A
    /// change is announced at once. A window that is neither 0 nor at least [`HOST_RECEIVE_MAX`]
    /// serves no one: the first item past the durable position is taken anyway.
    pub fn set_window(&mut self, now: u64, bytes: u32) {
        if bytes != self.machine.intake.window() {
            self.machine.intake.set_window(bytes);
            self.machine.ack_due = Some(now);
        }
    }

    /// Sends a command, again and again until its result comes; one given before it is given up, as
    /// is one whose device has gone: when another stream is accepted.
    /// `boot` is the boot that it is meant for, `id` its number: above those before it, the same as
    /// before to ask once more.
    ///
    /// # Errors
    /// [`NotSent`], and the command before it goes on.
    pub fn command(&mut self, now: u64, boot: u32, id: u64, payload: &[u8]) -> Result<(), NotSent> {
        self.machine.command(now, boot, id, payload)
    }

    /// Gives up the command that waits for its result.
    pub fn withdraw_command(&mut self) {
        self.machine.errand = None;
    }

    /// The device's running boot, while it is in session.
    #[must_use]
    pub fn boot(&self) -> Option<u32> {
        self.machine.hello.filter(|_| self.machine.taking).map(|hello| hello.next.boot)
    }

    /// Asks the device for a HELLO (is it still there?); it stays in session.
    pub const fn ask(&mut self, now: u64) {
        self.machine.hello_req_due = Some(now);
    }

    /// Begins a new session on the same connection: what was yielded and is not durable is
    /// forgotten and will come again. The owner must have withdrawn it.
    pub const fn restart(&mut self, now: u64, session: u32) {
        let Machine { config, counters, last_id, .. } = self.machine;
        self.machine = Machine::new(config, session, now);
        self.machine.counters = counters;
        self.machine.last_id = last_id;
    }

    /// The stream accepted last: that of the items yielded.
    #[must_use]
    pub const fn stream(&self) -> Option<StreamId> {
        self.machine.stream
    }

    /// When the last valid frame came.
    #[must_use]
    pub const fn last_heard(&self) -> Option<u64> {
        self.machine.last_heard
    }

    /// Quality so far.
    #[must_use]
    pub const fn counters(&self) -> HostCounters {
        self.machine.counters
    }
}

impl Machine {
    const fn new(config: HostConfig, session: u32, now: u64) -> Self {
        Self {
            config,
            counters: HostCounters {
                frames: 0,
                frame_errors: 0,
                crc_errors: 0,
                message_errors: 0,
                duplicates: 0,
                out_of_turn: 0,
                retransmissions: 0,
                hellos: 0,
                lines_lost: 0,
                device_errors: 0,
                device_overruns: 0,
            },
            session: if session == 0 { 1 } else { session },
            hello_req_due: Some(now),
            hello_req_wait: config.hello_retry_us,
            hello: None,
            answer: Answer::None,
            stream: None,
            intake: Intake::new(Position::START),
            taking: false,
            ack_due: None,
            echo: 0,
            missing: false,
            errand: None,
            last_command: 0,
            time_due: None,
            question: None,
            last_id: session,
            quick_questions_left: 0,
            last_heard: None,
            last_sent: None,
        }
    }

    fn take_frame(&mut self, now: u64, kind: u8, body: &[u8]) -> Option<Outcome> {
        self.counters.frames += 1;
        self.last_heard = Some(now);
        let Some(message) = DeviceMessage::decode(kind, body) else {
            self.counters.message_errors += 1;
            return None;
        };
        match message {
            DeviceMessage::Hello(hello) => {
                self.counters.hellos += 1;
                self.hello_req_due = None;
                self.hello_req_wait = self.config.hello_retry_us;
                self.hello = Some(hello);
                self.answer = Answer::None;
                self.taking = false;
                Some(Outcome::Hello(hello))
            }
            DeviceMessage::Item { transmission, item } => self.take_item(now, transmission, &item),
            DeviceMessage::Time(answer) => self.take_tick(now, answer).map(Outcome::Time),
            DeviceMessage::Description { .. } => self.taking.then_some(Outcome::Other),
            DeviceMessage::Log(log) => {
                self.counters.lines_lost += u64::from(log.lost);
                self.taking.then_some(Outcome::Other)
            }
            DeviceMessage::Result(outcome) => {
                self.errand.take_if(|errand| errand.id() == outcome.id).map(|_| Outcome::Other)
            }
        }
    }

    fn take_item(&mut self, now: u64, transmission: u8, item: &Item<'_>) -> Option<Outcome> {
        if transmission > 1 {
            self.counters.retransmissions += 1;
        }
        if !self.taking {
            self.counters.out_of_turn += 1;
            return None;
        }
        match self.intake.take(item) {
            Turn::Taken(loss) => {
                self.echo = transmission;
                self.missing = false;
                // One that sleeps is told before it does.
                let delay = self.listens_until().map_or(self.config.ack_delay_us, |end| {
                    end.saturating_sub(now).min(self.config.ack_delay_us) / 2
                });
                let due = now + delay;
                self.ack_due = Some(self.ack_due.map_or(due, |earlier| earlier.min(due)));
                Some(Outcome::Item { loss })
            }
            Turn::Duplicate => {
                self.counters.duplicates += 1;
                if item.position == self.intake.taken() {
                    self.echo = transmission;
                }
                self.ack_due = Some(now);
                None
            }
            Turn::Refused(why) => {
                self.counters.out_of_turn += 1;
                self.missing |= why == NotTaken::OutOfTurn;
                self.ack_due = Some(now);
                None
            }
        }
    }

    fn take_tick(&mut self, now: u64, answer: TimeAnswer) -> Option<ClockSample> {
        self.counters.device_errors = answer.errors;
        self.counters.device_overruns = answer.overruns;
        let question = self.question.filter(|question| question.id == answer.id)?;
        self.question = None;
        let half_rtt_us = now.saturating_sub(question.asked).div_ceil(2);
        Some(ClockSample {
            boot: answer.boot,
            tick: answer.tick,
            host_us: question.asked + half_rtt_us,
            half_rtt_us,
        })
    }

    fn accept(&mut self, durable: Position, options: Accept) -> Result<(), NotAccepted> {
        let hello = self.hello.filter(|_| !self.taking).ok_or(NotAccepted::NoHello)?;
        let stream = hello.stream.ok_or(NotAccepted::NoStream)?;
        if !(hello.version_min..=hello.version_max).contains(&VERSION) {
            return Err(NotAccepted::Version);
        }
        let same = self.stream == Some(stream);
        let end = if same { durable.max(self.intake.taken()) } else { durable };
        if end >= hello.next {
            return Err(NotAccepted::Behind);
        }
        if !same {
            // Another device, whose boot may have the same number.
            self.errand = None;
        }
        if !same || durable > self.intake.taken() {
            self.intake = Intake::new(durable);
        } else {
            self.intake.set_durable(durable);
        }
        self.stream = Some(stream);
        self.intake.set_window(options.window);
        self.intake.expect_oldest(hello.oldest);
        self.answer = Answer::Accept { describe: options.describe };
        Ok(())
    }

    /// Without a HELLO, as after a restart, there is nothing to answer.
    fn decline(&mut self, answer: Answer) {
        if self.hello.is_some() {
            self.taking = false;
            self.answer = answer;
        }
    }

    /// Until when the device listens: for ever, unless it sleeps between its frames.
    fn listens_until(&self) -> Option<u64> {
        let window_ms = self.hello.filter(|hello| hello.listen_window_ms > 0)?.listen_window_ms;
        let window_us = u64::from(window_ms) * 1_000 * LISTEN_PERCENT / 100;
        Some(self.last_heard.unwrap_or(0).saturating_add(window_us))
    }

    fn next_wake(&self, now: u64) -> Option<u64> {
        // What is due while the device sleeps waits for its next frame.
        let end = self.listens_until();
        if end.is_some_and(|end| end < now) {
            return self.hello_req_due;
        }
        let answer = match self.answer {
            Answer::None => None,
            Answer::Accept { .. } => self.intake.settled().then_some(0),
            Answer::Assign(_) | Answer::Refuse(_) => Some(0),
        };
        let errand = self.errand.as_ref().map(Errand::due);
        let session = [self.ack_due, self.time_due, errand];
        let session = session.map(|due| due.filter(|_| self.taking));
        let is_heard = |due: &u64| end.is_none_or(|end| *due <= end);
        let answers = [answer].into_iter().chain(session).flatten().filter(is_heard);
        answers.chain(self.hello_req_due).min()
    }

    fn transmit(&mut self, now: u64, wall_ms: u64, out: &mut [u8]) -> usize {
        let idle = self.last_sent.is_none_or(|last| now.saturating_sub(last) >= IDLE_US);
        let lead = if idle { Lead::Delimiter } else { Lead::None };
        let Some(message) = self.next_message(now, wall_ms) else { return 0 };
        let mut head = [0; HEAD_MAX];
        let len = message
            .encode(&mut head)
            .and_then(|(kind, len, tail)| frame::encode(lead, kind, head.get(..len)?, tail, out));
        self.last_sent = Some(now);
        len.unwrap_or(0)
    }

    fn next_message(&mut self, now: u64, wall_ms: u64) -> Option<HostMessage<'_>> {
        let due = |at: Option<u64>| at.is_some_and(|at| at <= now);
        if due(self.hello_req_due) {
            self.hello_req_due = Some(now + self.hello_req_wait);
            let most = self.config.hello_retry_us * HELLO_RETRY_GROWTH;
            self.hello_req_wait = (self.hello_req_wait * 2).min(most);
            return Some(HostMessage::HelloReq { session: self.session });
        }
        if self.listens_until().is_some_and(|end| end < now) {
            return None;
        }
        if let Some(answer) = self.next_answer(now) {
            return Some(HostMessage::HelloAck(answer));
        }
        if !self.taking {
            return None;
        }
        if due(self.ack_due) {
            self.ack_due = None;
            return self.ack().map(HostMessage::Ack);
        }
        if due(self.time_due) {
            return Some(HostMessage::Time(self.next_question(now, wall_ms)));
        }
        let session = self.session;
        let errand = self.errand.as_mut().filter(|errand| errand.due() <= now)?;
        errand.sent(now);
        Some(HostMessage::Command(errand.message(session)))
    }

    fn next_answer(&mut self, now: u64) -> Option<HelloAck> {
        let hello = self.hello?;
        let (verdict, stream) = match self.answer {
            Answer::None => return None,
            Answer::Accept { .. } if !self.intake.settled() => return None,
            Answer::Accept { describe: true } => (Verdict::Describe, self.stream),
            Answer::Accept { describe: false } => (Verdict::Accepted, self.stream),
            Answer::Assign(stream) => (Verdict::Assigned, Some(stream)),
            Answer::Refuse(reason) => (Verdict::Refused(reason), hello.stream),
        };
        let accepted = matches!(self.answer, Answer::Accept { .. });
        self.answer = Answer::None;
        if accepted {
            self.taking = true;
            self.ack_due = None;
            self.echo = 0;
            self.missing = false;
            if let Some(errand) = &mut self.errand {
                errand.renew(now);
            }
            self.quick_questions_left = QUICK_QUESTIONS;
            self.time_due = Some(now);
        }
        Some(HelloAck {
            session: self.session,
            boot: hello.next.boot,
            attempt: hello.attempt,
            version: VERSION,
            verdict,
            stream,
            start: if accepted { self.intake.durable() } else { Position::START },
            window: if accepted { self.intake.window() } else { 0 },
        })
    }

    fn ack(&self) -> Option<Ack> {
        Some(Ack {
            session: self.session,
            stream: self.stream?,
            durable: self.intake.durable(),
            received: self.intake.taken(),
            bitmap: 0,
            window: self.intake.window(),
            echo: self.echo,
            missing: self.missing,
        })
    }

    fn command(&mut self, now: u64, boot: u32, id: u64, payload: &[u8]) -> Result<(), NotSent> {
        let hello = self.hello.filter(|_| self.taking).ok_or(NotSent::NoSession)?;
        let most = longest_command(hello.receive_max.into());
        if id == 0 || id < self.last_command {
            return Err(NotSent::Number);
        }
        let errand = Errand::new(now, id, boot, payload).filter(|_| payload.len() <= most);
        self.errand = Some(errand.ok_or(NotSent::TooLong(most))?);
        self.last_command = id;
        Ok(())
    }

    fn next_question(&mut self, now: u64, wall_ms: u64) -> TimeRequest {
        self.last_id = self.last_id.wrapping_add(1).max(1);
        let id = self.last_id;
        let mut wait = self.config.time_interval_us;
        if let Some(left) = self.quick_questions_left.checked_sub(1) {
            self.quick_questions_left = left;
            wait = wait.min(QUICK_INTERVAL_US);
        }
        self.time_due = Some(now + wait);
        self.question = Some(Question { id, asked: now });
        TimeRequest { session: self.session, id, wall_ms }
    }
}

/// Most bytes of a command that fit a receive maximum, whatever its numbers are.
fn longest_command(receive_max: usize) -> usize {
    let body = receive_max.saturating_sub(frame::OVERHEAD_MAX - 1);
    // A body of 128 bytes and more has a second byte of length.
    let body = if body < 128 { body } else { (body - 1).max(127) };
    body.saturating_sub(COMMAND_HEAD_MAX).min(COMMAND_MAX)
}

/// Session, boot and number at their longest, bytes.
const COMMAND_HEAD_MAX: usize = 4 + 5 + 10;
/// A sleeping device still hears what comes in this part of its listen window, in percent: the rest
/// is for the frame's own time on the line.
const LISTEN_PERCENT: u64 = 50;
/// HELLO-REQ's waiting time grows to so many times the first.
const HELLO_RETRY_GROWTH: u64 = 16;
/// Clock questions asked in quick succession when a session begins: the shortest round trip of
/// several is a good one.
const QUICK_QUESTIONS: u8 = 8;
/// Time between those, microseconds.
const QUICK_INTERVAL_US: u64 = 250_000;
/// A line that was silent for so long may have collected noise, microseconds.
const IDLE_US: u64 = 10_000;
