//! The one road of everything that provisions: what should be, what is there, what differs, what was done.
//!
//! Observing is handed a [`Reader`](crate::http::Reader) and cannot write. A plan is data; one with anything blocked
//! in it is not walked at all, so nothing is half written. There is no state file: things are found by name and mark.

mod apply;
pub(crate) mod kinds;
mod note;
mod plan;
mod report;

pub(crate) use apply::{Inputs, apply, blocked};
pub(crate) use note::{Note, Skipped};
pub(crate) use plan::{
    Action, Applied, Change, Consent, Consents, Creation, Entry, Kind, Plan, Planned, Progress, Refusal, Removal,
    Settled, Step,
};
pub(crate) use report::Provisioned;
