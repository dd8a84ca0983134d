//! What the journal remembers of devices: the bytes of the facts in [`space::DEVICE_STREAM`],
//! [`space::DEVICE`], [`space::SCHEMA`] and [`space::DEVICE_CLOCK`]. Integers little endian, strings and lists with their length first.
//!
//! | space | key | value |
//! | --- | --- | --- |
//! | DEVICE_STREAM | stream, u64 big endian | version u8 = 1; device {len u8, bytes}; boot u32; item u64; next_seq u64; known u8, and if 1: boot u32, tick_hz u32, schema u64; parts u8, then {len u16, SCHEMA body} of a schema that is not complete |
//! | DEVICE | device id | version u8 = 1; count u8; streams u64, the last used at the end |
//! | SCHEMA | schema hash, u64 big endian | version u8 = 1; count u8; {len u16, SCHEMA body} by index |
//! | DEVICE_CLOCK | device id | version u8 = 1; count u8, at most 4; fits, the last told at the end: stream u64, boot u32, tick_hz u32, tick u64, unix_us i64, skew_ppb i64, error_us u64, valid_from u64, valid_to u64 |

use bytes::Bytes;
use headwater_protocol::{DeviceId, Position, StreamId};

use super::clock::{BOOTS, WallFit};
use crate::{
    broker::space,
    journal::{Fact, Space},
};

const VERSION: u8 = 1;

/// What decoding the items of one boot needs to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BootInfo {
    /// The boot.
    pub(super) boot: u32,
    /// Ticks per second, not 0.
    pub(super) tick_hz: u32,
    /// Hash of the schema of its blocks.
    pub(super) schema: u64,
}

/// How far a stream has come; in the same append as the records up to there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StreamFact {
    /// Owner.
    pub(super) device: DeviceId,
    /// The last item taken.
    pub(super) position: Position,
    /// One past the highest reading number seen in that item's boot.
    pub(super) next_seq: u64,
    /// The boot that the next items belong to, as far as known.
    pub(super) boot: Option<BootInfo>,
    /// SCHEMA bodies of a schema that is not complete yet.
    pub(super) parts: Vec<Bytes>,
}

impl StreamFact {
    /// Key of a stream.
    pub(super) fn key(stream: StreamId) -> Bytes {
        Bytes::copy_from_slice(&stream.bits().to_be_bytes())
    }

    /// The stream of a key.
    pub(super) fn stream(key: &[u8]) -> Option<StreamId> {
        StreamId::new(u64::from_be_bytes(key.try_into().ok()?))
    }

    /// The fact.
    pub(super) fn fact(&self, stream: StreamId) -> Fact {
        let mut out = vec![VERSION];
        let id = self.device.as_bytes();
        out.push(id.len() as u8);
        out.extend_from_slice(id);
        out.extend_from_slice(&self.position.boot.to_le_bytes());
        out.extend_from_slice(&self.position.item.to_le_bytes());
        out.extend_from_slice(&self.next_seq.to_le_bytes());
        out.push(u8::from(self.boot.is_some()));
        if let Some(boot) = self.boot {
            out.extend_from_slice(&boot.boot.to_le_bytes());
            out.extend_from_slice(&boot.tick_hz.to_le_bytes());
            out.extend_from_slice(&boot.schema.to_le_bytes());
        }
        write_bodies(&mut out, &self.parts);
        Fact { space: space::DEVICE_STREAM, key: Self::key(stream), value: Some(out.into()) }
    }

    /// Reads a value; `None` if it is none of ours.
    pub(super) fn read(value: &[u8]) -> Option<Self> {
        let mut fields = Fields::new(value)?;
        let id_len = usize::from(fields.u8()?);
        let device = DeviceId::from_bytes(fields.take(id_len)?)?;
        let position = Position::new(fields.u32()?, fields.u64()?);
        let next_seq = fields.u64()?;
        let boot = match fields.u8()? {
            0 => None,
            _ => Some(BootInfo {
                boot: fields.u32()?,
                tick_hz: Some(fields.u32()?).filter(|hz| *hz > 0)?,
                schema: fields.u64()?,
            }),
        };
        let parts = fields.bodies()?;
        fields.end()?;
        Some(Self { device, position, next_seq, boot, parts })
    }
}

/// The streams of a device.
pub(super) fn device_fact(device: DeviceId, streams: &[StreamId]) -> Fact {
    let mut out = vec![VERSION, streams.len() as u8];
    for stream in streams {
        out.extend_from_slice(&stream.bits().to_le_bytes());
    }
    Fact {
        space: space::DEVICE,
        key: Bytes::copy_from_slice(device.as_bytes()),
        value: Some(out.into()),
    }
}

