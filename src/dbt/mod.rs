//! dbt Cloud: its web addresses, endpoints and wire types.

mod errors;
mod link;

pub(crate) use errors::said;
pub(crate) use link::{Link, LinkError, parse_host};
