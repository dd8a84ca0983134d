//! The server over real sockets, with a real broker on a temporary folder: APIs, limits, hostile
//! bytes, a whole client.

mod admin;
mod apis;
mod client;
mod cluster;
mod committed;
mod consume;
mod groups;
mod harness;
mod hostile;
mod produce;
mod versions;
