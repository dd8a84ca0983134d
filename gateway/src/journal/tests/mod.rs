//! Tests of the journal as a whole.

mod basics;
mod crash;
mod damage;
mod decoding;
mod delta;
mod disk;
mod effort;
mod faults;
mod golden;
mod index;
mod keep;
mod model;
mod nested;
mod planted;
mod properties;
mod reading;
mod recovering;
mod retire;
mod service;
mod support;
mod transactions;
mod workload;
mod workloads;
