//! Random identities: of the gateway, of topics, of group members.

use std::fmt;

use bytes::{BufMut, Bytes};

use super::{FactError, fact::FactReader};

/// A random UUID (RFC 9562, version 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Uuid(pub [u8; 16]);

/// Key of the gateway's own id in [`super::space::GATEWAY`].
pub(super) const GATEWAY_ID_KEY: &[u8] = b"gateway-id";
const FACT: &str = "gateway id";
const FACT_VERSION: u8 = 1;
const BASE64_URL: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Draws a UUID from the system.
pub(super) fn random_uuid() -> Uuid {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("the system's random source works once it has booted");
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    Uuid(bytes)
}

impl Uuid {
    /// The 22 characters of base64url in which Kafka prints ids of topics and clusters.
    #[must_use]
    pub fn base64_url(&self) -> String {
        let mut text = String::with_capacity(22);
        for chunk in self.0.chunks(3) {
            let mut bits = 0u32;
            for (index, byte) in chunk.iter().enumerate() {
                bits |= u32::from(*byte) << (16 - 8 * index);
            }
            for digit in 0..=chunk.len() {
                let index = (bits >> (18 - 6 * digit)) & 0x3f;
                text.push(char::from(BASE64_URL[index as usize]));
            }
        }
        text
    }

    pub(super) fn to_fact(self) -> Bytes {
        let mut out = Vec::with_capacity(17);
        out.put_u8(FACT_VERSION);
        out.put_slice(&self.0);
        out.into()
    }

    pub(super) fn from_fact(value: Bytes) -> Result<Self, FactError> {
        let mut reader = FactReader::new(FACT, value);
        reader.version(FACT_VERSION)?;
        let uuid = Self(reader.array()?);
        reader.end()?;
        Ok(uuid)
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            if matches!(index, 4 | 6 | 8 | 10) {
                formatter.write_str("-")?;
            }
            write!(formatter, "{byte:02x}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pairs printed by `org.apache.kafka.common.Uuid`.
    #[test]
    fn prints_as_kafka_does() {
        let cases = [
            ([0; 16], "AAAAAAAAAAAAAAAAAAAAAA"),
            ([0xff; 16], "_____________________w"),
            ([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15], "AAECAwQFBgcICQoLDA0ODw"),
        ];
        for (bytes, text) in cases {
            assert_eq!(Uuid(bytes).base64_url(), text);
        }
    }

    #[test]
    fn random_ones_are_of_version_4_and_differ() {
        let (one, other) = (random_uuid(), random_uuid());
        assert_ne!(one, other);
        let text = one.to_string();
        assert_eq!((text.len(), &text[14..15]), (36, "4"));
    }

    #[test]
    fn golden_fact() {
        let one = Uuid([7; 16]);
        assert_eq!(&one.to_fact()[..], [&[1][..], &[7; 16]].concat());
        assert_eq!(Uuid::from_fact(one.to_fact()), Ok(one));
        assert!(Uuid::from_fact(one.to_fact().slice(..16)).is_err());
    }
}
