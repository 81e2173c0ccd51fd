//! Quartz's cron grammar: seconds, minutes, hours, day of month, month, day of week, and an optional year.

use jiff::civil::{Date, Time, Weekday};

/// The last year in Quartz.
pub(super) const LAST_YEAR: i16 = 2099;
/// Longest expression accepted, in characters; keeps messages readable.
const LONGEST: usize = 300;
const FIRST_YEAR: u16 = 1970;

const MONTHS: [&str; 12] = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
/// Quartz counts from Sunday, which is 1.
pub(super) const DAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];

/// A well-formed expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Expression {
    seconds: Values,
    minutes: Values,
    hours: Values,
    days: Days,
    months: Values,
    years: Values,
}

/// Sorted and deduplicated values.
type Values = Vec<u16>;

/// The day field that is not `?`.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Days {
    OfMonth(Values),
    /// `L`, `L-3`: this many days before the last.
    BeforeLast(i8),
    /// `15W`: the weekday nearest to this day, in the same month.
    Nearest(i8),
    /// `LW`, `L-3W`.
    NearestBeforeLast(i8),
    OfWeek(Values),
    /// `6L`: the last Friday.
    LastOfWeek(u16),
    /// `6#3`: the third Friday.
    NthOfWeek(u16, i8),
}

/// The name and values of one field.
struct Field {
    name: &'static str,
    low: u16,
    high: u16,
    names: &'static [&'static str],
}

const SECONDS: Field = Field { name: "seconds", low: 0, high: 59, names: &[] };
const MINUTES: Field = Field { name: "minutes", low: 0, high: 59, names: &[] };
const HOURS: Field = Field { name: "hours", low: 0, high: 23, names: &[] };
const DAYS_OF_MONTH: Field = Field { name: "day of month", low: 1, high: 31, names: &[] };
const MONTHS_OF_YEAR: Field = Field { name: "month", low: 1, high: 12, names: &MONTHS };
const DAYS_OF_WEEK: Field = Field { name: "day of week", low: 1, high: 7, names: &DAYS };
const YEARS: Field = Field { name: "year", low: FIRST_YEAR, high: LAST_YEAR.unsigned_abs(), names: &[] };

impl Expression {
    /// Parses fields separated by single spaces. The error is the reason, as part of a sentence.
    pub(super) fn parse(text: &str) -> Result<Expression, String> {
        if text.len() > LONGEST {
            return Err(format!("it is longer than {LONGEST} characters"));
        }
        let upper = text.to_ascii_uppercase();
        let fields: Vec<&str> = upper.split(' ').filter(|field| !field.is_empty()).collect();
        let (days_and_times, year) = match fields.as_slice() {
            [fields @ .., year] if fields.len() == 6 => (fields, *year),
            fields if fields.len() == 6 => (fields, "*"),
            fields => {
                return Err(format!(
                    "Quartz cron has six fields, from seconds to day of week, and an optional year; this has {}",
                    fields.len()
                ));
            }
        };
        let [seconds, minutes, hours, of_month, month, of_week] = days_and_times else {
            return Err("it does not have six fields".to_owned());
        };
        let days = match (*of_month, *of_week) {
            ("?", "?") => {
                return Err("`?` is used for both day fields; set day of month or day of week".into());
            }
            (of_month, "?") => days_of_month(of_month)?,
            ("?", of_week) => days_of_week(of_week)?,
            (_, _) => {
                return Err(
                    "both day of month and day of week are set; Quartz requires `?` for exactly one of them".into()
                );
            }
        };
        Ok(Expression {
            seconds: SECONDS.values(seconds)?,
            minutes: MINUTES.values(minutes)?,
            hours: HOURS.values(hours)?,
            days,
            months: MONTHS_OF_YEAR.values(month)?,
            years: YEARS.values(year)?,
        })
    }

