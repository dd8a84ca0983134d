//! Requests and answers with their headers, without the length that goes before them.

use serde_json::Value;

use super::{
    codec::{self, Dialect, Fault},
    fields::Message,
};

/// Its answers never have tagged fields in their header: whoever asks does not know yet what the server can read.
const API_VERSIONS: i16 = 18;

/// Both messages of an API.
#[derive(Debug)]
pub struct Pair {
    /// Without `Request` or `Response`.
    pub name: String,
    /// What clients send.
    pub request: Message,
    /// What they get.
    pub response: Message,
}

/// How every request begins, whatever it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHead {
    /// The API.
    pub key: i16,
    /// Its version.
    pub version: i16,
    /// Comes back with the answer.
    pub correlation: i32,
}

impl FrameHead {
    /// Of a request; `None` for one that is too short.
    #[must_use]
    pub fn peek(mut frame: &[u8]) -> Option<Self> {
        let bytes = &mut frame;
        Some(Self {
            key: codec::read_signed(bytes, 2).ok()? as i16,
            version: codec::read_signed(bytes, 2).ok()? as i16,
            correlation: codec::read_signed(bytes, 4).ok()? as i32,
        })
    }
}

impl Pair {
    /// A request of this API.
    ///
    /// # Errors
    /// If the version cannot say it.
    pub fn encode_request(
        &self,
        version: i16,
        correlation: i32,
        client: &str,
        body: &Value,
    ) -> Result<Vec<u8>, Fault> {
        let dialect = self.dialect(&self.request, version);
        let mut frame = Vec::new();
        frame.extend_from_slice(&self.request.api_key.to_be_bytes());
        frame.extend_from_slice(&version.to_be_bytes());
        frame.extend_from_slice(&correlation.to_be_bytes());
        frame.extend_from_slice(&(client.len() as i16).to_be_bytes());
        frame.extend_from_slice(client.as_bytes());
        if dialect.flexible {
            frame.push(0);
        }
        dialect.write_fields(&self.request.fields, body, &mut frame)?;
        Ok(frame)
    }

    /// The body of a request.
    ///
    /// # Errors
    /// If it is none.
    pub fn decode_request(&self, version: i16, frame: &[u8]) -> Result<Value, Fault> {
        let dialect = self.dialect(&self.request, version);
        let mut bytes = frame;
        codec::take(&mut bytes, 8)?;
        let client = codec::read_signed(&mut bytes, 2)?;
        codec::take(&mut bytes, usize::try_from(client).unwrap_or(0))?;
        if dialect.flexible {
            skip_tags(&mut bytes)?;
        }
        // librdkafka leaves bytes behind Metadata version 12; Kafka does not mind.
        dialect.read_fields(&self.request.fields, &mut bytes)
    }

    /// The correlation and the body of an answer.
    ///
    /// # Errors
    /// If it is none.
    pub fn decode_response(&self, version: i16, frame: &[u8]) -> Result<(i32, Value), Fault> {
        let dialect = self.dialect(&self.response, version);
        let mut bytes = frame;
        let correlation = codec::read_signed(&mut bytes, 4)? as i32;
        if dialect.flexible && self.response.api_key != API_VERSIONS {
            skip_tags(&mut bytes)?;
        }
        let body = dialect.read_fields(&self.response.fields, &mut bytes)?;
        Ok((correlation, codec::with_rest(body, bytes)))
    }

    fn dialect(&self, message: &Message, version: i16) -> Dialect {
        Dialect { version, flexible: message.is_flexible(version) }
    }
}

fn skip_tags(bytes: &mut &[u8]) -> Result<(), Fault> {
    for _ in 0..codec::read_unsigned(bytes)? {
        codec::read_unsigned(bytes)?;
        let length = codec::read_unsigned(bytes)?;
        codec::take(bytes, length)?;
    }
    Ok(())
}
