//! The seam to the wire codec: request headers in, bounded messages in, framed responses out.
//!
//! Message types come from `kafka-wire`; nothing outside this room sees them. Every decode runs under
//! [`limits`], and no response is encoded before its size is known to be below [`MAX_RESPONSE_BYTES`].

use bytes::{Buf, Bytes, BytesMut};
use kafka_wire::{KafkaMessage, KafkaResponse};
use kafka_wire_core::{ApiVersion, DecodeError, DecodeLimits, Decoder, EncodeError};

pub(crate) use kafka_wire_core::{StrBytes, Uuid};

use super::output::Reply;

/// Elements of one array in a request. A topic has at most 1024 partitions; the largest arrays
/// that clients send are lists of topics.
const MAX_ARRAY_ELEMENTS: usize = 16_384;

/// Bytes of one string: the legacy encoding cannot say more than 32,767 either.
const MAX_STRING_BYTES: usize = 32_767;

/// Unknown tagged fields in one structure. Clients send none; later protocol versions a few.
const MAX_TAGGED_FIELDS: usize = 16;

/// Bytes of all unknown tagged fields in one structure.
const MAX_TAG_BYTES: usize = 16 * 1024;

/// Largest response body that is built from decoded structures (Fetch builds its own). A legitimate one is
/// far below; a small request can name the same large thing many times.
const MAX_RESPONSE_BYTES: usize = 8 * 1024 * 1024;

/// Length of the frame prefix and of what follows it in every request: key, version, correlation.
pub(crate) const LENGTH_BYTES: usize = 4;
const FIXED_HEAD_BYTES: usize = 8;

/// Header of a request.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    pub(crate) version: i16,
    pub(crate) correlation_id: i32,
    pub(crate) client_id: Option<StrBytes>,
}

/// The part of the header that has the same place in every version.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FixedHead {
    pub(crate) api_key: i16,
    pub(crate) version: i16,
    pub(crate) correlation_id: i32,
}

impl FixedHead {
    /// Reads the head of a frame (without its length prefix) and leaves the frame as it is.
    pub(crate) fn peek(frame: &Bytes) -> Option<Self> {
        if frame.len() < FIXED_HEAD_BYTES {
            return None;
        }
        let mut head = frame.slice(..FIXED_HEAD_BYTES);
        Some(Self {
            api_key: head.get_i16(),
            version: head.get_i16(),
            correlation_id: head.get_i32(),
        })
    }

    /// Parses the rest of the header; returns it with the body.
    ///
    /// Flexible requests carry tagged fields in their header, whatever the API's own version number.
    pub(crate) fn finish(self, frame: Bytes, flexible: bool) -> Result<(Head, Bytes), DecodeError> {
        let mut decoder = Decoder::new(frame, limits())?;
        decoder.take_bytes(FIXED_HEAD_BYTES)?;
        let client_id = decoder.read_nullable_string()?;
        if flexible {
            decoder.read_tagged_fields()?;
        }
        let rest = decoder.remaining();
        let body = decoder.take_bytes(rest)?;
        let Self { version, correlation_id, .. } = self;
        Ok((Head { version, correlation_id, client_id }, body))
    }
}

/// Bounds of every decode. The frame itself was bounded when it was read.
pub(crate) fn limits() -> DecodeLimits {
    let mut limits = DecodeLimits::default();
    limits.max_string_bytes = MAX_STRING_BYTES;
    limits.max_array_elements = MAX_ARRAY_ELEMENTS;
    limits.max_tagged_fields = MAX_TAGGED_FIELDS;
    limits.max_tag_bytes = MAX_TAG_BYTES;
    limits.max_total_tag_bytes = MAX_TAG_BYTES;
    limits
}

/// Decodes a body. Bytes after the message are ignored, as Apache Kafka does: librdkafka 2.16 leaves some behind
/// Metadata version 12.
pub(crate) fn decode<M: KafkaMessage>(body: Bytes, version: i16) -> Result<M, DecodeError> {
    let mut decoder = Decoder::new(body, limits())?;
    M::decode(&mut decoder, ApiVersion::new(version))
}

/// Encodes a whole response frame: length, header, body.
pub(crate) fn encode<R: KafkaResponse>(head: &Head, response: &R) -> Result<Reply, EncodeError> {
    let version = ApiVersion::new(head.version);
    let body_bytes = response.encoded_len(version)?;
    if body_bytes > MAX_RESPONSE_BYTES {
        return Err(EncodeError::FrameLimitExceeded {
            actual: body_bytes,
            limit: MAX_RESPONSE_BYTES,
        });
    }
    let flexible_head =
        kafka_wire::response_header_version(R::API_KEY, version, R::is_flexible(version)) > 0;
    let mut frame = BytesMut::with_capacity(LENGTH_BYTES + 5 + body_bytes);
    start_frame(&mut frame, head.correlation_id, flexible_head);
    response.encode_into(&mut frame, version)?;
    Ok(Reply::frame(frame))
}

/// Begins a response frame: room for the length, the correlation id, and an empty tag section if the header has one.
pub(crate) fn start_frame(frame: &mut BytesMut, correlation_id: i32, flexible_head: bool) {
    use bytes::BufMut;
    frame.put_i32(0);
    frame.put_i32(correlation_id);
    if flexible_head {
        frame.put_u8(0);
    }
}

/// Primitive reads for requests that are decoded here rather than by the generated code.
pub(crate) fn reader(body: Bytes) -> Result<Decoder, DecodeError> {
    Decoder::new(body, limits())
}