    /// Whether it can fire in the day's year.
    pub(super) fn has_year_of(&self, day: Date) -> bool {
        self.years.binary_search(&day.year().unsigned_abs()).is_ok()
    }

    /// The first year after the day's in which it can fire.
    pub(super) fn year_after(&self, day: Date) -> Option<i16> {
        self.years.iter().filter_map(|year| i16::try_from(*year).ok()).find(|year| *year > day.year())
    }

    /// Whether it fires on this day.
    pub(super) fn fires_on(&self, date: Date) -> bool {
        let has = |values: &Values, value: i8| values.binary_search(&u16::from(value.unsigned_abs())).is_ok();
        if !has(&self.months, date.month()) || !self.has_year_of(date) {
            return false;
        }
        let last = date.days_in_month();
        let weekday = date.weekday().to_sunday_one_offset();
        match &self.days {
            Days::OfMonth(days) => has(days, date.day()),
            Days::BeforeLast(offset) => date.day() == last - offset,
            Days::Nearest(day) => nearest(date, *day) == Some(date.day()),
            Days::NearestBeforeLast(offset) => nearest(date, last - offset) == Some(date.day()),
            Days::OfWeek(days) => has(days, weekday),
            Days::LastOfWeek(day) => u16::from(weekday.unsigned_abs()) == *day && date.day() > last - 7,
            Days::NthOfWeek(day, nth) => u16::from(weekday.unsigned_abs()) == *day && (date.day() - 1) / 7 + 1 == *nth,
        }
    }

    /// The times at which it fires on such a day, in order.
    pub(super) fn times(&self) -> impl Iterator<Item = Time> {
        self.hours.iter().flat_map(move |hour| {
            self.minutes.iter().flat_map(move |minute| {
                self.seconds.iter().filter_map(move |second| {
                    let part = |value: u16| i8::try_from(value).ok();
                    Time::new(part(*hour)?, part(*minute)?, part(*second)?, 0).ok()
                })
            })
        })
    }
}

/// The weekday nearest to a day of the date's month, within the month; `None` if the month has no such day.
fn nearest(date: Date, day: i8) -> Option<i8> {
    let last = date.days_in_month();
    let target = Date::new(date.year(), date.month(), day).ok()?;
    Some(match target.weekday() {
        Weekday::Saturday if day == 1 => 3,
        Weekday::Saturday => day - 1,
        Weekday::Sunday if day == last => day - 2,
        Weekday::Sunday => day + 1,
        Weekday::Monday | Weekday::Tuesday | Weekday::Wednesday | Weekday::Thursday | Weekday::Friday => day,
    })
}

fn days_of_month(text: &str) -> Result<Days, String> {
    let day = |text: &str| -> Result<i8, String> {
        let value = DAYS_OF_MONTH.value(text)?;
        i8::try_from(value).map_err(|_| DAYS_OF_MONTH.outside(text))
    };
    if let Some(rest) = text.strip_prefix('L') {
        let (rest, weekday) = rest.strip_suffix('W').map_or((rest, false), |rest| (rest, true));
        let offset = match rest.strip_prefix('-') {
            None if rest.is_empty() => 0,
            Some(offset) => digits(offset)
                .filter(|offset| *offset <= 30)
                .and_then(|offset| i8::try_from(offset).ok())
                .ok_or_else(|| format!("\"{text}\" for day of month: `L-` takes a number up to 30"))?,
            None => return Err(alone("L", text)),
        };
        return Ok(if weekday { Days::NearestBeforeLast(offset) } else { Days::BeforeLast(offset) });
    }
    if let Some(before) = text.strip_suffix('W') {
        return day(before).map(Days::Nearest).map_err(|_| alone("W", text));
    }
    if text.contains('L') || text.contains('W') {
        return Err(alone(if text.contains('L') { "L" } else { "W" }, text));
    }
    DAYS_OF_MONTH.values(text).map(Days::OfMonth)
}

