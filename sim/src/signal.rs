//! What the simulated sensors see: a room's climate with drift, daily swing and sensor noise, as
//! codes.

use crate::random::Random;

/// One channel of a climate sensor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quantity {
    /// Channel name, also the field of the record.
    pub name: &'static str,
    /// Unit.
    pub unit: &'static str,
    /// Decimal exponent of one code step; the mantissa is 1.
    pub exponent: i8,
    /// Bits of a code, its sign included.
    pub width: u8,
    middle: f64,
    /// Largest half swing over a day.
    swing: f64,
    /// Deviation of the random walk after an hour.
    drift: f64,
    /// Deviation of the sensor's own noise.
    noise: f64,
    range: (f64, f64),
}

/// The channels of every simulated device, noise as in the data sheet of a BME280-class sensor.
pub const CLIMATE: [Quantity; 3] = [
    Quantity {
        name: "temperature",
        unit: "degC",
        exponent: -2,
        width: 16,
        middle: 21.0,
        swing: 4.0,
        drift: 0.4,
        noise: 0.005,
        range: (-40.0, 85.0),
    },
    Quantity {
        name: "humidity",
        unit: "%RH",
        exponent: -2,
        width: 16,
        middle: 48.0,
        swing: 9.0,
        drift: 1.5,
        noise: 0.02,
        range: (0.0, 100.0),
    },
    Quantity {
        name: "pressure",
        unit: "Pa",
        exponent: 0,
        width: 32,
        middle: 101_325.0,
        swing: 60.0,
        drift: 40.0,
        noise: 0.2,
        range: (30_000.0, 110_000.0),
    },
];

/// The climate of one device.
#[derive(Clone, Debug)]
pub struct Climate {
    random: Random,
    channels: [Channel; CLIMATE.len()],
    last_seconds: Option<f64>,
}

#[derive(Clone, Copy, Debug)]
struct Channel {
    quantity: Quantity,
    middle: f64,
    swing: f64,
    phase: f64,
    walk: f64,
}

impl Climate {
    /// A climate of its own for the device of this number.
    #[must_use]
    pub fn new(seed: u64, number: u64) -> Self {
        let mut random = Random::new(seed, number);
        let channels = CLIMATE.map(|quantity| Channel {
            quantity,
            middle: quantity.middle + quantity.swing * random.between(-0.5, 0.5),
            swing: quantity.swing * random.between(0.2, 1.0),
            phase: random.between(-0.05, 0.05),
            walk: 0.0,
        });
        Self { random, channels, last_seconds: None }
    }

    /// Samples all channels at a time of the device's life; `None` is a sensor that did not answer.
    pub fn sample(&mut self, seconds: f64) -> [Option<i32>; CLIMATE.len()] {
        let elapsed = self.last_seconds.map_or(0.0, |last| (seconds - last).max(0.0));
        self.last_seconds = Some(seconds);
        let Self { random, channels, .. } = self;
        // A bus hiccup now and then: consumers must meet missing values.
        let silent = random.unit() < SILENT;
        let mut index = 0;
        channels.each_mut().map(|channel| {
            let code = channel.sample(random, seconds, elapsed);
            index += 1;
            (!(silent && index == 2)).then_some(code)
        })
    }
}

impl Channel {
    fn sample(&mut self, random: &mut Random, seconds: f64, elapsed: f64) -> i32 {
        let quantity = self.quantity;
        self.walk += quantity.drift * (elapsed / 3_600.0).sqrt() * random.normal();
        // Pulled back to the middle within some hours, so that it wanders and stays plausible.
        self.walk *= (-elapsed / (6.0 * 3_600.0)).exp();
        let day = (seconds / 86_400.0 + self.phase) * std::f64::consts::TAU;
        let value = self.middle + self.swing * day.sin() + self.walk;
        let value =
            (value + quantity.noise * random.normal()).clamp(quantity.range.0, quantity.range.1);
        (value / 10f64.powi(i32::from(quantity.exponent))).round() as i32
    }
}

/// Share of samples whose second channel is missing.
const SILENT: f64 = 0.001;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_stays_plausible_and_swings() {
        let mut climate = Climate::new(1, 1);
        let day: Vec<_> = (0..86_400).step_by(10).map(|s| climate.sample(f64::from(s))).collect();
        for (index, quantity) in CLIMATE.iter().enumerate() {
            let codes: Vec<i32> = day.iter().filter_map(|row| row[index]).collect();
            let step = 10f64.powi(i32::from(quantity.exponent));
            let low = f64::from(*codes.iter().min().expect("sampled")) * step;
            let high = f64::from(*codes.iter().max().expect("sampled")) * step;
            assert!(quantity.range.0 <= low && high <= quantity.range.1, "{quantity:?}");
            assert!(high - low > quantity.swing * 0.3, "{quantity:?}: {low} .. {high}");
            let steps = codes.windows(2).filter(|pair| pair[0] != pair[1]).count();
            assert!(steps > codes.len() / 10, "{quantity:?}: stands still");
        }
        assert!(day.iter().any(|row| row[1].is_none()), "a missing value now and then");
    }
}
