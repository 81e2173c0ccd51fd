//! Fault rules: which call of which operation goes wrong, when, and how.
//!
//! A rule is written `OPERATION=CLASS[,phase=before|after][,nth=N][,times=M|forever]`; `--fault` and the
//! scripts of the protocol tests share this form, so a failure seen in one can be repeated in the other.

use std::fmt;

use bytes::Bytes;
use http::Response;

/// When the fault strikes, seen from the effect of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The request has no effect.
    Before,
    /// The effect has happened; only the answer is spoilt.
    After,
}

/// How a connection fails.
#[derive(Debug)]
pub enum Cut {
    /// The name does not resolve. In memory only: no accepted connection can show it.
    NoName,
    /// Nobody listens. In memory only.
    Refused,
    /// Packets vanish, the connection is never made. In memory only.
    Blackhole,
    /// The TLS handshake fails. In memory only.
    Tls,
    /// RST before any byte of an answer.
    Reset,
    /// FIN before any byte of an answer.
    Close,
    /// The head of this answer, then RST.
    ResetAfterHead(Response<Bytes>),
    /// Half of the body of this answer, then RST.
    ResetInBody(Response<Bytes>),
    /// The head of this answer, then nothing, the connection stays open.
    Silence(Response<Bytes>),
    /// Half of the announced body, then FIN.
    Truncated(Response<Bytes>),
    /// The answer, one byte a second.
    Drip(Response<Bytes>),
    /// This whole answer; the connection looks alive, and is reset when it is used again.
    Stale(Response<Bytes>),
    /// Status 200 and a body without end: 1 GiB announced and streamed on sockets, more than any client's
    /// cap in memory.
    Huge,
    /// The calling process is killed: with `Some`, half of this answer is sent first.
    Kill(Option<Response<Bytes>>),
}

/// How one call goes wrong: the fault catalogue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Class {
    /// The host name does not resolve.
    NoName,
    /// The connection is refused.
    Refused,
    /// The connection is never made.
    Blackhole,
    /// The TLS handshake fails.
    Tls,
    /// RST before the answer.
    Reset,
    /// FIN before the answer.
    Close,
    /// No byte ever comes back.
    Hang,
    /// RST after the head.
    ResetAfterHead,
    /// RST in the middle of the body.
    ResetInBody,
    /// The head, then silence.
    Silence,
    /// The connection is closed in the middle of the body.
    Truncated,
    /// One byte a second.
    Drip,
    /// A whole answer on a connection that is dead when it is used again: a stale keep-alive.
    Stale,
    /// This HTTP status with the service's usual error body (502 and 504: an HTML page, 503: empty).
    Status(u16),
    /// 429 with `Retry-After` in seconds.
    RetryAfter(u32),
    /// 429 with `Retry-After` as an HTTP date so many seconds from now.
    RetryAfterDate(u32),
    /// 429 with `Retry-After: 999999999`.
    RetryAfterAbsurd,
    /// 307 to this address.
    Redirect(String),
    /// 200 with an HTML login page.
    Login,
    /// 200 without a body.
    Empty,
    /// 200 with a body that is not UTF-8.
    BadUtf8,
    /// 200 with a body without end.
    Huge,
    /// 200 with 100,000 nested arrays.
    Deep,
    /// 200 with a valid envelope that lacks its content.
    MissingField,
    /// 200 with statuses that nobody knows.
    UnknownStatus,
    /// 200 whose content is null.
    NullData,
    /// 200 whose content has another type.
    WrongType,
    /// 200 with `Content-Encoding: gzip`, small on the wire and 64 MiB unpacked.
    GzipBomb,
    /// The caller is killed; no byte is sent.
    Kill,
    /// The effect happens, half of the answer is sent, then the caller is killed.
    KillDuring,
}

