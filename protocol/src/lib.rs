//! The Headwater device link.
#![no_std]
