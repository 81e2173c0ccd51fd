//! Simulations on virtual time.

mod notebook;
