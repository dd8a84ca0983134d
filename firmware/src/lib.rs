//! Headwater for microcontrollers.
#![no_std]
