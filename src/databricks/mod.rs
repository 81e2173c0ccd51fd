//! Databricks: its endpoints and wire types, one file per API family.

mod errors;

pub(crate) use errors::{is_missing, is_there_already, said};
