//! Commands to devices: from the topic `device-commands` to the topic `device-results`.
//!
//! A record of the first is a command: key = device id, value = what to do, as the device's firmware understands it. Its
//! outcome is a record of the second: key = device id, value = what the device said, headers `command`
//! (`<partition>/<offset>` of the command), `status`, `boot` if the command was sent, and the command's own header `id`
//! if it has one.
//!
//! | status | meaning |
//! | --- | --- |
//! | `done`, `failed`, `no-such-command` | what the device said |
//! | `unknown` | it was sent, and no answer came while the device ran that boot: it may have been done or not |
//! | `expired` | the device was not there in time (header `timeout-ms` of the command, 60 s unless set): it was not sent |
//! | `refused` | no command: no such device id, no value, or longer than the device takes |
//!
//! One command at a time goes to each device, in the order of the log. Before a command is sent it is noted durably under
//! which boot and number: after a restart of the gateway it is sent again under the same, and the device does it once.
//! The outcome and the note that it is settled are one append.
//!
//! [`book`] is what is durable of one partition, [`desk`] decides what happens next, [`pump`] reads, sends and appends.

mod book;
mod desk;
mod pump;

use bytes::Bytes;
use headwater_protocol::{CommandStatus, DeviceId};
use tokio::sync::mpsc;

use super::hub::Control;

pub(super) use pump::{Topics, run};

/// What connections tell.
#[derive(Debug)]
pub(super) enum Report {
    /// The device takes commands on this connection.
    InSession { device: DeviceId, boot: u32, control: mpsc::Sender<Control> },
    /// What became of a command.
    Result { device: DeviceId, id: u64, boot: u32, status: CommandStatus, payload: Bytes },
    /// The link did not take it.
    NotSent { device: DeviceId, id: u64, is_too_long: bool },
}

/// Reports that wait: a connection that has more to tell waits, too.
pub(super) const MAX_REPORTS: usize = 1024;
