use croner::parser::{CronParser, Seconds};

use super::*;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn next(text: &str, zone: &str, now: &str, count: usize) -> Vec<String> {
    let schedule = Schedule::parse(text, Zone::parse(zone).unwrap(), at(now)).unwrap();
    schedule.next(at(now), count).iter().map(|moment| moment.strftime("%F %T%:z %a").to_string()).collect()
}

#[test]
fn quartz_forms_fire_when_quartz_says() {
    // 2026-01-01 is a Thursday.
    let now = "2026-01-01T00:00:00Z";
    for (text, days) in [
        ("0 0 6 * * ?", ["2026-01-01", "2026-01-02", "2026-01-03"]),
        ("0 0 6 ? * MON-FRI", ["2026-01-01", "2026-01-02", "2026-01-05"]),
        ("0 0 6 ? * 2-6", ["2026-01-01", "2026-01-02", "2026-01-05"]),
        ("0 0 6 ? * FRI-MON", ["2026-01-02", "2026-01-03", "2026-01-04"]),
        ("0 0 6 ? * 1", ["2026-01-04", "2026-01-11", "2026-01-18"]),
        ("0 0 6 ? * L", ["2026-01-03", "2026-01-10", "2026-01-17"]),
        ("0 0 6 ? * 6L", ["2026-01-30", "2026-02-27", "2026-03-27"]),
        ("0 0 6 ? * FRIL", ["2026-01-30", "2026-02-27", "2026-03-27"]),
        ("0 0 6 ? * 6#3", ["2026-01-16", "2026-02-20", "2026-03-20"]),
        ("0 0 6 ? * MON#5", ["2026-03-30", "2026-06-29", "2026-08-31"]),
        ("0 0 6 L * ?", ["2026-01-31", "2026-02-28", "2026-03-31"]),
        ("0 0 6 L-2 * ?", ["2026-01-29", "2026-02-26", "2026-03-29"]),
        ("0 0 6 L-30 * ?", ["2026-01-01", "2026-03-01", "2026-05-01"]),
        ("0 0 6 LW * ?", ["2026-01-30", "2026-02-27", "2026-03-31"]),
        ("0 0 6 L-1W * ?", ["2026-01-30", "2026-02-27", "2026-03-30"]),
        ("0 0 6 15W * ?", ["2026-01-15", "2026-02-16", "2026-03-16"]),
        ("0 0 6 1W * ?", ["2026-01-01", "2026-02-02", "2026-03-02"]),
        ("0 0 6 31W * ?", ["2026-01-30", "2026-03-31", "2026-05-29"]),
        ("0 0 6 31 * ?", ["2026-01-31", "2026-03-31", "2026-05-31"]),
        ("0 0 6 29 2 ?", ["2028-02-29", "2032-02-29", "2036-02-29"]),
        ("0 0 6 1 NOV-FEB/2 ?", ["2026-01-01", "2026-11-01", "2027-01-01"]),
        ("0 0 6 1 1 ? 2027-2030/2", ["2027-01-01", "2029-01-01", ""]),
        ("0 0 6 1 1 ? 2099", ["2099-01-01", "", ""]),
    ] {
        let found = next(text, "UTC", now, 3);
        let found: Vec<&str> = (0..3).map(|place| found.get(place).map_or("", |moment| &moment[..10])).collect();
        assert_eq!(found, days, "{text}");
    }
    assert_eq!(
        next("0/20 5 22-1/2 * * ?", "UTC", "2026-01-01T00:05:25Z", 4),
        [
            "2026-01-01 00:05:40+00:00 Thu",
            "2026-01-01 22:05:00+00:00 Thu",
            "2026-01-01 22:05:20+00:00 Thu",
            "2026-01-01 22:05:40+00:00 Thu",
        ]
    );
}