/// Classes that are written as one word.
const WORDS: &[(&str, Class)] = &[
    ("no-name", Class::NoName),
    ("refused", Class::Refused),
    ("blackhole", Class::Blackhole),
    ("tls", Class::Tls),
    ("reset", Class::Reset),
    ("close", Class::Close),
    ("hang", Class::Hang),
    ("reset-after-head", Class::ResetAfterHead),
    ("reset-in-body", Class::ResetInBody),
    ("silence", Class::Silence),
    ("truncated", Class::Truncated),
    ("drip", Class::Drip),
    ("stale", Class::Stale),
    ("retry-after-absurd", Class::RetryAfterAbsurd),
    ("login", Class::Login),
    ("empty", Class::Empty),
    ("bad-utf8", Class::BadUtf8),
    ("huge", Class::Huge),
    ("deep", Class::Deep),
    ("missing-field", Class::MissingField),
    ("unknown-status", Class::UnknownStatus),
    ("null-data", Class::NullData),
    ("wrong-type", Class::WrongType),
    ("gzip-bomb", Class::GzipBomb),
    ("kill", Class::Kill),
    ("kill-during", Class::KillDuring),
];

/// Statuses whose bodies the sandbox knows for both services.
const STATUSES: &[u16] = &[400, 401, 403, 404, 405, 408, 409, 422, 425, 429, 500, 501, 502, 503, 504];

impl Class {
    /// The whole catalogue, each class once (those with a value: one example of each).
    pub fn catalogue() -> Vec<Class> {
        let mut all: Vec<Class> = WORDS.iter().map(|(_, class)| class.clone()).collect();
        all.extend(STATUSES.iter().copied().map(Class::Status));
        all.extend([
            Class::RetryAfter(7),
            Class::RetryAfterDate(7),
            Class::Redirect("https://elsewhere.invalid/".to_owned()),
        ]);
        all
    }

    /// Whether an accepted connection can show this class. The others need a transport in memory.
    pub fn on_sockets(&self) -> bool {
        !matches!(self, Class::NoName | Class::Refused | Class::Blackhole | Class::Tls)
    }

    /// Whether this class can strike in that phase: what never reached the service has no effect, and a
    /// caller killed in the middle of an answer had one.
    pub fn allows(&self, phase: Phase) -> bool {
        match phase {
            Phase::Before => !self.shows_the_truth(),
            Phase::After => self.on_sockets(),
        }
    }

    /// Whether some or all of the true answer goes out, so that the effect must have happened.
    fn shows_the_truth(&self) -> bool {
        matches!(self, Class::KillDuring | Class::Stale)
    }

    /// Whether a service that answers so says that it did nothing (dbt-cloud-api §3.3): 4xx but 408, and
    /// redirects. Both services keep to it, so a test that pairs such a class with [`Phase::After`] on a
    /// write shows a service that lies.
    pub fn denies_effect(&self) -> bool {
        if let Class::Status(status) = self {
            return (400..500).contains(status) && *status != 408;
        }
        matches!(self, Class::RetryAfter(_) | Class::RetryAfterDate(_) | Class::RetryAfterAbsurd | Class::Redirect(_))
    }

    fn parse(text: &str) -> Result<Class, String> {
        if let Some((_, class)) = WORDS.iter().find(|(word, _)| *word == text) {
            return Ok(class.clone());
        }
        let Some((name, value)) = text.split_once('=') else {
            let words: Vec<&str> = WORDS.iter().map(|(word, _)| *word).collect();
            return Err(format!(
                "`{text}` is no fault class; known are {}, status=NNN, retry-after=SECONDS, retry-after-date=SECONDS, redirect=URL",
                words.join(", ")
            ));
        };
        let number = || value.parse::<u32>().map_err(|_| format!("`{name}` needs a number, not `{value}`"));
        match name {
            "status" => match value.parse::<u16>() {
                Ok(status) if (400..=599).contains(&status) => Ok(Class::Status(status)),
                Ok(_) | Err(_) => Err(format!("`status` needs a number from 400 to 599, not `{value}`")),
            },
            "retry-after" => Ok(Class::RetryAfter(number()?)),
            "retry-after-date" => Ok(Class::RetryAfterDate(number()?)),
            "redirect" if http::HeaderValue::from_str(value).is_ok() && !value.is_empty() => {
                Ok(Class::Redirect(value.to_owned()))
            }
            "redirect" => Err(format!("`redirect` needs an address, not `{value}`")),
            other => Err(format!("`{other}` is no fault class with a value")),
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((word, _)) = WORDS.iter().find(|(_, class)| class == self) {
            return out.write_str(word);
        }
        if let Class::Status(status) = self {
            write!(out, "status={status}")
        } else if let Class::RetryAfter(seconds) = self {
            write!(out, "retry-after={seconds}")
        } else if let Class::RetryAfterDate(seconds) = self {
            write!(out, "retry-after-date={seconds}")
        } else if let Class::Redirect(address) = self {
            write!(out, "redirect={address}")
        } else {
            // Only a class missing from WORDS gets here; the test over the catalogue finds it.
            write!(out, "{self:?}")
        }
    }
}

/// One rule: the class, and which calls it strikes. Made by [`Rule::parse`] only, so every rule makes sense.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    operation: String,
    class: Class,
    phase: Phase,
    nth: u32,
    times: Option<u32>,
}

