//! Unix cron, parsed only to suggest the Quartz form.

use super::quartz::DAYS;

/// A text read as Unix cron.
pub(super) enum Reading {
    /// It neither has five fields nor is a nickname.
    NotUnix,
    /// The Quartz form, if the fields themselves are valid.
    Quartz(String),
    /// Quartz has no single expression for it, or its meaning is unclear.
    NoQuartz,
}

pub(super) fn read(text: &str) -> Reading {
    let nickname = |quartz: &str| Reading::Quartz(quartz.to_owned());
    match text.to_ascii_lowercase().as_str() {
        "@hourly" => return nickname("0 0 * * * ?"),
        "@daily" | "@midnight" => return nickname("0 0 0 * * ?"),
        "@weekly" => return nickname("0 0 0 ? * SUN"),
        "@monthly" => return nickname("0 0 0 1 * ?"),
        "@yearly" | "@annually" => return nickname("0 0 0 1 1 ?"),
        _ => {}
    }
    let fields: Vec<&str> = text.split(' ').collect();
    let [minute, hour, of_month, month, of_week] = fields.as_slice() else { return Reading::NotUnix };
    let any = |field: &str| field == "*" || field == "?";
    let days = match (any(of_month), any(of_week)) {
        (_, true) => Some(((*of_month).replace('?', "*"), "?".to_owned())),
        (true, false) => week(of_week).map(|days| ("?".to_owned(), days)),
        // Unix cron means "or" here.
        (false, false) => None,
    };
    match days {
        Some((of_month, of_week)) => Reading::Quartz(format!("0 {minute} {hour} {of_month} {month} {of_week}")),
        None => Reading::NoQuartz,
    }
}

/// Days of the week, counted from 0 or 7 (Sunday), as names, which Unix and Quartz read alike.
fn week(text: &str) -> Option<String> {
    let upper = text.to_ascii_uppercase();
    let day = |text: &str| {
        DAYS.iter().position(|name| *name == text).or_else(|| text.parse::<usize>().ok().filter(|day| *day <= 7))
    };
    let mut on = [false; 7];
    for part in upper.split(',') {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (range, step.parse::<usize>().ok().filter(|step| *step > 0)?),
            None => (part, 1),
        };
        let (from, to) = match range.split_once('-') {
            Some((from, to)) => (day(from)?, day(to)?),
            None if range == "*" => (0, 6),
            None => (day(range)?, if part.contains('/') { 6 } else { day(range)? }),
        };
        if from > to {
            return None;
        }
        (from..=to).step_by(step).for_each(|day| on[day % 7] = true);
    }
    let mut parts = Vec::new();
    let mut at = 0;
    while at < 7 {
        if !on[at] {
            at += 1;
            continue;
        }
        let end = (at..7).take_while(|day| on[*day]).last()?;
        match end - at {
            0 => parts.push(DAYS[at].to_owned()),
            1 => parts.push(format!("{},{}", DAYS[at], DAYS[end])),
            _ => parts.push(format!("{}-{}", DAYS[at], DAYS[end])),
        }
        at = end + 1;
    }
    (!parts.is_empty()).then(|| parts.join(","))
}
