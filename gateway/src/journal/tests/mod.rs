//! Tests of the journal as a whole.

mod basics;
mod crash;
mod damage;
mod delta;
mod disk;
mod faults;
mod golden;
mod index;
mod model;
mod properties;
mod reading;
mod retire;
mod service;
mod support;
mod transactions;
