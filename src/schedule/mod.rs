//! Schedules of Databricks Jobs: a Quartz cron expression and a time zone. Pure.
//!
//! The expression is parsed by Quartz's own rules, not by a cron library's: the error from Databricks names neither
//! field nor reason, and libraries accept what Quartz rejects (`* *` for both days) and vice versa (`L-2`). The
//! tests compare with a library.

mod quartz;
mod unix;

use std::fmt;

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

use self::quartz::Expression;
use self::unix::Reading;

/// When a workflow starts.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Schedule {
    text: String,
    expression: Expression,
    zone: Zone,
}

/// A time zone of the IANA database, with the database's spelling of its name.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Zone(TimeZone);

/// Why a schedule cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum BadSchedule {
    /// Unix cron with five fields or a nickname; holds the Quartz form, if there is one.
    Unix { quartz: Option<String> },
    /// Not Quartz; holds the reason, and the expression that was probably meant.
    NotQuartz { reason: String, meant: Option<String> },
    /// Well-formed, but never fires in the future.
    Never,
    /// The IANA database has no zone of this name.
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
    /// Parses a name case-insensitively; Databricks requires the database's spelling.
    pub(crate) fn parse(name: &str) -> Result<Zone, BadSchedule> {
        // "Etc/Unknown" is a marker of the library, not a place.
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
    /// Parses an expression that fires at least once after `now`.
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

    /// The next times at which it fires after `now`, at most `count`.
    ///
    /// A local time skipped by a clock change fires later by the length of the gap, as in Quartz; one that occurs
    /// twice is returned once.
    pub(crate) fn next(&self, now: Timestamp, count: usize) -> Vec<Zoned> {
        let Schedule { text: _, expression, zone: Zone(zone) } = self;
        let mut found: Vec<Zoned> = Vec::new();
        // Start a day earlier: a gap of a whole day may push its times into the future.
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

/// Corrects the most common mistake: a missing `?` where one of the two day fields is `*`.
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
