//! The one place that writes to the streams.

mod ask;
mod bars;
mod printer;
mod sanitise;

pub(crate) use printer::{Color, Format, Printer, Voice};
pub(crate) use sanitise::clean;
