//! Length-prefixed frames off a socket: every length is checked and paid for before memory is
//! reserved.
//!
//! A frame is charged whole before its bytes are read, while its connection holds nothing else:
//! frames that are being received never wait for each other. What an announced length withholds
//! from others is bounded by time: whoever is too slow while others wait is closed (see
//! `connection`).

use std::io;

use bytes::{Buf, Bytes, BytesMut};
use tokio::{io::AsyncReadExt, net::tcp::ReadHalf};

use super::{
    budget::{Budget, Charge},
    codec::LENGTH_BYTES,
    refusal::Refusal,
};

/// Smallest room for one read: most requests fit, and a busy client's come several at a time.
const READ_BYTES: usize = 8 * 1024;

/// Largest room for a read that begins a frame, for clients whose last frame was that large. Not
/// charged for.
const EAGER_READ_BYTES: usize = 32 * 1024;

/// Smallest frame: API key, version, correlation id.
const SMALLEST_FRAME_BYTES: usize = 8;

/// Largest frames, by what is known of the connection and of the request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FrameLimits {
    /// Before the connection's first valid request.
    pub(crate) unproven_bytes: usize,
    /// Everything that carries no records.
    pub(crate) control_bytes: usize,
    /// Produce.
    pub(crate) produce_bytes: usize,
}

/// Frames up to this size have an allowance of their own, so that large ones do not keep them
/// waiting.
const SMALL_FRAME_BYTES: usize = 64 * 1024;

/// The allowances of all frames that are being received or answered.
#[derive(Clone, Debug)]
pub(crate) struct RequestMemory {
    small: Budget,
    large: Budget,
}

/// One request without its length prefix, and the memory charged for it.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) bytes: Bytes,
    pub(crate) charge: Charge,
}

/// Reads frames; every method may be cancelled and called again.
#[derive(Debug)]
pub(crate) struct FrameReader<'a> {
    socket: ReadHalf<'a>,
    memory: RequestMemory,
    limits: FrameLimits,
    is_proven: bool,
    buffer: BytesMut,
    /// Length of the frame that is being received, once it passed the limits.
    announced: Option<usize>,
    /// What the frame being received holds.
    charge: Charge,
    /// Room for the next frame to begin in.
    eager_bytes: usize,
    received_bytes: u64,
}

/// A frame of which some bytes are here.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Partial {
    pub(crate) received: usize,
    pub(crate) announced: usize,
}

/// Why no frame came.
#[derive(Debug)]
pub(crate) enum ReadEnd {
    /// The client closed the connection.
    Closed,
    /// The socket failed.
    Io(io::Error),
    /// The bytes are refused.
    Refused(Refusal),
}

impl RequestMemory {
    /// So many bytes for small frames and for large ones.
    pub(crate) fn new(small_bytes: usize, large_bytes: usize) -> Self {
        Self { small: Budget::new(small_bytes), large: Budget::new(large_bytes) }
    }

    fn of(&self, frame_bytes: usize) -> &Budget {
        if frame_bytes <= SMALL_FRAME_BYTES { &self.small } else { &self.large }
    }
}

impl<'a> FrameReader<'a> {
    /// Reads from a socket whose client has proven nothing yet.
    pub(crate) fn new(socket: ReadHalf<'a>, memory: RequestMemory, limits: FrameLimits) -> Self {
        Self {
            socket,
            memory,
            limits,
            is_proven: false,
            buffer: BytesMut::new(),
            announced: None,
            charge: Charge::default(),
            eager_bytes: READ_BYTES,
            received_bytes: 0,
        }
    }

    /// The client sent a valid request: larger frames are taken from now on.
    pub(crate) fn prove(&mut self) {
        self.is_proven = true;
    }

