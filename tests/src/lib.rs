//! Fixtures of the black-box tests.
