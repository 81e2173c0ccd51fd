//! Provisioning: observe the workspace, plan the changes, apply them, report.
//!
//! Observing takes a [`Reader`](crate::http::Reader) and cannot write. A plan is data, and one with a blocked step
//! is not applied at all. There is no state file: objects are found by name and mark.

mod apply;
pub(crate) mod kinds;
mod note;
mod plan;
mod report;

pub(crate) use apply::{Inputs, apply, blocked};
pub(crate) use note::{Note, Skipped};
pub(crate) use plan::{
    Action, Applied, Change, Consent, Consents, Creation, Entry, Kind, Plan, Planned, Progress, RaceOutcome, Refusal,
    Removal, Step,
};
pub(crate) use report::Provisioned;
