//! One client connection: frames in, responses out in the order of the requests.
//!
//! Produce requests are pipelined: the next is taken while earlier ones wait for the disk. Every other request begins
//! when all before it are answered, as Kafka does it, so that it sees their effects. One task per connection reads,
//! waits and writes; while it writes it does not read, so a client that takes no answers gets no more of them.

use std::{
    collections::VecDeque,
    future::{pending, ready},
    io,
    net::SocketAddr,
    pin::pin,
    sync::Arc,
    time::Duration,
};

use bytes::Buf;
use tokio::{
    io::AsyncWriteExt,
    net::{TcpStream, tcp::WriteHalf},
    time::{Instant, sleep_until, timeout},
};

use super::{
    budget::Charge,
    codec::FixedHead,
    context::{Context, Endpoint},
    dispatch::{Answer, PRODUCE_KEY, Pending, dispatch},
    frames::{Frame, FrameReader, ReadEnd},
    output::{Output, Reply},
    refusal::Refusal,
};

/// Produce requests of one connection that wait for the disk.
const MAX_IN_FLIGHT: usize = 64;

/// A connection without requests is closed after this time, as by Kafka's `connections.max.idle.ms`.
const IDLE: Duration = Duration::from_secs(600);

/// How often an incomplete frame is looked at.
const STALL_TICK: Duration = Duration::from_secs(1);

/// An incomplete frame may stand still for this long.
const STALL_TICKS: u32 = 30;

/// While others wait for its memory an incomplete frame must grow by this much in a tick.
const CONTENDED_TICK_BYTES: u64 = 64 * 1024;

/// A client that takes none of its answer for this long is closed.
const UNREAD: Duration = Duration::from_secs(30);

/// Serves one client until it leaves, breaks the rules or the gateway stops.
pub(crate) async fn serve(
    mut stream: TcpStream,
    peer: SocketAddr,
    endpoint: Endpoint,
    context: Arc<Context>,
) {
    let (socket_in, socket_out) = stream.split();
    let reader = FrameReader::new(socket_in, context.memory.clone(), context.frame_limits);
    let mut connection = Connection {
        context: &context,
        peer,
        endpoint,
        reader,
        writer: socket_out,
        slots: VecDeque::new(),
        held: None,
        output: Output::default(),
        is_draining: false,
        more_is_waiting: false,
    };
    match connection.run().await {
        Ok(()) => {}
        Err(End::Io(error)) => tracing::debug!(%peer, "kafka connection lost: {error}"),
        Err(End::Refused(refusal)) => context.refusals.note(peer, &refusal),
    }
}

struct Connection<'a> {
    context: &'a Arc<Context>,
    peer: SocketAddr,
    endpoint: Endpoint,
    reader: FrameReader<'a>,
    writer: WriteHalf<'a>,
    /// Requests that wait, oldest first: any number of Produce, or one of another kind.
    slots: VecDeque<Slot>,
    /// A request that must wait for the ones in `slots`.
    held: Option<Frame>,
    output: Output,
    is_draining: bool,
    /// The client sent more while its request waited; only reading can tell whether it is still there.
    more_is_waiting: bool,
}

/// A request that waits for its answer, with the memory it holds.
struct Slot {
    answer: Answer,
    is_produce: bool,
    _charge: Charge,
}

/// Why a connection ends before the client closes it.
enum End {
    Io(io::Error),
    Refused(Refusal),
}

/// What a connection was waiting for.
enum Event {
    Answer(Result<Reply, Refusal>),
    Frame(Result<Frame, ReadEnd>),
    Closed,
    MoreIsWaiting,
    Stop,
    Tick,
}