/// Reads a device's streams, the last used at the end.
pub(super) fn read_device(value: &[u8]) -> Option<Vec<StreamId>> {
    let mut fields = Fields::new(value)?;
    let count = fields.u8()?;
    let streams = (0..count).map(|_| StreamId::new(fields.u64()?)).collect::<Option<_>>()?;
    fields.end()?;
    Some(streams)
}

/// Key of a schema.
pub(super) fn schema_key(hash: u64) -> Bytes {
    Bytes::copy_from_slice(&hash.to_be_bytes())
}

/// The schema of a key.
pub(super) fn schema_hash(key: &[u8]) -> Option<u64> {
    key.try_into().ok().map(u64::from_be_bytes)
}

/// A complete schema as its SCHEMA bodies by index.
pub(super) fn schema_fact(hash: u64, bodies: &[Bytes]) -> Fact {
    let mut out = vec![VERSION];
    write_bodies(&mut out, bodies);
    Fact { space: space::SCHEMA, key: schema_key(hash), value: Some(out.into()) }
}

/// Reads the SCHEMA bodies of a schema.
pub(super) fn read_schema(value: &[u8]) -> Option<Vec<Bytes>> {
    let mut fields = Fields::new(value)?;
    let bodies = fields.bodies()?;
    fields.end()?;
    Some(bodies)
}

/// The fits of a device's boots.
pub(super) fn clocks_fact(device: DeviceId, fits: &[WallFit]) -> Fact {
    let mut out = vec![VERSION, fits.len() as u8];
    for fit in fits {
        out.extend_from_slice(&fit.stream.bits().to_le_bytes());
        out.extend_from_slice(&fit.boot.to_le_bytes());
        out.extend_from_slice(&fit.tick_hz.to_le_bytes());
        out.extend_from_slice(&fit.tick.to_le_bytes());
        out.extend_from_slice(&fit.unix_us.to_le_bytes());
        out.extend_from_slice(&fit.skew_ppb.to_le_bytes());
        out.extend_from_slice(&fit.error_us.to_le_bytes());
        out.extend_from_slice(&fit.valid_from.to_le_bytes());
        out.extend_from_slice(&fit.valid_to.to_le_bytes());
    }
    let key = Bytes::copy_from_slice(device.as_bytes());
    Fact { space: space::DEVICE_CLOCK, key, value: Some(out.into()) }
}

/// Reads the fits of a device's boots, the last told at the end.
pub(super) fn read_clocks(value: &[u8]) -> Option<Vec<WallFit>> {
    let mut fields = Fields::new(value)?;
    let count = Some(fields.u8()?).filter(|count| usize::from(*count) <= BOOTS)?;
    let fits = (0..count)
        .map(|_| {
            let fit = WallFit {
                stream: StreamId::new(fields.u64()?)?,
                boot: fields.u32()?,
                tick_hz: fields.u32()?,
                tick: fields.u64()?,
                unix_us: fields.i64()?,
                skew_ppb: fields.i64()?,
                error_us: fields.u64()?,
                valid_from: fields.u64()?,
                valid_to: fields.u64()?,
            };
            (fit.tick_hz > 0 && fit.valid_from <= fit.valid_to).then_some(fit)
        })
        .collect::<Option<_>>()?;
    fields.end()?;
    Some(fits)
}

/// Deletes a fact.
pub(super) fn deleted(space: Space, key: Bytes) -> Fact {
    Fact { space, key, value: None }
}

fn write_bodies(out: &mut Vec<u8>, bodies: &[Bytes]) {
    out.push(bodies.len() as u8);
    for body in bodies {
        out.extend_from_slice(&(body.len() as u16).to_le_bytes());
        out.extend_from_slice(body);
    }
}

struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    /// Behind the version.
    fn new(value: &'a [u8]) -> Option<Self> {
        let (version, rest) = value.split_first()?;
        (*version == VERSION).then_some(Self { rest })
    }

    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(head)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(*head)
    }

    fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_le_bytes)
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn i64(&mut self) -> Option<i64> {
        self.array().map(i64::from_le_bytes)
    }

    fn bodies(&mut self) -> Option<Vec<Bytes>> {
        let count = self.u8()?;
        (0..count)
            .map(|_| {
                let len = usize::from(self.u16()?);
                self.take(len).map(Bytes::copy_from_slice)
            })
            .collect()
    }

    fn end(&self) -> Option<()> {
        self.rest.is_empty().then_some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(bits: u64) -> StreamId {
        StreamId::new(bits).expect("not 0")
    }

    fn samples() -> Vec<StreamFact> {
        let device = DeviceId::new("sim-000001").expect("legal");
        let plain = StreamFact {
            device,
            position: Position::new(3, u64::MAX),
            next_seq: 77,
            boot: None,
            parts: Vec::new(),
        };
        let boot = Some(BootInfo { boot: 3, tick_hz: 1_000_000, schema: 9 });
        let parts = vec![Bytes::from_static(b"abc"), Bytes::new()];
        vec![
            plain.clone(),
            StreamFact { boot, ..plain.clone() },
            StreamFact { boot, parts, ..plain },
        ]
    }

    #[test]
    fn a_stream_reads_as_written_and_any_cut_of_it_not_at_all() {
        for sample in samples() {
            let fact = sample.fact(stream(0xabc));
            assert_eq!(StreamFact::stream(&fact.key), Some(stream(0xabc)));
            let value = fact.value.expect("a value");
            assert_eq!(StreamFact::read(&value), Some(sample));
            for len in 0..value.len() {
                assert_eq!(StreamFact::read(&value[..len]), None, "cut at {len}");
            }
            let longer = [&value[..], &[0]].concat();
            assert_eq!(StreamFact::read(&longer), None);
        }
    }

    /// The bytes on disk; a change of them is a new version.
    #[test]
    fn the_bytes_are_these() {
        let hex = |fact: Fact| -> String {
            fact.value.expect("a value").iter().map(|byte| format!("{byte:02x}")).collect()
        };
        let sample = samples().pop().expect("three");
        assert_eq!(
            hex(sample.fact(stream(1))),
            "010a73696d2d303030303031\
             03000000ffffffffffffffff4d00000000000000\
             010300000040420f000900000000000000\
             0203006162630000"
        );
        let streams = [stream(1), stream(0xabc)];
        assert_eq!(
            hex(device_fact(sample.device, &streams)),
            "01020100000000000000bc0a000000000000"
        );
        assert_eq!(
            hex(clocks_fact(sample.device, &fits(1))),
            "0101010000000000000000000000\
             40420f0000f2052a0100000000401e18240a0600\
             e0b1ffffffffffff0807000000000000\
             000000000000000000f2052a01000000"
        );
        assert_eq!(hex(schema_fact(5, &[Bytes::from_static(b"xy")])), "010102007879");
        assert_eq!(schema_hash(&schema_key(5)), Some(5));
    }

    fn fits(count: u64) -> Vec<WallFit> {
        let fit = |index| WallFit {
            stream: stream(index + 1),
            boot: index as u32,
            tick_hz: 1_000_000,
            tick: 5_000_000_000,
            unix_us: 1_700_000_000_000_000,
            skew_ppb: -20_000,
            error_us: 1800,
            valid_from: 0,
            valid_to: 5_000_000_000,
        };
        (0..count).map(fit).collect()
    }

    #[test]
    fn clocks_read_as_written_and_nothing_else_does() {
        let device = DeviceId::new("d").expect("legal");
        for count in 0..=4 {
            let value = clocks_fact(device, &fits(count)).value.expect("a value");
            assert_eq!(read_clocks(&value), Some(fits(count)));
            for len in 0..value.len() {
                assert_eq!(read_clocks(&value[..len]), None, "cut at {len}");
            }
            assert_eq!(read_clocks(&[&value[..], &[0]].concat()), None);
        }
        let read =
            |fits: &[WallFit]| read_clocks(&clocks_fact(device, fits).value.expect("a value"));
        assert_eq!(read(&fits(5)), None, "more than are kept");
        let [fit] = fits(1)[..] else { unreachable!() };
        assert_eq!(read(&[WallFit { tick_hz: 0, ..fit }]), None);
        assert_eq!(read(&[WallFit { valid_from: u64::MAX, ..fit }]), None);
        assert_eq!(read_clocks(&[2, 0]), None, "another version");
    }

    #[test]
    fn a_device_and_a_schema_read_as_written() {
        let device = DeviceId::new("d").expect("legal");
        for streams in [vec![], vec![stream(1)], vec![stream(u64::MAX), stream(2)]] {
            let value = device_fact(device, &streams).value.expect("a value");
            assert_eq!(read_device(&value), Some(streams));
        }
        for bodies in [vec![], vec![Bytes::from_static(b"x"), Bytes::from(vec![7; 96])]] {
            let value = schema_fact(5, &bodies).value.expect("a value");
            assert_eq!(read_schema(&value), Some(bodies));
        }
        assert_eq!(read_device(&[VERSION, 1, 0, 0, 0, 0, 0, 0, 0, 0]), None, "stream 0");
        assert_eq!(read_schema(&[2, 0]), None, "another version");
    }
}
