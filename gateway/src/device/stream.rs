//! One stream as the gateway follows it: takes items in order and turns them into records.
//!
//! No I/O. A [`Stream`] is cloned, fed the items of one append, and takes the original's place once that
//! append was admitted, together with the facts that it lists; a refused append thus changes nothing.

use std::{fmt::Write as _, sync::Arc};

use bytes::Bytes;
use headwater_protocol::{
    Description, DeviceId, ItemKind, Loss, Position, StreamId,
    item::{Block, Boot, Content, Gap, GapReason, Schema as SchemaPart},
};

use super::{
    clock::{Clocks, Now, SampleTime},
    facts::{BootInfo, StreamFact},
    records::{Records, Stamp},
    schema::{Library, Parts, Schema},
};

/// An item as it waits for its append.
#[derive(Clone, Debug)]
pub(super) struct HeldItem {
    /// Its place.
    pub(super) position: Position,
    /// What the body is.
    pub(super) kind: ItemKind,
    /// The body.
    pub(super) body: Bytes,
    /// Items before it that no longer exist.
    pub(super) loss: Option<Loss>,
}

/// See the module's documentation.
#[derive(Clone, Debug)]
pub(super) struct Stream {
    /// The stream.
    pub(super) id: StreamId,
    /// Its owner.
    pub(super) device: DeviceId,
    /// The last item taken.
    pub(super) position: Position,
    next_seq: u64,
    boot: Option<BootInfo>,
    schema: Option<Arc<Schema>>,
    parts: Parts,
    new_schema: Option<Arc<Schema>>,
}

impl Stream {
    /// A stream of which nothing is durable yet.
    pub(super) fn new(id: StreamId, device: DeviceId) -> Self {
        Self {
            id,
            device,
            position: Position::START,
            next_seq: 0,
            boot: None,
            schema: None,
            parts: Parts::default(),
            new_schema: None,
        }
    }

    /// A stream as its fact tells.
    pub(super) fn restore(id: StreamId, fact: StreamFact, library: &Library) -> Self {
        Self {
            position: fact.position,
            next_seq: fact.next_seq,
            boot: fact.boot,
            schema: fact.boot.and_then(|boot| library.find(boot.schema)),
            parts: Parts::restore(fact.parts),
            ..Self::new(id, fact.device)
        }
    }

    /// Its fact at this moment.
    pub(super) fn fact(&self) -> StreamFact {
        StreamFact {
            device: self.device,
            position: self.position,
            next_seq: self.next_seq,
            boot: self.boot,
            parts: self.parts.bodies(),
        }
    }

    /// A schema that these items completed and that the library did not hold.
    pub(super) fn new_schema(&self) -> Option<&Schema> {
        self.new_schema.as_deref()
    }

    /// Likewise, once its fact was admitted.
    pub(super) fn take_new_schema(&mut self) -> Option<Arc<Schema>> {
        self.new_schema.take()
    }

    /// Whether blocks of that boot can be decoded.
    pub(super) fn decodes(&self, boot: u32) -> bool {
        self.schema.is_some() && self.boot.is_some_and(|known| known.boot == boot)
    }

    /// Learns of a boot outside the log: of the running one, so that nothing stored before it is touched.
    pub(super) fn describe(&mut self, description: Description<'_>, library: &Library) {
        let Description { boot, kind, body } = description;
        match Content::decode(kind, body) {
            Ok(Content::Boot(info)) => self.learn_boot(boot, &info, library),
            Ok(Content::Schema(part)) => self.learn_schema(boot, &part, body, library),
            _ => {}
        }
    }

    /// Takes the next item.
    pub(super) fn take(
        &mut self,
        item: &HeldItem,
        clocks: &mut Clocks,
        library: &Library,
        now: Now,
        out: &mut Records,
    ) {
        let Position { boot, item: number } = item.position;
        if boot != self.position.boot {
            self.next_seq = 0;
        }
        let content = Content::decode(item.kind, &item.body);
        if let Some(loss) = item.loss {
            self.lost(loss, content.as_ref().ok(), now, out);
        }
        match content {
            Ok(Content::Boot(info)) => {
                self.learn_boot(boot, &info, library);
                out.boot(info.cause);
            }
            Ok(Content::Schema(part)) => self.learn_schema(boot, &part, &item.body, library),
            Ok(Content::Gap(gap)) => self.dropped(boot, &gap, now, out),
            Ok(Content::Block(block)) => match self.decoder(boot, &block) {
                Some((info, schema)) => self.readings(info, &schema, &block, clocks, now, out),
                None => {
                    self.undecodable(item, Some(&block), "schema-unknown", now, out);
                }
            },
            Ok(Content::Unknown(_)) => self.undecodable(item, None, "unknown-kind", now, out),
            Err(_) => self.undecodable(item, None, "undecodable", now, out),
        }
        self.position = Position::new(boot, number);
    }

    fn decoder(&self, boot: u32, block: &Block<'_>) -> Option<(BootInfo, Arc<Schema>)> {
        let info = self.boot.filter(|known| known.boot == boot)?;
        let schema = self.schema.as_ref()?;
        (schema.channels() == usize::from(block.channels)).then(|| (info, Arc::clone(schema)))
    }

