//! The black-box tests, one binary.
