//! One client connection: frames in, responses out in the order of the requests.
//!
//! Produce requests are pipelined: the next is taken while earlier ones wait for the disk. Every
//! other request begins when all before it are answered, as Kafka does it, so that it sees their
//! effects. One task per connection reads, waits and writes; while it writes it does not read, so a
//! client that takes no answers gets no more of them.

use std::{
    collections::VecDeque,
    future::{pending, ready},
    io,
    net::SocketAddr,
    pin::pin,
    sync::Arc,
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
    frames::{Frame, FrameReader, Partial, ReadEnd},
    output::{Output, Reply},
    refusal::Refusal,
    timer::{Look, Timer},
};

/// Produce requests of one connection that wait for the disk.
const MAX_IN_FLIGHT: usize = 64;

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
    /// The client sent more while its request waited; only reading can tell whether it is still
    /// there.
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
    /// A request, or a part of one.
    Frame(Result<Option<Frame>, ReadEnd>),
    Closed,
    MoreIsWaiting,
    Stop,
    Tick,
}

impl Connection<'_> {
    async fn run(&mut self) -> Result<(), End> {
        let shutdown = self.context.shutdown.clone();
        let mut stop = pin!(shutdown.requested());
        let mut timer = Timer::new(self.context.patience);
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
            let attention = self.attention();
            if timer.shorten(self.partial()) {
                deadline.as_mut().reset(timer.next());
            }
            let is_draining = self.is_draining;
            let event = tokio::select! {
                biased;
                () = &mut stop, if !is_draining => Event::Stop,
                event = next(&mut self.slots, &mut self.reader, attention) => event,
                () = &mut deadline => Event::Tick,
            };
            match event {
                Event::Answer(answer) => self.output.push(answer?),
                Event::Frame(Ok(Some(frame))) => {
                    timer.note_activity();
                    self.held = Some(frame);
                }
                Event::Frame(Ok(None)) => self.more_is_waiting = false,
                Event::Closed | Event::Frame(Err(ReadEnd::Closed)) => return Ok(()),
                Event::Frame(Err(ReadEnd::Io(error))) => return Err(End::Io(error)),
                Event::Frame(Err(ReadEnd::Refused(refusal))) => return Err(refusal.into()),
                Event::MoreIsWaiting => self.more_is_waiting = true,
                Event::Stop => {
                    self.is_draining = true;
                    self.held = None;
                }
                Event::Tick => {
                    let look = Look {
                        partial: self.partial(),
                        received_bytes: self.reader.received_bytes(),
                        is_contended: self.reader.is_contended(),
                        is_quiet: self.slots.is_empty() && self.held.is_none(),
                    };
                    if !timer.tick(look)? {
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
        let patience = self.context.patience;
        let mut last_taken = Instant::now();
        while self.output.has_remaining() {
            match timeout(patience.tick, self.writer.write_buf(&mut self.output)).await {
                Ok(Ok(0)) => return Err(End::Io(io::ErrorKind::WriteZero.into())),
                Ok(Ok(_)) => last_taken = Instant::now(),
                Ok(Err(error)) => return Err(End::Io(error)),
                Err(_) => {
                    let is_contended =
                        self.output.holds_memory() && self.context.responses.is_contended();
                    let limit =
                        if is_contended { patience.unread_contended } else { patience.unread };
                    if last_taken.elapsed() >= limit {
                        return Err(Refusal::Unread(limit).into());
                    }
                }
            }
        }
        Ok(())
    }

    /// The frame that the client should be sending.
    fn partial(&self) -> Option<Partial> {
        match self.attention() {
            Attention::Requests => self.reader.partial(),
            Attention::End | Attention::None => None,
        }
    }

    /// What the socket is looked at for.
    fn attention(&self) -> Attention {
        let is_barrier = self.slots.front().is_some_and(|slot| !slot.is_produce);
        let is_full = self.slots.len() >= MAX_IN_FLIGHT;
        if !self.is_draining && self.held.is_none() && !is_barrier && !is_full {
            Attention::Requests
        } else if is_barrier && !self.more_is_waiting && !self.reader.has_buffered() {
            Attention::End
        } else {
            Attention::None
        }
    }
}

/// What a socket is looked at for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Attention {
    /// The next request.
    Requests,
    /// Whether the client, whose request waits long, has left.
    End,
    /// Nothing: other requests must be answered first.
    None,
}

/// The next answer, or what comes in.
async fn next(
    slots: &mut VecDeque<Slot>,
    reader: &mut FrameReader<'_>,
    attention: Attention,
) -> Event {
    let has_slots = !slots.is_empty();
    let incoming = async {
        match attention {
            Attention::Requests => Event::Frame(reader.next().await),
            Attention::End if reader.closed().await => Event::Closed,
            Attention::End => Event::MoreIsWaiting,
            Attention::None => pending().await,
        }
    };
    tokio::select! {
        biased;
        answer = front(slots), if has_slots => Event::Answer(answer),
        event = incoming => event,
    }
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

impl From<Refusal> for End {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}
