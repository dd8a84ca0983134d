//! Tests of the journal as a whole.

mod aborted;
mod basics;
mod cold;
mod crash;
mod damage;
mod decoding;
mod delta;
mod disk;
pub(super) mod effort;
mod faults;
mod golden;
mod index;
mod keep;
mod many;
mod model;
mod nested;
mod planted;
mod properties;
mod reading;
mod recovering;
mod retire;
mod rows;
mod service;
pub(in crate::journal) mod support;
mod transactions;
mod workload;
mod workloads;
