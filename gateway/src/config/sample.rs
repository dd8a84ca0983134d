//! `deploy/headwater.toml` against the types: every key is there, with the default that the code has.

use super::{
    Config,
    load::{parse, unknown_field_of},
};

const SAMPLE: &str = include_str!("../../../deploy/headwater.toml");

#[test]
fn the_sample_says_the_defaults() {
    let sample = parse(SAMPLE).unwrap();
    assert_eq!(format!("{sample:#?}"), format!("{:#?}", Config::default()));
}

#[test]
fn the_sample_has_every_key_and_no_other() {
    for header in [
        "[storage]",
        "[journal]",
        "[log.retention]",
        "[kafka]",
        "[device]",
        "[[device.serial]]",
        "[[mqtt.bridge]]",
        "[uplink]",
        "[http]",
        "[views]",
    ] {
        let mut expected = keys_of_type(header);
        let found = keys_of_sample(header);
        expected.retain(|key| !["serial", "bridge"].contains(&key.as_str()));
        expected.sort();
        assert_eq!(found, expected, "{header}");
    }
}

#[test]
fn the_sample_loads_with_every_commented_key_switched_on() {
    let all: String = SAMPLE.lines().map(|line| uncommented(line) + "\n").collect();
    let config = parse(&all).unwrap();
    assert_eq!(config.device.serial.len(), 3);
    assert_eq!(config.mqtt.bridge.len(), 1);
    assert_eq!(config.topics.len(), 1);
    super::check(&config).unwrap();
}

/// What serde expects in a table, asked by giving it a key that nobody has.
fn keys_of_type(header: &str) -> Vec<String> {
    let required = match header {
        "[[device.serial]]" => "port = 'p'\n",
        "[[mqtt.bridge]]" => "broker = 'b:1'\nclient_id = 'c'\nfilters = []\n",
        _ => "",
    };
    let error = toml::from_str::<Config>(&format!("{header}\n{required}zzzzzzzz = 1")).unwrap_err();
    unknown_field_of(&error).expect("serde lists the fields")
}

/// Keys below a header of the sample, commented or not; once if the table is repeated.
fn keys_of_sample(header: &str) -> Vec<String> {
    let mut keys = Vec::new();
    let mut is_inside = false;
    for line in SAMPLE.lines().map(uncommented) {
        if line.starts_with('[') {
            is_inside = line == header;
        } else if let Some((key, _)) = line.split_once(" = ").filter(|_| is_inside)
            && !key.starts_with('#')
        {
            keys.push(key.to_owned());
        }
    }
    keys.sort();
    keys.dedup();
    keys
}

/// The line with its comment mark taken off, if what follows is a key or a table.
fn uncommented(line: &str) -> String {
    let Some(rest) = line.strip_prefix("# ") else { return line.into() };
    let is_key = |key: &str| !key.contains(' ');
    let keyed = rest.split_once(" = ").is_some_and(|(key, _)| is_key(key));
    let table = rest.starts_with('[') && rest.ends_with(']');
    if keyed || table { rest.into() } else { line.into() }
}