impl Rule {
    /// Reads `OPERATION=CLASS[,phase=before|after][,nth=N][,times=M|forever]`. The operation may end in `*`.
    /// Defaults: before the effect, the first matching call, once.
    ///
    /// # Errors
    /// A sentence that names the part that could not be read.
    pub fn parse(text: &str) -> Result<Rule, String> {
        let mut parts = text.trim().split(',');
        let head = parts.next().unwrap_or_default();
        let Some((operation, class)) = head.split_once('=') else {
            return Err(format!(
                "`{text}` is no fault rule: it has the form OPERATION=CLASS[,phase=…][,nth=…][,times=…]"
            ));
        };
        let named = operation.strip_suffix('*').unwrap_or(operation);
        if operation.is_empty() || named.contains('*') {
            return Err(format!("`{operation}` is no operation: it may end in `*`, and must not be empty"));
        }
        let class = Class::parse(class)?;
        let (mut phase, mut nth, mut times) = (None, 1, Some(1));
        for part in parts {
            match part.split_once('=') {
                Some(("phase", "before")) => phase = Some(Phase::Before),
                Some(("phase", "after")) => phase = Some(Phase::After),
                Some(("nth", value)) => nth = positive("nth", value)?,
                Some(("times", "forever")) => times = None,
                Some(("times", value)) => times = Some(positive("times", value)?),
                Some(_) | None => {
                    return Err(format!(
                        "`{part}` is not understood: known are phase=before|after, nth=N, times=M|forever"
                    ));
                }
            }
        }
        let usual = if class.shows_the_truth() { Phase::After } else { Phase::Before };
        let phase = phase.unwrap_or(usual);
        if !class.allows(phase) {
            return Err(match phase {
                Phase::Before => format!("`{class}` has an effect by its nature, so phase=before does not go with it"),
                Phase::After => format!("`{class}` never reaches the service, so phase=after does not go with it"),
            });
        }
        Ok(Rule { operation: operation.to_owned(), class, phase, nth, times })
    }

    /// The operation that is struck, perhaps ending in `*`.
    pub fn operation(&self) -> &str {
        &self.operation
    }

    /// How the call goes wrong.
    pub fn class(&self) -> &Class {
        &self.class
    }

    /// Before or after the effect.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    pub(super) fn matches(&self, operation: &str) -> bool {
        match self.operation.strip_suffix('*') {
            Some(beginning) => operation.starts_with(beginning),
            None => operation == self.operation,
        }
    }
}

fn positive(name: &str, value: &str) -> Result<u32, String> {
    match value.parse::<u32>() {
        Ok(number) if number > 0 => Ok(number),
        Ok(_) | Err(_) => Err(format!("`{name}` needs a number from 1, not `{value}`")),
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Rule { operation, class, phase, nth, times } = self;
        let phase = match phase {
            Phase::Before => "before",
            Phase::After => "after",
        };
        write!(out, "{operation}={class},phase={phase},nth={nth},times=")?;
        match times {
            Some(times) => write!(out, "{times}"),
            None => out.write_str("forever"),
        }
    }
}

/// The rules in force, each with the calls it has seen since it was added.
#[derive(Clone, Debug, Default)]
pub(super) struct Faults(Vec<(Rule, u32)>);