    /// One step: the next frame if it is complete, else `None` once more of it or memory for it is
    /// there; cancel-safe.
    pub(crate) async fn next(&mut self) -> Result<Option<Frame>, ReadEnd> {
        if self.announced.is_none() {
            self.announced = self.announcement().map_err(ReadEnd::Refused)?;
        }
        if let Some(length) = self.announced {
            let is_complete = self.buffer.len() >= LENGTH_BYTES + length;
            if self.charge.is_empty() && (is_complete || length > READ_BYTES) {
                self.memory.of(length).raise(&mut self.charge, length).await;
                if !is_complete {
                    return Ok(None);
                }
            }
            if is_complete {
                return Ok(Some(self.take(length)));
            }
            self.buffer.reserve(LENGTH_BYTES + length - self.buffer.len());
        } else {
            if self.buffer.is_empty() {
                // An idle connection holds no buffer.
                self.socket.readable().await.map_err(ReadEnd::Io)?;
                self.buffer.reserve(self.eager_bytes);
            }
            self.buffer.reserve(READ_BYTES);
        }
        match self.socket.read_buf(&mut self.buffer).await {
            Ok(0) => Err(ReadEnd::Closed),
            Ok(count) => {
                self.received_bytes += count as u64;
                Ok(None)
            }
            Err(error) => Err(ReadEnd::Io(error)),
        }
    }

    /// Resolves when the client has closed the connection, or sent more; cancel-safe and reads
    /// nothing.
    pub(crate) async fn closed(&mut self) -> bool {
        !matches!(self.socket.peek(&mut [0]).await, Ok(count) if count > 0)
    }

    /// Gives back the read buffer if it is empty.
    pub(crate) fn release(&mut self) {
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
        }
    }

    /// Whether bytes are here that no frame was made of yet.
    pub(crate) fn has_buffered(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// The frame that is being received, once there is memory for it.
    pub(crate) fn partial(&self) -> Option<Partial> {
        let announced = match self.announced {
            Some(length) if length > READ_BYTES && self.charge.is_empty() => return None,
            Some(length) => length,
            None if self.buffer.is_empty() => return None,
            None => LENGTH_BYTES,
        };
        Some(Partial { received: self.buffer.len(), announced })
    }

    /// Whether others wait for memory of the kind that the frame being received holds.
    pub(crate) fn is_contended(&self) -> bool {
        self.announced.is_some_and(|length| self.memory.of(length).is_contended())
    }

    /// Bytes received since the connection began.
    pub(crate) fn received_bytes(&self) -> u64 {
        self.received_bytes
    }

    /// The length prefix, if it is here and legal.
    fn announcement(&self) -> Result<Option<usize>, Refusal> {
        let mut head = &self.buffer[..];
        if head.len() < LENGTH_BYTES {
            return Ok(None);
        }
        let announced = head.get_i32();
        let refuse = |limit| Refusal::FrameLength { announced, limit };
        let length = usize::try_from(announced).map_err(|_| refuse(self.limits.unproven_bytes))?;
        if length < SMALLEST_FRAME_BYTES {
            return Err(Refusal::NoHeader(length));
        }
        if length <= self.limits.unproven_bytes {
            return Ok(Some(length));
        }
        if !self.is_proven {
            return Err(refuse(self.limits.unproven_bytes));
        }
        if head.len() < size_of::<i16>() {
            return Ok(None);
        }
        let limit = match head.get_i16() {
            super::dispatch::PRODUCE_KEY => self.limits.produce_bytes,
            _ => self.limits.control_bytes,
        };
        if length > limit { Err(refuse(limit)) } else { Ok(Some(length)) }
    }

    fn take(&mut self, length: usize) -> Frame {
        self.announced = None;
        self.eager_bytes = (LENGTH_BYTES + length).clamp(READ_BYTES, EAGER_READ_BYTES);
        let mut bytes = self.buffer.split_to(LENGTH_BYTES + length);
        bytes.advance(LENGTH_BYTES);
        Frame { bytes: bytes.freeze(), charge: std::mem::take(&mut self.charge) }
    }
}
