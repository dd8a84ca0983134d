//! What is packed: a simulated day of climate, and recordings of two wearables.

use std::{collections::BTreeMap, path::Path};

use headwater_protocol::item::MISSING;
use headwater_sim::signal::Climate;

/// Readings of one device.
pub(crate) struct Set {
    pub(crate) name: &'static str,
    /// Of the channels.
    pub(crate) names: &'static [&'static str],
    /// Decimal exponent of one step, for the formats that send text.
    pub(crate) exponent: i32,
    /// Readings a second.
    pub(crate) hz: u32,
    pub(crate) lingers_s: &'static [u32],
    pub(crate) rows: Vec<Vec<i32>>,
}

const AXES: &[&str] = &["x", "y", "z"];
const PLACES: &[&str] =
    &["ankle_x", "ankle_y", "ankle_z", "leg_x", "leg_y", "leg_z", "trunk_x", "trunk_y", "trunk_z"];

/// All of them; recordings are CSV files of codes.
pub(crate) fn all(recordings: &Path) -> Vec<Set> {
    let lingers_s = &[1, 10, 60, 120, 300];
    let recorded = |name, names, exponent, hz, file: &str| {
        let text = std::fs::read_to_string(recordings.join(file)).unwrap();
        let codes = |line: &str| line.split(',').map(|code| code.parse().unwrap()).collect();
        let rows = text.lines().map(codes).collect();
        Set { name, names, exponent, hz, lingers_s: &[1], rows }
    };
    vec![
        climate("climate, humidity in 0.1 %, 1 Hz", 10, lingers_s),
        climate("climate, humidity in 0.01 %, 1 Hz", 1, lingers_s),
        recorded("watch, xyz at 4 mg, 100 Hz", AXES, -3, 100, "watch-4mg.csv"),
        recorded("watch, xyz at 1 mg, 100 Hz", AXES, -3, 100, "watch-1mg.csv"),
        recorded("gait, 9 channels in mg, 64 Hz", PLACES, -3, 64, "gait.csv"),
    ]
}

/// A day of temperature in 0.01 degC, humidity in steps of the simulated sensor's, and pressure in Pa.
fn climate(name: &'static str, humidity_step: i32, lingers_s: &'static [u32]) -> Set {
    let mut climate = Climate::new(1, 1);
    let day = (0..86_400).map(|second| {
        let [temperature, humidity, pressure] = climate.sample(f64::from(second));
        let humidity = humidity.map(|code| (code + humidity_step / 2).div_euclid(humidity_step));
        [temperature, humidity, pressure].map(|code| code.unwrap_or(MISSING)).to_vec()
    });
    let names = &["temperature", "humidity", "pressure"];
    Set { name, names, exponent: -2, hz: 1, lingers_s, rows: day.collect() }
}

impl Set {
    /// Entropy of the differences, bytes for a reading.
    pub(crate) fn entropy_bytes(&self) -> f64 {
        let channels = self.names.len();
        let bits: f64 = (0..channels).map(|channel| self.entropy_bits(channel)).sum();
        bits / 8.0
    }

    fn entropy_bits(&self, channel: usize) -> f64 {
        let codes: Vec<i32> =
            self.rows.iter().map(|row| row[channel]).filter(|code| *code != MISSING).collect();
        let mut counts: BTreeMap<i32, u32> = BTreeMap::new();
        for pair in codes.windows(2) {
            *counts.entry(pair[1].wrapping_sub(pair[0])).or_default() += 1;
        }
        let total = (codes.len() - 1) as f64;
        counts.values().map(|count| f64::from(*count) / total).map(|part| -part * part.log2()).sum()
    }
}