    fn learn_boot(&mut self, boot: u32, info: &Boot, library: &Library) {
        let schema = info.schema.0;
        if self.boot.is_none_or(|known| known.schema != schema) {
            self.parts = Parts::default();
            self.schema = library.find(schema);
        }
        self.boot = Some(BootInfo { boot, tick_hz: info.tick_hz, schema });
    }

    fn learn_schema(&mut self, boot: u32, part: &SchemaPart<'_>, body: &[u8], library: &Library) {
        let expected = self.boot.filter(|known| known.boot == boot).map(|known| known.schema);
        if self.schema.is_some() || expected != Some(part.hash.0) {
            return;
        }
        self.parts.insert(part, body);
        let Some(schema) = self.parts.complete(part.hash.0) else { return };
        let schema = Arc::new(schema);
        self.parts = Parts::default();
        self.schema = Some(library.find(part.hash.0).unwrap_or_else(|| {
            self.new_schema = Some(Arc::clone(&schema));
            schema
        }));
    }

    fn readings(
        &mut self,
        boot: BootInfo,
        schema: &Schema,
        block: &Block<'_>,
        clocks: &mut Clocks,
        now: Now,
        out: &mut Records,
    ) {
        let mut value = String::new();
        let mut rows = block.rows();
        while let Some((head, codes)) = rows.next_row() {
            value.clear();
            schema.write_row(codes, &mut value);
            let stamp = match clocks.time(boot.boot, boot.tick_hz, head.tick, now) {
                SampleTime::Fit(at_ms) => Stamp { at_ms, clock: "fit", tick: None },
                SampleTime::RoundTrip(at_ms) => Stamp { at_ms, clock: "rtt", tick: None },
                SampleTime::Unknown => {
                    Stamp { at_ms: now.wall_ms, clock: "unknown", tick: Some(head.tick) }
                }
            };
            out.reading(boot.boot, head.seq, stamp, value.as_bytes());
        }
        self.passed(block.first_seq, u64::from(block.count));
    }

    fn dropped(&mut self, boot: u32, gap: &Gap, now: Now, out: &mut Records) {
        out.gap(
            boot,
            gap.first_seq,
            gap.count,
            now,
            &format!(r#""reason":"{}""#, reason(gap.reason)),
        );
        self.passed(gap.first_seq, gap.count);
    }

    /// Items that nobody has any more. The number of readings in them is known if the item behind them is
    /// of the same boot and tells its readings' numbers.
    fn lost(&self, loss: Loss, content: Option<&Content<'_>>, now: Now, out: &mut Records) {
        let first = match content {
            _ if loss.after.boot != loss.before.boot => None,
            Some(Content::Block(block)) => Some(block.first_seq),
            Some(Content::Gap(gap)) => Some(gap.first_seq),
            _ => None,
        };
        let (boot, first_seq) = (loss.before.boot, self.next_seq);
        let count = first.and_then(|first| first.checked_sub(first_seq)).unwrap_or(0);
        // A device whose memory did not outlive a reset cannot say whether anything was in it.
        let reason = if loss.last_lost.is_some() { "lost" } else { "reset" };
        let details =
            format!(r#""reason":"{reason}","after":"{}","before":"{}""#, loss.after, loss.before);
        out.gap(boot, first_seq, count, now, &details);
    }

    /// An item that cannot be read takes its place in the log as it came, and does not hold up the others.
    fn undecodable(
        &mut self,
        item: &HeldItem,
        block: Option<&Block<'_>>,
        reason: &str,
        now: Now,
        out: &mut Records,
    ) {
        let Position { boot, item: number } = item.position;
        let (first_seq, count) =
            block.map_or((self.next_seq, 0), |block| (block.first_seq, u64::from(block.count)));
        let mut details =
            format!(r#""reason":"{reason}","item":{number},"kind":{},"raw":""#, item.kind.0);
        for byte in &item.body {
            // Writing to a String does not fail.
            let _ = write!(details, "{byte:02x}");
        }
        details.push('"');
        tracing::warn!(device = %self.device, stream = %self.id, boot, item = number, reason, "item not decoded");
        out.gap(boot, first_seq, count, now, &details);
        self.passed(first_seq, count);
    }

    /// Replaces an item whose records no append can hold; see [`super::intake`].
    pub(super) fn take_oversized(&mut self, item: &HeldItem, now: Now, out: &mut Records) {
        let Position { boot, item: number } = item.position;
        let (first_seq, count) = match Content::decode(item.kind, &item.body) {
            Ok(Content::Block(block)) => (block.first_seq, u64::from(block.count)),
            _ => (self.next_seq, 0),
        };
        let details = format!(r#""reason":"too-large","item":{number}"#);
        out.gap(boot, first_seq, count, now, &details);
        self.passed(first_seq, count);
        self.position = item.position;
    }

    fn passed(&mut self, first_seq: u64, count: u64) {
        self.next_seq = self.next_seq.max(first_seq.saturating_add(count));
    }
}

fn reason(reason: GapReason) -> String {
    match reason {
        GapReason::OverflowOldest => "overflow-oldest".into(),
        GapReason::OverflowNewest => "overflow-newest".into(),
        GapReason::Thinned => "thinned".into(),
        GapReason::Storage => "storage".into(),
        GapReason::Other(code) => format!("code-{code}"),
    }
}

#[cfg(test)]
#[path = "tests/stream.rs"]
mod tests;