#[test]
fn hostile_expressions_are_refused_with_a_reason() {
    let now = at("2026-01-01T00:00:00Z");
    let long = "1,".repeat(100_000) + " 0 6 * * ?";
    for (text, reason) in [
        ("", "six fields"),
        ("0", "this has 1"),
        ("0 0 6 * *  ? 2027 1", "this has 8"),
        ("0 0 6 * * *", "did you mean \"0 0 6 * * ?\""),
        ("0 0 6 1 * MON", "both day of month and day of week"),
        ("0 0 6 ? * ?", "did you mean \"0 0 6 * * ?\""),
        ("0 0 6 * * MON", "did you mean \"0 0 6 ? * MON\""),
        ("? 0 6 * * ?", "`?` is not allowed for seconds"),
        ("60 0 6 * * ?", "seconds: it runs from 0 to 59"),
        ("0 0 24 * * ?", "hours: it runs from 0 to 23"),
        ("0 0 6 0 * ?", "day of month: it runs from 1 to 31"),
        ("0 0 6 32 * ?", "day of month"),
        ("0 0 6 * 13 ?", "month: it runs from 1 to 12"),
        ("0 0 6 ? * 0", "Quartz counts from 1 (Sunday)"),
        ("0 0 6 ? * 8", "day of week: it runs from 1 to 7"),
        ("0 0 6 ? * MON#6", "`#` takes a number from 1 to 5"),
        ("0 0 6 ? * MON#1,TUE#2", "`#` takes a number from 1 to 5"),
        ("0 0 6 ? * MON,6L", "`L` works only with a single day"),
        ("0 0 6 L,15 * ?", "`L` works only with a single day"),
        ("0 0 6 L-31 * ?", "a number up to 30"),
        ("0 0 6 LX * ?", "`L` works only with a single day"),
        ("0 0 6 1-15W * ?", "`W` works only with a single day"),
        ("0 0 6 W * ?", "`W`"),
        ("0/0 0 6 * * ?", "a step from 1 to 60"),
        ("0/61 0 6 * * ?", "a step from 1 to 60"),
        ("0/x 0 6 * * ?", "a step from 1 to 60"),
        ("0 0 6 * * ? 1969", "year: it runs from 1970 to 2099"),
        ("0 0 6 * * ? 2030-2027", "runs backwards"),
        ("0,, 0 6 * * ?", "a value is missing for seconds"),
        ("0 0 -1 * * ?", "a value is missing for hours"),
        ("0 0 6;rm * * ?", "is not a value for hours"),
        ("0 0 6 +1 * ?", "is not a value for day of month"),
        ("0 0 ٦ * * ?", "is not a value for hours"),
        ("00000 0 6 * * ?", "is not a value for seconds"),
        (long.as_str(), "longer than"),
        ("@reboot", "this has 1"),
        // Well-formed, but never fires.
        ("0 0 6 30 2 ?", "it never matches a future time"),
        ("0 0 6 31 4,6,9,11 ?", "it never matches a future time"),
        ("0 0 6 ? 2 MON#5 2027", "it never matches a future time"),
        ("0 0 6 * * ? 2025", "it never matches a future time"),
    ] {
        let bad = Schedule::parse(text, Zone::utc(), now).expect_err(text).to_string();
        assert!(bad.contains(reason), "{}: {bad}", &text[..text.len().min(40)]);
    }
}

#[test]
fn unix_cron_is_refused_with_its_quartz_form() {
    let now = at("2026-01-01T00:00:00Z");
    for (unix, quartz) in [
        ("0 6 * * *", Some("0 0 6 * * ?")),
        ("*/15 * * * *", Some("0 */15 * * * ?")),
        ("0 6 * * 1-5", Some("0 0 6 ? * MON-FRI")),
        ("0 6 * * 0,6", Some("0 0 6 ? * SUN,SAT")),
        ("0 6 * * 7", Some("0 0 6 ? * SUN")),
        ("0 6 * * 5-7", Some("0 0 6 ? * SUN,FRI,SAT")),
        ("0 6 * * mon,wed", Some("0 0 6 ? * MON,WED")),
        ("0 6 * * */2", Some("0 0 6 ? * SUN,TUE,THU,SAT")),
        ("30 2 1 * *", Some("0 30 2 1 * ?")),
        ("  0   6 * *   * ", Some("0 0 6 * * ?")),
        ("@daily", Some("0 0 0 * * ?")),
        ("@weekly", Some("0 0 0 ? * SUN")),
        ("0 6 1 * 1", None),
        ("0 6 * * 9", None),
        ("a b c d *", None),
    ] {
        let bad = Schedule::parse(unix, Zone::utc(), now).expect_err(unix);
        assert_eq!(bad, BadSchedule::Unix { quartz: quartz.map(ToOwned::to_owned) }, "{unix}");
    }
}

