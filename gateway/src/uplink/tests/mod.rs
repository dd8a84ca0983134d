//! Tests of the uplink: its decisions against a model of the centre, then the whole of it against
//! fake centres.

mod client;
mod core;
mod scripted;
mod site;
mod whole;
