//! Tests of the journal as a whole.

mod basics;
mod crash;
mod damage;
mod decoding;
mod disk;
mod effort;
mod faults;
mod golden;
mod model;
mod nested;
mod planted;
mod properties;
mod recovering;
mod service;
mod support;
mod workload;
mod workloads;
