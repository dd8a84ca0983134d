//! Bugs that an owner of a link may have: each planted around the library, to show that the oracle
//! sees it.

/// A planted bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plant {
    None,

    /// The host says durable when an item arrives.
    AcknowledgeOnArrival,
    /// The host accepts while appends of an earlier connection are under way.
    AcceptUnsettled,
    /// The host keeps no positions over a restart.
    ForgetPosition,
    /// The host keeps one position for each boot of a stream, not one for the stream.
    DedupePerBoot,
    /// The host takes a stream from whatever device names it.
    IdClashAccepted,
    /// The host writes no gap record where items were lost.
    LossUntold,
    /// The host decodes blocks under the schema that it learned last.
    OldSchemaForgotten,
    /// The host opens a window that it closed only when an append settles.
    WindowDeadlock,
    /// The host counts commands from 1 again after a crash.
    NumberReused,

    /// The device drops items that are in flight.
    DropInFlight,
    /// The device writes a gap behind the queue, not where the readings were.
    GapOutsideOrder,
    /// The device adds readings to a block that was sent.
    RepackSent,
    /// The device frees what has arrived, but is not durable.
    FreeReceived,
    /// The device does not send again what an earlier session received.
    StaleReceived,
    /// The device raises its boot counter in RAM only.
    BootNotKept,
    /// The device uses a stream that it did not write down.
    StreamNotKept,
    /// The device does a command as often as it comes.
    CommandRepeated,
    /// The device says done before it does.
    DoneTooEarly,
}

impl Plant {
    pub(crate) const ALL: [Self; 18] = [
        Self::AcknowledgeOnArrival,
        Self::AcceptUnsettled,
        Self::ForgetPosition,
        Self::DedupePerBoot,
        Self::IdClashAccepted,
        Self::LossUntold,
        Self::OldSchemaForgotten,
        Self::WindowDeadlock,
        Self::NumberReused,
        Self::DropInFlight,
        Self::GapOutsideOrder,
        Self::RepackSent,
        Self::FreeReceived,
        Self::StaleReceived,
        Self::BootNotKept,
        Self::StreamNotKept,
        Self::CommandRepeated,
        Self::DoneTooEarly,
    ];
}
