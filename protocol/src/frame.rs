//! Frames: COBS of {type u8, body length varint, body, CRC-32C little endian}, delimited by 0x00.
//! The explicit length is there because an error that hits a COBS code byte shifts the rest,
//! against which a CRC alone guarantees nothing.

use crate::{HOST_RECEIVE_MAX, cobs, crc::Crc32c, varint};

/// The byte between frames.
pub const DELIMITER: u8 = 0;

/// Bytes of a frame beside its body: type, length (one byte below 128, else two) and CRC.
pub const OVERHEAD_MAX: usize = 7;

/// Largest body that fits a host's receive maximum, bytes.
pub const BODY_MAX: usize = HOST_RECEIVE_MAX - OVERHEAD_MAX;

/// Room in which every frame of this protocol can be encoded, both delimiters included.
pub const ENCODED_MAX: usize = encoded_max(BODY_MAX);

const CRC_LEN: usize = 4;

/// Room needed to encode a frame with a body of `body_len` bytes, both delimiters included.
#[must_use]
pub const fn encoded_max(body_len: usize) -> usize {
    cobs::encoded_max(body_len + OVERHEAD_MAX) + 2
}

/// A frame that passed every check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Type number (see [`crate::message`]).
    pub kind: u8,
    /// Body.
    pub body: &'a [u8],
}

/// Why bytes between two delimiters are not a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameError {
    /// A COBS block ends early.
    Stuffing,
    /// Longer than the receiver's maximum.
    TooLong,
    /// Shorter than the smallest frame, or the length field disagrees with the bytes received.
    Length,
    /// The CRC disagrees.
    Crc,
}

/// What one received byte led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Nothing yet.
    Pending,
    /// A frame is complete: [`Decoder::frame`] gives it until the next byte is pushed.
    Complete,
    /// Bytes up to this delimiter were discarded.
    Discarded(FrameError),
}

/// Collects received bytes into frames of at most `N` bytes (type, length, body and CRC).
#[derive(Clone, Debug)]
pub struct Decoder<const N: usize> {
    buffer: [u8; N],
    len: usize,
    /// Where the body of the frame that is complete lies.
    body: (usize, usize),
    cobs: cobs::Decoder,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing since the last delimiter.
    Empty,
    Collecting,
    /// Everything up to the next delimiter is discarded.
    Overlong,
    /// Likewise, because bytes are known to be missing.
    Broken,
}

impl<const N: usize> Decoder<N> {
    /// Nothing received yet.
    #[must_use]
    pub const fn new() -> Self {
        let cobs = cobs::Decoder::new();
        Self { buffer: [0; N], len: 0, body: (0, 0), cobs, state: State::Empty }
    }

    /// Takes one byte.
    pub fn push(&mut self, byte: u8) -> Progress {
        if byte == DELIMITER {
            let state = self.state;
            self.state = State::Empty;
            return match state {
                State::Empty => Progress::Pending,
                State::Overlong => Progress::Discarded(FrameError::TooLong),
                State::Broken => Progress::Discarded(FrameError::Stuffing),
                State::Collecting => match self.check() {
                    Ok(()) => Progress::Complete,
                    Err(error) => Progress::Discarded(error),
                },
            };
        }
        if self.state == State::Empty {
            self.state = State::Collecting;
            self.len = 0;
            self.cobs = cobs::Decoder::new();
        }
        if self.state == State::Collecting
            && let Some(byte) = self.cobs.push(byte)
        {
            match self.buffer.get_mut(self.len) {
                Some(slot) => {
                    *slot = byte;
                    self.len += 1;
                }
                None => self.state = State::Overlong,
            }
        }
        Progress::Pending
    }

    /// Bytes are missing here: whatever is being collected is discarded at the next delimiter.
    pub fn break_frame(&mut self) {
        self.state = State::Broken;
    }

    /// The frame that the last push completed; meaningless after any other push.
    #[must_use]
    pub fn frame(&self) -> Frame<'_> {
        let (start, end) = self.body;
        let kind = self.buffer.first().copied().unwrap_or_default();
        Frame { kind, body: self.buffer.get(start..end).unwrap_or_default() }
    }

    fn check(&mut self) -> Result<(), FrameError> {
        if !self.cobs.at_end() {
            return Err(FrameError::Stuffing);
        }
        let content = self.buffer.get(..self.len).ok_or(FrameError::Length)?;
        let (checked, crc) = content.split_last_chunk::<CRC_LEN>().ok_or(FrameError::Length)?;
        let (body_len, prefix) = declared(checked).ok_or(FrameError::Length)?;
        if prefix.checked_add(body_len) != Some(checked.len()) {
            return Err(FrameError::Length);
        }
        if crate::crc::crc32c(checked) != u32::from_le_bytes(*crc) {
            return Err(FrameError::Crc);
        }
        self.body = (prefix, checked.len());
        Ok(())
    }
}

impl<const N: usize> Default for Decoder<N> {
    fn default() -> Self {
        Self::new()
    }
}

/// The declared body length and the number of bytes before the body.
fn declared(content: &[u8]) -> Option<(usize, usize)> {
    let (_, rest) = content.split_first()?;
    let (body_len, len) = varint::decode(rest)?;
    Some((usize::try_from(body_len).ok()?, 1 + len))
}

/// Whether a delimiter goes before a frame: after idle, at the start and after an error, to end
/// whatever noise the line made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lead {
    /// Right behind another frame.
    None,
    /// After idle or an error.
    Delimiter,
}

/// Encodes a frame whose body is `head` and `tail`, with its closing delimiter; gives the length,
/// `None` when `out` is too short.
#[must_use]
pub fn encode(lead: Lead, kind: u8, head: &[u8], tail: &[u8], out: &mut [u8]) -> Option<usize> {
    let skip = usize::from(lead == Lead::Delimiter);
    if skip == 1 {
        *out.first_mut()? = DELIMITER;
    }
    let mut content =
        Content { crc: Crc32c::new(), cobs: cobs::Encoder::new(out.get_mut(skip..)?) };
    content.push(kind);
    let mut body_len = head.len() + tail.len();
    while body_len > 0x7F {
        content.push(body_len as u8 | 0x80);
        body_len >>= 7;
    }
    content.push(body_len as u8);
    head.iter().for_each(|byte| content.push(*byte));
    tail.iter().for_each(|byte| content.push(*byte));
    let Content { crc, mut cobs } = content;
    crc.value().to_le_bytes().iter().for_each(|byte| cobs.push(*byte));
    let end = skip + cobs.finish()?;
    *out.get_mut(end)? = DELIMITER;
    Some(end + 1)
}

/// What the CRC covers, on its way out.
struct Content<'a> {
    crc: Crc32c,
    cobs: cobs::Encoder<'a>,
}

impl Content<'_> {
    #[inline(never)]
    fn push(&mut self, byte: u8) {
        self.crc.push(byte);
        self.cobs.push(byte);
    }
}
