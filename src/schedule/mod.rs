//! Schedules as Databricks Jobs reads them: a Quartz cron expression and a time zone. Pure.
//!
//! The expression is read by Quartz's own rules and not by a cron library's: Databricks answers a wrong one with a text
//! that names neither field nor reason, and libraries accept what Quartz refuses (`* *` for both days) and the
//! other way round (`L-2`). In the tests a library is the second opinion.

mod quartz;
mod unix;

use std::fmt;

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

use self::quartz::Expression;
use self::unix::Reading;

/// When a workflow starts by itself.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Schedule {
    text: String,
    expression: Expression,
    zone: Zone,
}

/// A time zone of the IANA database, by the name that the database writes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Zone(TimeZone);

/// Why a schedule cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum BadSchedule {
    /// Five fields or a nickname, as Unix cron has them; holds the Quartz form, if there is one.
    Unix { quartz: Option<String> },
    /// Not Quartz; holds the reason, and the expression that was probably meant.
    NotQuartz { reason: String, meant: Option<String> },
    /// It is well formed, and no moment from now on fits.
    Never,
    /// No zone of the IANA database has this name.
    Zone,
}

impl fmt::Display for BadSchedule {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BadSchedule::Unix { quartz: Some(quartz) } => {
                write!(formatter, "this is Unix cron; Databricks uses Quartz cron: \"{quartz}\"")
            }
            BadSchedule::Unix { quartz: None } => formatter.write_str(
                "this is Unix cron; Databricks uses Quartz cron, which starts with seconds and has `?` for one of the two day fields",
            ),
            BadSchedule::NotQuartz { reason, meant: Some(meant) } => {
                write!(formatter, "{reason}; did you mean \"{meant}\"?")
            }
            BadSchedule::NotQuartz { reason, meant: None } => formatter.write_str(reason),
            BadSchedule::Never => formatter.write_str("it never matches a future time"),
            BadSchedule::Zone => formatter.write_str("it is not in the IANA time zone database"),
        }
    }
}

impl Zone {
    /// Reads a name in any case; Databricks wants it exactly as the database writes it.
    pub(crate) fn parse(name: &str) -> Result<Zone, BadSchedule> {
        // "Etc/Unknown" is a marker of the library's, not a place.
        jiff::tz::db().get(name).ok().filter(|zone| !zone.is_unknown()).map(Zone).ok_or(BadSchedule::Zone)
    }

    pub(crate) fn utc() -> Zone {
        Zone(TimeZone::UTC)
    }

    pub(crate) fn name(&self) -> &str {
        self.0.iana_name().unwrap_or("UTC")
    }
}

impl Schedule {
    /// Reads an expression and makes sure that it fires at all after `now`.
    pub(crate) fn parse(text: &str, zone: Zone, now: Timestamp) -> Result<Schedule, BadSchedule> {
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        match unix::read(&text) {
            Reading::Quartz(form) if Expression::parse(&form).is_ok() => {
                return Err(BadSchedule::Unix { quartz: Some(form) });
            }
            Reading::Quartz(_) | Reading::NoQuartz => return Err(BadSchedule::Unix { quartz: None }),
            Reading::NotUnix => {}
        }
        let expression =
            Expression::parse(&text).map_err(|reason| BadSchedule::NotQuartz { reason, meant: meant(&text) })?;
        let schedule = Schedule { text, expression, zone };
        if schedule.next(now, 1).is_empty() { Err(BadSchedule::Never) } else { Ok(schedule) }
    }

    /// The expression with single spaces, as it is sent.
    pub(crate) fn expression(&self) -> &str {
        &self.text
    }

    /// The next moments at which it fires after `now`, at most `count`.
    ///
    /// A local time that the change to summer time leaves out fires as much later as the clock jumps, like Quartz's; one
    /// that comes twice is shown once.
    pub(crate) fn next(&self, now: Timestamp, count: usize) -> Vec<Zoned> {
        let Schedule { text: _, expression, zone: Zone(zone) } = self;
        let mut found: Vec<Zoned> = Vec::new();
        // A day earlier: what a day's gap pushed forward may still lie ahead.
        let here = now.to_zoned(zone.clone()).datetime();
        let mut day = here.date().yesterday().unwrap_or(here.date());
        while day.year() <= quartz::LAST_YEAR {
            if !expression.has_year_of(day) {
                let Some(first) = expression.year_after(day).and_then(|year| Date::new(year, 1, 1).ok()) else { break };
                day = first;
                continue;
            }
            if expression.fires_on(day) {
                for time in expression.times() {
                    let Some(moment) = moment(day, time, zone) else { continue };
                    let fresh = found.last().is_none_or(|last| last.timestamp() < moment.timestamp());
                    if moment.timestamp() > now && fresh {
                        found.push(moment);
                        if found.len() == count {
                            return found;
                        }
                    }
                }
            }
            let Ok(next) = day.tomorrow() else { break };
            day = next;
        }
        found
    }
}

fn moment(day: Date, time: Time, zone: &TimeZone) -> Option<Zoned> {
    DateTime::from_parts(day, time).to_zoned(zone.clone()).ok()
}

/// The commonest slip: no `?`, where one of the two days is a star anyway.
fn meant(text: &str) -> Option<String> {
    let mut fields: Vec<&str> = text.split(' ').collect();
    if !(6..=7).contains(&fields.len()) {
        return None;
    }
    match (fields[3], fields[5]) {
        ("?", "?") => fields[3] = "*",
        (_, "*") => fields[5] = "?",
        ("*", _) => fields[3] = "?",
        (_, _) => return None,
    }
    let meant = fields.join(" ");
    Expression::parse(&meant).is_ok().then_some(meant)
}

#[cfg(test)]
mod tests;
