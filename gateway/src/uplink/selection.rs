//! Which topics are forwarded, and what they are called at the centre.

/// Topics of brokers themselves, such as Kafka's `__consumer_offsets`: forwarded only when named in
/// full.
const INTERNAL_PREFIX: &str = "__";

/// The choice of `[uplink]`.
#[derive(Clone, Debug)]
pub(super) struct Selection {
    patterns: Vec<String>,
    prefix: String,
    cursor_topic: String,
}

impl Selection {
    /// `patterns` are topic names; a `*` at the end of one stands for anything.
    pub(super) fn new(patterns: Vec<String>, prefix: String, cursor_topic: String) -> Self {
        Self { patterns, prefix, cursor_topic }
    }

    /// Whether a local topic is forwarded. One that would land in the cursor topic never is: this
    /// gateway may be the centre of others and hold their cursors under the same name.
    pub(super) fn takes(&self, topic: &str) -> bool {
        self.central_name(topic) != self.cursor_topic
            && self.patterns.iter().any(|pattern| match pattern.strip_suffix('*') {
                Some(start) => topic.starts_with(start) && !topic.starts_with(INTERNAL_PREFIX),
                None => topic == pattern,
            })
    }

    /// The name of a local topic at the centre.
    pub(super) fn central_name(&self, topic: &str) -> String {
        format!("{}{topic}", self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_topics_are_taken() {
        let selection = |patterns: &[&str], prefix: &str| {
            let patterns = patterns.iter().map(|pattern| (*pattern).to_owned()).collect();
            Selection::new(patterns, prefix.into(), "headwater-cursors".into())
        };
        for (patterns, prefix, topic, expect) in [
            (&["*"][..], "", "readings", true),
            (&["*"], "", "__consumer_offsets", false),
            (&["__consumer_offsets"], "", "__consumer_offsets", true),
            (&["*"], "", "headwater-cursors", false),
            (&["headwater-cursors"], "", "headwater-cursors", false),
            (&["*"], "site1.", "headwater-cursors", true),
            (&["*"], "headwater-", "cursors", false),
            (&["readings", "mqtt"], "", "mqtt", true),
            (&["readings", "mqtt"], "", "mqtt2", false),
            (&["line.*"], "", "line.1", true),
            (&["line.*"], "", "lin", false),
            (&[], "", "readings", false),
        ] {
            let taken = selection(patterns, prefix).takes(topic);
            assert_eq!(taken, expect, "{patterns:?} {prefix:?} {topic:?}");
        }
        assert_eq!(selection(&["*"], "site1.").central_name("readings"), "site1.readings");
    }
}
