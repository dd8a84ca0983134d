//! Responses as they leave: frames of shared chunks, queued for vectored writes without copying
//! records.

use std::{collections::VecDeque, io::IoSlice};

use bytes::{Buf, Bytes, BytesMut};

use super::{budget::Charge, codec::LENGTH_BYTES};

/// Record bytes below this size are copied beside the header that precedes them: a slice of a
/// vectored write costs more than moving so few bytes.
const COPY_BELOW_BYTES: usize = 1024;

/// What a request gets back.
#[derive(Debug)]
pub(crate) enum Reply {
    /// A whole frame, length prefix included, and the memory charged for it until it is sent.
    Frame(Vec<Bytes>, Charge),
    /// Nothing (acks=0).
    Silence,
}

impl Reply {
    /// Closes a frame that is one buffer.
    pub(crate) fn frame(mut frame: BytesMut) -> Self {
        patch_length(&mut frame, 0);
        Self::Frame(vec![frame.freeze()], Charge::default())
    }

    /// Holds a charge until the frame is sent.
    pub(crate) fn charged(self, charge: Charge) -> Self {
        match self {
            Self::Frame(chunks, _) => Self::Frame(chunks, charge),
            Self::Silence => Self::Silence,
        }
    }

    /// All bytes in one piece.
    #[cfg(any(test, feature = "fuzz"))]
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        match self {
            Self::Frame(chunks, _) => chunks.concat(),
            Self::Silence => Vec::new(),
        }
    }
}

/// Builds a frame out of small fields and large shared slices.
#[derive(Debug)]
pub(crate) struct FrameWriter {
    /// What precedes the first shared slice; stays writable, because it begins with the length.
    start: Option<BytesMut>,
    later: Vec<Bytes>,
    tail: BytesMut,
}

impl FrameWriter {
    /// Continues a frame that [`super::codec::start_frame`] began.
    pub(crate) fn new(start: BytesMut) -> Self {
        Self { start: None, later: Vec::new(), tail: start }
    }

    /// Where small fields go.
    pub(crate) fn fields(&mut self) -> &mut BytesMut {
        &mut self.tail
    }

    /// Appends bytes that are shared rather than copied, unless they are few.
    pub(crate) fn share(&mut self, bytes: &Bytes) {
        if bytes.len() < COPY_BELOW_BYTES {
            self.tail.extend_from_slice(bytes);
            return;
        }
        self.seal();
        self.later.push(bytes.clone());
    }

    /// Writes the length prefix and returns the frame.
    pub(crate) fn finish(mut self) -> Reply {
        self.seal();
        let mut start = self.start.unwrap_or_default();
        patch_length(&mut start, self.later.iter().map(Bytes::len).sum());
        self.later.insert(0, start.freeze());
        Reply::Frame(self.later, Charge::default())
    }

    fn seal(&mut self) {
        let sealed = self.tail.split();
        if self.start.is_none() {
            self.start = Some(sealed);
        } else if !sealed.is_empty() {
            self.later.push(sealed.freeze());
        }
    }
}

fn patch_length(start: &mut BytesMut, later_bytes: usize) {
    let length = start.len() + later_bytes - LENGTH_BYTES;
    // Frames are bounded far below 2 GiB: by MAX_RESPONSE_BYTES and by the limits of Fetch.
    let length = u32::try_from(length).expect("a response frame is below 4 GiB");
    if let Some(prefix) = start.get_mut(..LENGTH_BYTES) {
        prefix.copy_from_slice(&length.to_be_bytes());
    }
}

/// Frames that wait to be written, as one [`Buf`].
#[derive(Debug, Default)]
pub(crate) struct Output {
    chunks: VecDeque<Bytes>,
    remaining: usize,
    charges: Vec<Charge>,
}

impl Output {
    /// Queues a reply.
    pub(crate) fn push(&mut self, reply: Reply) {
        if let Reply::Frame(chunks, charge) = reply {
            if !charge.is_empty() {
                self.charges.push(charge);
            }
            for chunk in chunks.into_iter().filter(|chunk| !chunk.is_empty()) {
                self.remaining += chunk.len();
                self.chunks.push_back(chunk);
            }
        }
    }

    /// Whether what is queued is charged for.
    pub(crate) fn holds_memory(&self) -> bool {
        !self.charges.is_empty()
    }
}

impl Buf for Output {
    fn remaining(&self) -> usize {
        self.remaining
    }

    fn chunk(&self) -> &[u8] {
        self.chunks.front().map_or(&[], |chunk| chunk)
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut count = 0;
        for (slice, chunk) in slices.iter_mut().zip(&self.chunks) {
            *slice = IoSlice::new(chunk);
            count += 1;
        }
        count
    }

    fn advance(&mut self, mut count: usize) {
        assert!(count <= self.remaining, "a write cannot take more than there is");
        self.remaining -= count;
        if self.remaining == 0 {
            self.charges.clear();
        }
        while let Some(front) = self.chunks.front_mut() {
            if count < front.len() {
                front.advance(count);
                return;
            }
            count -= front.len();
            self.chunks.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start() -> BytesMut {
        let mut start = BytesMut::new();
        super::super::codec::start_frame(&mut start, 7, true);
        start
    }

    #[test]
    fn frames_carry_their_length_whatever_is_shared() {
        for sizes in [vec![], vec![0], vec![10], vec![5000], vec![10, 5000, 10, 1024, 1023]] {
            let mut writer = FrameWriter::new(start());
            let mut expect = vec![0, 0, 0, 7, 0];
            for size in sizes {
                let bytes = Bytes::from(vec![size as u8; size]);
                writer.share(&bytes);
                writer.fields().extend_from_slice(b"|");
                expect.extend_from_slice(&bytes);
                expect.push(b'|');
            }
            let got = writer.finish().into_bytes();
            assert_eq!(got[..4], (expect.len() as u32).to_be_bytes());
            assert_eq!(got[4..], expect);
        }
    }

    #[test]
    fn large_slices_are_not_copied() {
        let records = Bytes::from(vec![1; 4096]);
        let mut writer = FrameWriter::new(start());
        writer.share(&records);
        let Reply::Frame(chunks, _) = writer.finish() else { panic!("a frame") };
        assert!(chunks.iter().any(|chunk| chunk.as_ptr() == records.as_ptr()));
    }

    #[test]
    fn output_is_taken_in_any_portions() {
        let mut output = Output::default();
        for part in ["one", "", "three", "four"] {
            output.push(Reply::Frame(vec![Bytes::from(part)], Charge::default()));
        }
        output.push(Reply::Silence);
        let mut got = Vec::new();
        while output.has_remaining() {
            let mut slices = [IoSlice::new(&[]); 8];
            let count = output.chunks_vectored(&mut slices);
            assert!(count > 0);
            let step = 2.min(output.remaining());
            got.extend(slices[..count].iter().flat_map(|slice| slice.to_vec()).take(step));
            output.advance(step);
        }
        assert_eq!(got, b"onethreefour");
    }
}