fn alone(sign: &str, text: &str) -> String {
    format!("\"{text}\" for day of month: `{sign}` works only with a single day, not a list or range")
}

fn days_of_week(text: &str) -> Result<Days, String> {
    if text == "L" {
        return Ok(Days::OfWeek(vec![7]));
    }
    if let Some((day, nth)) = text.split_once('#') {
        let day = DAYS_OF_WEEK.value(day)?;
        return match digits(nth).and_then(|nth| i8::try_from(nth).ok()) {
            Some(nth @ 1..=5) => Ok(Days::NthOfWeek(day, nth)),
            Some(_) | None => Err(format!("\"{text}\" for day of week: `#` takes a number from 1 to 5")),
        };
    }
    // No day name ends in L.
    if let Some(day) = text.strip_suffix('L') {
        return DAYS_OF_WEEK
            .value(day)
            .map(Days::LastOfWeek)
            .map_err(|_| format!("\"{text}\" for day of week: `L` works only with a single day, not a list or range"));
    }
    if text.contains('0') && DAYS_OF_WEEK.values(text).is_err() {
        return Err(format!(
            "\"{text}\" for day of week: Quartz counts from 1 (Sunday) to 7 (Saturday), or takes SUN to SAT"
        ));
    }
    DAYS_OF_WEEK.values(text).map(Days::OfWeek)
}

/// Parses one to four digits.
fn digits(text: &str) -> Option<u16> {
    let fits = (1..=4).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    if fits { text.parse().ok() } else { None }
}

impl Field {
    /// All values of a list of values, ranges and steps.
    fn values(&self, text: &str) -> Result<Values, String> {
        let mut all = Values::new();
        for part in text.split(',') {
            self.add(part, &mut all)?;
        }
        all.sort_unstable();
        all.dedup();
        Ok(all)
    }

    fn add(&self, part: &str, all: &mut Values) -> Result<(), String> {
        let (range, step) = match part.split_once('/') {
            None => (part, None),
            Some((range, step)) => {
                let span = self.high - self.low + 1;
                let step = digits(step)
                    .filter(|step| (1..=span).contains(step))
                    .ok_or_else(|| format!("\"{part}\" for {}: `/` takes a step from 1 to {span}", self.name))?;
                // `/5` is `*/5`.
                (if range.is_empty() { "*" } else { range }, Some(step))
            }
        };
        let (from, to) = if range == "*" {
            (self.low, self.high)
        } else if let Some((from, to)) = range.split_once('-') {
            (self.value(from)?, self.value(to)?)
        } else {
            let from = self.value(range)?;
            // `5/15` runs to the end of the field, `5` is one value.
            (from, if step.is_some() { self.high } else { from })
        };
        let step = usize::from(step.unwrap_or(1));
        if from <= to {
            all.extend((from..=to).step_by(step));
        } else if self.low == FIRST_YEAR {
            return Err(format!("\"{part}\" for {}: the range runs backwards", self.name));
        } else {
            // Quartz lets `22-2` wrap around.
            all.extend((from..=self.high).chain(self.low..=to).step_by(step));
        }
        Ok(())
    }

    /// Parses one number or name.
    fn value(&self, text: &str) -> Result<u16, String> {
        if let Some(place) = self.names.iter().position(|name| *name == text) {
            return Ok(self.low + u16::try_from(place).unwrap_or_default());
        }
        match digits(text) {
            Some(value) if (self.low..=self.high).contains(&value) => Ok(value),
            Some(_) => Err(self.outside(text)),
            None if text.is_empty() => Err(format!("a value is missing for {}", self.name)),
            None if text == "?" => {
                Err(format!("`?` is not allowed for {}, only for one of the two day fields", self.name))
            }
            None => Err(format!("\"{text}\" is not a value for {}", self.name)),
        }
    }

    fn outside(&self, text: &str) -> String {
        format!("\"{text}\" for {}: it runs from {} to {}", self.name, self.low, self.high)
    }
}