impl Faults {
    pub(super) fn add(&mut self, rule: Rule) {
        self.0.push((rule, 0));
    }

    /// Counts this call with every rule that it matches; the oldest rule that is due strikes.
    pub(super) fn strike(&mut self, operation: &str) -> Option<(Class, Phase)> {
        let mut struck = None;
        for (rule, seen) in &mut self.0 {
            if !rule.matches(operation) {
                continue;
            }
            *seen = seen.saturating_add(1);
            let due = *seen >= rule.nth && rule.times.is_none_or(|times| *seen - rule.nth < times);
            if due && struck.is_none() {
                struck = Some((rule.class.clone(), rule.phase));
            }
        }
        struck
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_of_the_catalogue_survives_being_written_and_read() {
        for class in Class::catalogue() {
            for phase in [Phase::Before, Phase::After] {
                let word = if phase == Phase::Before { "before" } else { "after" };
                let text = format!("dbt:jobs/run={class},phase={word},nth=2,times=forever");
                match Rule::parse(&text) {
                    Ok(rule) => {
                        assert!(class.allows(phase), "{text}");
                        assert_eq!(rule.to_string(), text);
                        assert_eq!(Rule::parse(&rule.to_string()), Ok(rule));
                    }
                    Err(said) => assert!(!class.allows(phase), "{text}: {said}"),
                }
            }
        }
    }

    #[test]
    fn a_rule_strikes_before_the_effect_the_first_time_and_once_unless_told_otherwise() {
        let rule = Rule::parse("dbt:jobs/run=reset").expect("a rule");
        assert_eq!(rule.to_string(), "dbt:jobs/run=reset,phase=before,nth=1,times=1");
        let mut faults = Faults::default();
        faults.add(rule);
        assert_eq!(faults.strike("dbt:runs/get"), None);
        assert_eq!(faults.strike("dbt:jobs/run"), Some((Class::Reset, Phase::Before)));
        assert_eq!(faults.strike("dbt:jobs/run"), None);
    }

    #[test]
    fn a_rule_counts_only_calls_of_its_own_operations_and_only_since_it_was_added() {
        let mut faults = Faults::default();
        faults.strike("databricks:secrets/put");
        faults.add(Rule::parse("databricks:secrets/*=status=500,nth=2,times=2,phase=after").expect("a rule"));
        let struck: Vec<bool> = ["secrets/put", "jobs/get", "secrets/list", "secrets/acls/put", "secrets/put"]
            .iter()
            .map(|operation| faults.strike(&format!("databricks:{operation}")).is_some())
            .collect();
        assert_eq!(struck, [false, false, true, true, false]);
    }

    #[test]
    fn the_oldest_rule_that_is_due_wins_and_the_others_count_on() {
        let mut faults = Faults::default();
        faults.add(Rule::parse("dbt:*=reset").expect("a rule"));
        faults.add(Rule::parse("dbt:runs/get=close,nth=2").expect("a rule"));
        assert_eq!(faults.strike("dbt:runs/get"), Some((Class::Reset, Phase::Before)));
        assert_eq!(faults.strike("dbt:runs/get"), Some((Class::Close, Phase::Before)));
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_name() {
        for (text, named) in [
            ("reset", "OPERATION=CLASS"),
            ("=reset", "operation"),
            ("dbt:*runs*=reset", "`*`"),
            ("dbt:runs/get=bang", "`bang`"),
            ("dbt:runs/get=status=200", "400 to 599"),
            ("dbt:runs/get=retry-after=soon", "`soon`"),
            ("dbt:runs/get=reset,nth=0", "`nth`"),
            ("dbt:runs/get=reset,often", "`often`"),
            ("dbt:runs/get=refused,phase=after", "never reaches"),
            ("dbt:runs/get=kill-during,phase=before", "effect"),
        ] {
            let said = Rule::parse(text).expect_err(text);
            assert!(said.contains(named), "{text}: {said}");
        }
    }

    #[test]
    fn a_kill_in_the_middle_of_the_answer_comes_after_the_effect_by_itself() {
        assert_eq!(Rule::parse("dbt:jobs/run=kill-during").expect("a rule").phase(), Phase::After);
    }
}
