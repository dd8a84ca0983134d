//! Streams of three frames with one and with two flipped bits: what is accepted was sent.
//!
//! `HEADWATER_BIT_ERRORS` is the number of double errors, for a soak.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{env, thread};

use headwater_protocol::{
    HOST_RECEIVE_MAX,
    frame::{self, Lead, Progress},
};

/// Streams, each of payloads of its own.
const STREAMS: u64 = 1_000;
const FRAMES: usize = 3;
/// Double errors in a normal run, over all streams.
const DOUBLE_ERRORS: u64 = 2_000_000;
/// Longest body, bytes: beyond 127 the length takes two bytes.
const BODY_MAX: u64 = 140;

/// SplitMix64.
struct Random(u64);

impl Random {
    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.bits() % end
    }
}

type Frame = (u8, Vec<u8>);

/// What was sent, and its bytes on the line.
struct Stream {
    sent: Vec<Frame>,
    bytes: Vec<u8>,
}

impl Stream {
    fn new(random: &mut Random) -> Self {
        let sent: Vec<Frame> =
            (0..FRAMES).map(|_| (random.bits() as u8, Self::body(random))).collect();
        let mut bytes = Vec::new();
        let mut out = [0; frame::ENCODED_MAX];
        for (kind, body) in &sent {
            let lead = if bytes.is_empty() { Lead::Delimiter } else { Lead::None };
            let len = frame::encode(lead, *kind, body, &[], &mut out).unwrap();
            bytes.extend_from_slice(&out[..len]);
        }
        Self { sent, bytes }
    }

    /// Short ones, since two errors then meet in the same frame more often; a third of them of
    /// bytes that make many or no stuffing.
    fn body(random: &mut Random) -> Vec<u8> {
        let longest = if random.below(4) == 0 { BODY_MAX } else { 24 };
        let len = random.below(longest + 1);
        let style = random.below(6);
        let byte = |random: &mut Random| match style {
            0 => [0, 1, 2, 0xFF][random.below(4) as usize],
            1 => random.bits() as u8 & 1,
            _ => random.bits() as u8,
        };
        (0..len).map(|_| byte(random)).collect()
    }

    fn bits(&self) -> u64 {
        self.bytes.len() as u64 * 8
    }

    fn flip(&mut self, bit: u64) {
        self.bytes[(bit / 8) as usize] ^= 1 << (bit % 8);
    }

    /// Receives the bytes as they are now: what is accepted must be what was sent, in order. Gives
    /// how many frames got through.
    fn receive(&self) -> usize {
        let mut decoder = frame::Decoder::<HOST_RECEIVE_MAX>::new();
        let mut left = self.sent.iter();
        let mut accepted = 0;
        for byte in &self.bytes {
            if decoder.push(*byte) == Progress::Complete {
                let got = decoder.frame();
                let is_sent = left.any(|(kind, body)| *kind == got.kind && *body == got.body);
                assert!(is_sent, "accepted {got:02x?}, sent {:02x?}", self.sent);
                accepted += 1;
            }
        }
        accepted
    }
}

/// Every single error of a stream; gives how many.
fn single_errors(stream: &mut Stream) -> u64 {
    for bit in 0..stream.bits() {
        stream.flip(bit);
        let accepted = stream.receive();
        // Two frames are lost when the delimiter between them is hit.
        assert!(accepted + 2 >= FRAMES, "bit {bit} took {accepted} frames of {:02x?}", stream.sent);
        stream.flip(bit);
    }
    stream.bits()
}

/// Pairs: anywhere, near each other, and in what holds the frames together.
fn double_errors(stream: &mut Stream, pairs: u64, random: &mut Random) {
    let bits = stream.bits();
    for _ in 0..pairs {
        let first = random.below(bits);
        let second = match random.below(3) {
            0 => random.below(bits),
            1 => (first + 1 + random.below(40)) % bits,
            _ => {
                let zeros: Vec<u64> = (0..)
                    .zip(&stream.bytes)
                    .filter(|(_, byte)| **byte == 0)
                    .map(|(at, _)| at)
                    .collect();
                zeros[random.below(zeros.len() as u64) as usize] * 8 + random.below(8)
            }
        };
        if second == first {
            continue;
        }
        stream.flip(first);
        stream.flip(second);
        stream.receive();
        stream.flip(first);
        stream.flip(second);
    }
}

fn double_errors_of_this_run() -> u64 {
    env::var("HEADWATER_BIT_ERRORS").map_or(DOUBLE_ERRORS, |text| text.parse().unwrap())
}

/// Streams `share`, `share + shares`, ...; gives the number of single errors.
fn some_streams(share: u64, shares: u64, pairs: u64) -> u64 {
    let mut singles = 0;
    for seed in (share..STREAMS).step_by(shares as usize) {
        let mut random = Random(seed);
        let mut stream = Stream::new(&mut random);
        assert_eq!(stream.receive(), FRAMES, "without an error");
        singles += single_errors(&mut stream);
        double_errors(&mut stream, pairs, &mut random);
    }
    singles
}

#[test]
fn no_one_or_two_bit_errors_are_accepted() {
    let doubles = double_errors_of_this_run();
    let pairs = doubles.div_ceil(STREAMS);
    let threads = thread::available_parallelism().map_or(1, usize::from) as u64;
    let singles: u64 = thread::scope(|scope| {
        let spawn = |share| scope.spawn(move || some_streams(share, threads, pairs));
        let shares: Vec<_> = (0..threads).map(spawn).collect();
        shares.into_iter().map(|share| share.join().unwrap()).sum()
    });
    println!(
        "shown: {STREAMS} streams, all {singles} single bit errors, {doubles} double ones, none accepted"
    );
}
