//! Output to stdout and stderr, and prompts. No other module writes to them.

mod ask;
mod bars;
mod printer;
pub(crate) mod run_events;
mod sanitise;

pub(crate) use printer::{Color, Format, OutputSettings, Printer};
pub(crate) use sanitise::clean;