#[test]
fn a_time_that_the_change_to_summer_time_leaves_out_fires_later_and_a_double_one_once() {
    assert_eq!(
        next("0 30 2 * * ?", "Europe/Berlin", "2026-03-28T00:00:00Z", 3),
        ["2026-03-28 02:30:00+01:00 Sat", "2026-03-29 03:30:00+02:00 Sun", "2026-03-30 02:30:00+02:00 Mon",]
    );
    assert_eq!(
        next("0 30 2,3 29 3 ?", "Europe/Berlin", "2026-03-28T00:00:00Z", 2),
        ["2026-03-29 03:30:00+02:00 Sun", "2027-03-29 02:30:00+02:00 Mon",]
    );
    assert_eq!(
        next("0 30 2 * * ?", "Europe/Berlin", "2026-10-24T23:00:00Z", 2),
        ["2026-10-25 02:30:00+02:00 Sun", "2026-10-26 02:30:00+01:00 Mon",]
    );
    // Apia skipped December 30, 2011.
    assert_eq!(next("0 0 6 30 12 ?", "Pacific/Apia", "2011-12-29T20:00:00Z", 1), ["2011-12-31 06:00:00+14:00 Sat"]);
    // During the clock change itself.
    assert_eq!(
        next("0 0 * * * ?", "America/New_York", "2026-03-08T06:59:59Z", 2),
        ["2026-03-08 03:00:00-04:00 Sun", "2026-03-08 04:00:00-04:00 Sun",]
    );
}

#[test]
fn zones_are_those_of_the_iana_database_in_its_own_spelling() {
    assert_eq!(Zone::parse("europe/berlin").unwrap().name(), "Europe/Berlin");
    assert_eq!(Zone::parse("UTC").unwrap().name(), "UTC");
    assert_eq!(Zone::parse("utc").unwrap().name(), "UTC");
    assert_eq!(Zone::parse("US/Eastern").unwrap().name(), "US/Eastern");
    for name in ["", "Europe/Munich", "+02:00", "CET-1CEST", "../UTC", "Etc/Unknown", "local", "Europe/Berlin "] {
        assert_eq!(Zone::parse(name), Err(BadSchedule::Zone), "{name}");
    }
}

#[test]
fn a_library_agrees_on_what_both_can_read() {
    let parser =
        CronParser::builder().seconds(Seconds::Required).alternative_weekdays(true).sloppy_ranges(true).build();
    let choices: [&[&str]; 5] = [
        &["0", "*/20", "7,50", "10-12"],
        &["0", "0/25", "59", "3,4,5"],
        &["6", "*", "0", "22-23"],
        &["*", "JAN", "2-4", "6/3", "DEC"],
        &["", "2027", "2026-2028", "2028/4"],
    ];
    let days = [
        ("*", "?"),
        ("1", "?"),
        ("31", "?"),
        ("L", "?"),
        ("15W", "?"),
        ("LW", "?"),
        ("5-9/2", "?"),
        ("10,20", "?"),
        ("?", "1"),
        ("?", "MON-FRI"),
        ("?", "6L"),
        ("?", "6#3"),
        ("?", "SUN,SAT"),
        ("?", "3#5"),
    ];
    let (now, mut compared) = (at("2026-05-17T13:14:15Z"), 0_u32);
    for index in 0..choices.iter().map(|list| list.len()).product::<usize>() {
        let mut rest = index;
        let mut pick = |list: &[&'static str]| {
            let chosen = list[rest % list.len()];
            rest /= list.len();
            chosen
        };
        let [second, minute, hour, month, year] = choices.map(&mut pick);
        let (of_month, of_week) = days[index % days.len()];
        let text = format!("{second} {minute} {hour} {of_month} {month} {of_week} {year}");
        let library = parser.parse(text.trim()).unwrap();
        let theirs: Vec<Timestamp> = library
            .iter_after(now.to_zoned(TimeZone::UTC))
            .take_while(|moment| moment.year() <= quartz::LAST_YEAR)
            .take(4)
            .map(|moment| moment.timestamp())
            .collect();
        let ours: Vec<Timestamp> = Schedule::parse(&text, Zone::utc(), now)
            .map(|schedule| schedule.next(now, 4).iter().map(Zoned::timestamp).collect())
            .unwrap_or_default();
        assert_eq!(theirs, ours, "{text}");
        compared += 1;
    }
    assert!(compared >= 1000, "{compared}");
}