impl Connection<'_> {
    async fn run(&mut self) -> Result<(), End> {
        let shutdown = self.context.shutdown.clone();
        let mut stop = pin!(shutdown.requested());
        let mut timer = Timer::new();
        let mut deadline = pin!(sleep_until(timer.next()));
        loop {
            self.take_held().await?;
            while let Some(answer) = self.ready_answer().await {
                self.output.push(answer?);
            }
            self.flush().await?;
            if self.is_draining && self.slots.is_empty() {
                return Ok(());
            }
            if self.held.is_some() && self.may_take_held() {
                continue;
            }
            if self.slots.is_empty() {
                self.reader.release();
            }
            if timer.shorten(self.reader.partial().is_some()) {
                deadline.as_mut().reset(timer.next());
            }
            let is_draining = self.is_draining;
            let event = tokio::select! {
                biased;
                () = &mut stop, if !is_draining => Event::Stop,
                event = Self::next(&mut self.slots, &mut self.reader, Wait {
                    is_reading: !is_draining && self.held.is_none(),
                    is_watching: !self.more_is_waiting,
                }) => event,
                () = &mut deadline => Event::Tick,
            };
            match event {
                Event::Answer(answer) => self.output.push(answer?),
                Event::Frame(Ok(frame)) => {
                    timer.note_activity();
                    self.held = Some(frame);
                    self.more_is_waiting = false;
                }
                Event::Closed | Event::Frame(Err(ReadEnd::Closed)) => return Ok(()),
                Event::Frame(Err(ReadEnd::Io(error))) => return Err(End::Io(error)),
                Event::Frame(Err(ReadEnd::Refused(refusal))) => return Err(refusal.into()),
                Event::MoreIsWaiting => self.more_is_waiting = true,
                Event::Stop => {
                    self.is_draining = true;
                    self.held = None;
                }
                Event::Tick => {
                    if !timer.tick(&self.reader, self.slots.is_empty())? {
                        return Ok(());
                    }
                    deadline.as_mut().reset(timer.next());
                }
            }
        }
    }

    /// Dispatches the held request if its turn has come.
    async fn take_held(&mut self) -> Result<(), End> {
        if !self.may_take_held() {
            return Ok(());
        }
        let Some(frame) = self.held.take() else { return Ok(()) };
        let is_produce = Self::is_produce(&frame);
        let taken = dispatch(self.context, self.peer, &self.endpoint, frame).await?;
        self.reader.prove();
        match taken.pending {
            Pending::Ready(reply) if self.slots.is_empty() => self.output.push(reply),
            Pending::Ready(reply) => self.slots.push_back(Slot {
                answer: Box::pin(ready(Ok(reply))),
                is_produce,
                _charge: taken.charge,
            }),
            Pending::Later(answer) => {
                self.slots.push_back(Slot { answer, is_produce, _charge: taken.charge });
            }
        }
        Ok(())
    }

    fn may_take_held(&self) -> bool {
        let Some(frame) = &self.held else { return false };
        self.slots.is_empty()
            || (Self::is_produce(frame)
                && self.slots.len() < MAX_IN_FLIGHT
                && self.slots.iter().all(|slot| slot.is_produce))
    }

    fn is_produce(frame: &Frame) -> bool {
        FixedHead::peek(&frame.bytes).is_some_and(|head| head.api_key == PRODUCE_KEY)
    }

    /// The oldest request's answer, if it is there now.
    async fn ready_answer(&mut self) -> Option<Result<Reply, Refusal>> {
        if self.slots.is_empty() {
            return None;
        }
        tokio::select! {
            biased;
            answer = front(&mut self.slots) => Some(answer),
            () = ready(()) => None,
        }
    }

    /// Writes everything that is queued.
    async fn flush(&mut self) -> Result<(), End> {
        while self.output.has_remaining() {
            match timeout(UNREAD, self.writer.write_buf(&mut self.output)).await {
                Ok(Ok(0)) => return Err(End::Io(io::ErrorKind::WriteZero.into())),
                Ok(Ok(_)) => {}
                Ok(Err(error)) => return Err(End::Io(error)),
                Err(_) => return Err(Refusal::Unread(UNREAD).into()),
            }
        }
        Ok(())
    }

    /// The next answer or request. A client whose request waits long is watched for leaving.
    async fn next(slots: &mut VecDeque<Slot>, reader: &mut FrameReader<'_>, wait: Wait) -> Event {
        let is_barrier = slots.front().is_some_and(|slot| !slot.is_produce);
        let is_full = slots.len() >= MAX_IN_FLIGHT;
        let may_read = wait.is_reading && !is_barrier && !is_full;
        let may_watch = wait.is_watching && is_barrier && !reader.has_buffered();
        let has_slots = !slots.is_empty();
        let incoming = async {
            if may_read {
                Event::Frame(reader.next().await)
            } else if may_watch {
                if reader.closed().await { Event::Closed } else { Event::MoreIsWaiting }
            } else {
                pending().await
            }
        };
        tokio::select! {
            biased;
            answer = front(slots), if has_slots => Event::Answer(answer),
            event = incoming => event,
        }
    }
}

struct Wait {
    is_reading: bool,
    is_watching: bool,
}

/// The answer of the oldest request, which then leaves the queue; cancel-safe.
async fn front(slots: &mut VecDeque<Slot>) -> Result<Reply, Refusal> {
    let answer = std::future::poll_fn(|task| match slots.front_mut() {
        Some(slot) => slot.answer.as_mut().poll(task),
        None => std::task::Poll::Pending,
    })
    .await;
    slots.pop_front();
    answer
}

/// The clock of one connection: seconds while a frame is incomplete, minutes otherwise.
struct Timer {
    next: Instant,
    is_short: bool,
    last_activity: Instant,
    received_at_tick: u64,
    still_ticks: u32,
}

impl Timer {
    fn new() -> Self {
        let now = Instant::now();
        Self {
            next: now + IDLE,
            is_short: false,
            last_activity: now,
            received_at_tick: 0,
            still_ticks: 0,
        }
    }

    fn next(&self) -> Instant {
        self.next
    }

    fn note_activity(&mut self) {
        self.last_activity = Instant::now();
    }

    /// Goes to short ticks when a frame stays incomplete; says whether the deadline moved.
    fn shorten(&mut self, is_partial: bool) -> bool {
        if !is_partial || self.is_short {
            return false;
        }
        self.is_short = true;
        self.still_ticks = 0;
        self.next = Instant::now() + STALL_TICK;
        true
    }

    /// Whether the connection may go on.
    fn tick(&mut self, reader: &FrameReader<'_>, is_quiet: bool) -> Result<bool, End> {
        let now = Instant::now();
        let grown = reader.received_bytes() - self.received_at_tick;
        self.received_at_tick = reader.received_bytes();
        let Some((received, announced)) = reader.partial() else {
            self.is_short = false;
            if is_quiet && now >= self.last_activity + IDLE {
                return Ok(false);
            }
            self.next = if is_quiet { self.last_activity + IDLE } else { now + IDLE };
            return Ok(true);
        };
        self.is_short = true;
        self.still_ticks = if grown == 0 { self.still_ticks + 1 } else { 0 };
        let is_slow = reader.is_contended() && grown < CONTENDED_TICK_BYTES;
        if is_slow || self.still_ticks >= STALL_TICKS {
            return Err(Refusal::Stalled { received, announced }.into());
        }
        self.next = now + STALL_TICK;
        Ok(true)
    }
}

impl From<Refusal> for End {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}
