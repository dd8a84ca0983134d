//! Tests of the journal as a whole.

mod basics;
mod support;
