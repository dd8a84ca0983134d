//! What topics a consumer's metadata names: the first fields of Kafka's ConsumerProtocolSubscription.

use bytes::{Buf, Bytes};

/// Kafka's type of the groups whose members tell so.
pub(super) const CONSUMER: &str = "consumer";

/// Whether the metadata names a topic; none if it is not readable.
pub(super) fn names_topic(mut metadata: Bytes, topic: &str) -> Option<bool> {
    let _version = metadata.try_get_i16().ok()?;
    let count = metadata.try_get_i32().ok()?;
    let mut is_named = false;
    for _ in 0..count {
        let length = usize::try_from(metadata.try_get_i16().ok()?).ok()?;
        if length > metadata.remaining() {
            return None;
        }
        is_named |= metadata.split_to(length) == topic.as_bytes();
    }
    Some(is_named)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_of_a_subscription() {
        let whole: &[u8] = b"\0\x01\0\0\0\x02\0\x01a\0\x02bc\xff\xff\xff\xff";
        let named = |bytes: &[u8], topic| names_topic(Bytes::copy_from_slice(bytes), topic);
        for (topic, expect) in [("a", true), ("bc", true), ("b", false), ("", false)] {
            assert_eq!(named(whole, topic), Some(expect), "{topic}");
        }
        assert_eq!(named(b"\0\0\0\0\0\0", "a"), Some(false));
        for end in 0..13 {
            assert_eq!(named(&whole[..end], "a"), None, "{end}");
        }
        assert_eq!(named(b"\0\0\x7f\xff\xff\xff", "a"), None, "a count that nothing follows");
        assert_eq!(named(b"\0\0\0\0\0\x01\xff\xff", "a"), None, "a length below zero");
    }
}
