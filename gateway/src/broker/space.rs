//! Key spaces of facts. Every owner of durable state has one; numbers are on disk and never reused.

use crate::journal::Space;

/// Gateway identity and counters.
pub const GATEWAY: Space = Space(1);
/// Topics: name -> id, partitions, settings.
pub const TOPIC: Space = Space(2);
/// Group offsets: (group, topic, partition) -> offset, epoch, metadata, time.
pub const GROUP_OFFSET: Space = Space(3);
/// Device streams: stream -> next position and owner.
pub const DEVICE_STREAM: Space = Space(4);
/// Device schemas by hash.
pub const SCHEMA: Space = Space(5);
/// Devices: id -> what the registry knows.
pub const DEVICE: Space = Space(6);
/// Clock fits of devices: id -> those of its last boots.
pub const DEVICE_CLOCK: Space = Space(7);
/// Uplink hints (the centre is the authority).
pub const UPLINK: Space = Space(8);
/// MQTT bridges: (client id, broker) -> filters that the session may still hold.
pub const MQTT_BRIDGE: Space = Space(9);
/// Commands to devices: partition -> what is settled, what was sent.
pub const DEVICE_COMMAND: Space = Space(10);
/// What people said of devices: id -> name, labels, admission.
pub const DEVICE_PROFILE: Space = Space(11);
