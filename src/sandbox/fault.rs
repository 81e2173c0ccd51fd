//! Fault rules: which calls of which operation fail, when, and how.
//!
//! A rule is written `OPERATION=CLASS[,phase=before|after][,nth=N][,times=M|forever]`. `--fault` and the scripts of the
//! protocol tests share this form, so a failure seen in one can be reproduced in the other.

use std::fmt;

/// When a fault strikes, relative to the effect of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The request has no effect.
    Before,
    /// The effect has happened; only the response is broken.
    After,
}

/// How a connection breaks, before or within the true response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// The host name does not resolve. In memory only: no accepted connection can show it.
    NoName,
    /// Connection refused. In memory only.
    Refused,
    /// Packets are dropped and no connection is made. In memory only.
    Blackhole,
    /// The TLS handshake fails. In memory only.
    Tls,
    /// RST before any byte of a response.
    Reset,
    /// FIN before any byte of a response.
    Close,
    /// No byte ever arrives; the connection stays open.
    Hang,
    /// The head, then RST.
    ResetAfterHead,
    /// The head and half of the body, then RST.
    ResetInBody,
    /// The head, then silence on an open connection.
    Silence,
    /// The head and half of the body, then FIN.
    Truncated,
    /// The response, one byte per second.
    Drip,
    /// The whole response; the connection looks alive and is reset when it is used again: a stale keep-alive.
    Stale,
    /// Status 200 and an endless body: 1 GiB announced and streamed on sockets, more than any client's cap in memory.
    Huge,
    /// The caller is killed before any byte is sent.
    Kill,
    /// The effect happens, the head and half of the body are sent, then the caller is killed.
    KillDuring,
}

impl Cut {
    /// Returns its word in fault rules and in the log.
    pub fn name(self) -> &'static str {
        WORDS.iter().find(|(_, class)| *class == FaultKind::Cut(self)).map_or("", |(word, _)| word)
    }
}

/// How a call fails: the fault catalogue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// The connection breaks.
    Cut(Cut),
    /// This HTTP status with the service's usual error body (502 and 504: an HTML page, 503: empty).
    Status(u16),
    /// 429 with `Retry-After` in seconds.
    RetryAfter(u32),
    /// 429 with `Retry-After` as an HTTP date this many seconds from now.
    RetryAfterDate(u32),
    /// 429 with `Retry-After: 999999999`.
    RetryAfterHuge,
    /// 307 to this address.
    Redirect(String),
    /// 200 with an HTML login page.
    Login,
    /// 200 without a body.
    Empty,
    /// 200 with a body that is not UTF-8.
    BadUtf8,
    /// 200 with 100,000 nested arrays.
    Deep,
    /// 200 with a valid envelope but no content.
    MissingField,
    /// 200 with unknown statuses.
    UnknownStatus,
    /// 200 with null content.
    NullData,
    /// 200 with content of the wrong type.
    WrongType,
    /// 200 with `Content-Encoding: gzip`, small on the wire, 64 MiB uncompressed.
    GzipBomb,
}

/// Classes written as one word.
const WORDS: &[(&str, FaultKind)] = &[
    ("no-name", FaultKind::Cut(Cut::NoName)),
    ("refused", FaultKind::Cut(Cut::Refused)),
    ("blackhole", FaultKind::Cut(Cut::Blackhole)),
    ("tls", FaultKind::Cut(Cut::Tls)),
    ("reset", FaultKind::Cut(Cut::Reset)),
    ("close", FaultKind::Cut(Cut::Close)),
    ("hang", FaultKind::Cut(Cut::Hang)),
    ("reset-after-head", FaultKind::Cut(Cut::ResetAfterHead)),
    ("reset-in-body", FaultKind::Cut(Cut::ResetInBody)),
    ("silence", FaultKind::Cut(Cut::Silence)),
    ("truncated", FaultKind::Cut(Cut::Truncated)),
    ("drip", FaultKind::Cut(Cut::Drip)),
    ("stale", FaultKind::Cut(Cut::Stale)),
    ("retry-after-huge", FaultKind::RetryAfterHuge),
    ("login", FaultKind::Login),
    ("empty", FaultKind::Empty),
    ("bad-utf8", FaultKind::BadUtf8),
    ("huge", FaultKind::Cut(Cut::Huge)),
    ("deep", FaultKind::Deep),
    ("missing-field", FaultKind::MissingField),
    ("unknown-status", FaultKind::UnknownStatus),
    ("null-data", FaultKind::NullData),
    ("wrong-type", FaultKind::WrongType),
    ("gzip-bomb", FaultKind::GzipBomb),
    ("kill", FaultKind::Cut(Cut::Kill)),
    ("kill-during", FaultKind::Cut(Cut::KillDuring)),
];

impl FaultKind {
    /// Whether an accepted connection can show this class. The others need a transport in memory.
    pub fn on_sockets(&self) -> bool {
        !matches!(self, FaultKind::Cut(Cut::NoName | Cut::Refused | Cut::Blackhole | Cut::Tls))
    }

    /// Whether this class can strike in `phase`: a request that never reaches the service has no effect, and a class
    /// that sends the true response implies one.
    pub fn allows(&self, phase: Phase) -> bool {
        match phase {
            Phase::Before => !self.sends_true_response(),
            Phase::After => self.on_sockets(),
        }
    }

    /// Whether part or all of the true response is sent, so the effect must have happened.
    fn sends_true_response(&self) -> bool {
        matches!(self, FaultKind::Cut(Cut::KillDuring | Cut::Stale))
    }

    fn parse(text: &str) -> Result<FaultKind, String> {
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
                Ok(status) if (400..=599).contains(&status) => Ok(FaultKind::Status(status)),
                Ok(_) | Err(_) => Err(format!("`status` needs a number from 400 to 599, not `{value}`")),
            },
            "retry-after" => Ok(FaultKind::RetryAfter(number()?)),
            "retry-after-date" => Ok(FaultKind::RetryAfterDate(number()?)),
            "redirect" if http::HeaderValue::from_str(value).is_ok() && !value.is_empty() => {
                Ok(FaultKind::Redirect(value.to_owned()))
            }
            "redirect" => Err(format!("`redirect` needs an address, not `{value}`")),
            other => Err(format!("`{other}` is no fault class with a value")),
        }
    }
}

#[cfg(test)]
impl FaultKind {
    /// Returns every class once; those with a value as one example.
    pub(crate) fn catalogue() -> Vec<FaultKind> {
        // Statuses for which the sandbox has an error body of both services.
        const STATUSES: &[u16] = &[400, 401, 403, 404, 405, 408, 409, 422, 425, 429, 500, 501, 502, 503, 504];
        let mut all: Vec<FaultKind> = WORDS.iter().map(|(_, class)| class.clone()).collect();
        all.extend(STATUSES.iter().copied().map(FaultKind::Status));
        all.extend([
            FaultKind::RetryAfter(7),
            FaultKind::RetryAfterDate(7),
            FaultKind::Redirect("https://elsewhere.invalid/".to_owned()),
        ]);
        all
    }

    /// Whether this response means that the service did nothing: 4xx except 408, and redirects.
    /// Both services keep to that, so such a class with [`Phase::After`] on a write simulates a service that lies.
    pub(crate) fn denies_effect(&self) -> bool {
        if let FaultKind::Status(status) = self {
            return (400..500).contains(status) && *status != 408;
        }
        matches!(
            self,
            FaultKind::RetryAfter(_)
                | FaultKind::RetryAfterDate(_)
                | FaultKind::RetryAfterHuge
                | FaultKind::Redirect(_)
        )
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((word, _)) = WORDS.iter().find(|(_, class)| class == self) {
            return out.write_str(word);
        }
        if let FaultKind::Status(status) = self {
            write!(out, "status={status}")
        } else if let FaultKind::RetryAfter(seconds) = self {
            write!(out, "retry-after={seconds}")
        } else if let FaultKind::RetryAfterDate(seconds) = self {
            write!(out, "retry-after-date={seconds}")
        } else if let FaultKind::Redirect(address) = self {
            write!(out, "redirect={address}")
        } else {
            // Unreachable unless a class is missing from WORDS, which the catalogue test detects.
            write!(out, "{self:?}")
        }
    }
}

/// A fault rule: a class and the calls it strikes. Only [`FaultRule::parse`] makes one, so every rule is valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FaultRule {
    operation: String,
    class: FaultKind,
    phase: Phase,
    nth: u32,
    times: Option<u32>,
}

impl FaultRule {
    /// Parses `OPERATION=CLASS[,phase=before|after][,nth=N][,times=M|forever]`. The operation may end in `*`. Defaults:
    /// before the effect (after it for classes that imply one), the first matching call, once.
    ///
    /// # Errors
    /// A sentence that names the part that could not be parsed.
    pub fn parse(text: &str) -> Result<FaultRule, String> {
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
        let class = FaultKind::parse(class)?;
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
        let usual = if class.sends_true_response() { Phase::After } else { Phase::Before };
        let phase = phase.unwrap_or(usual);
        if !class.allows(phase) {
            return Err(match phase {
                Phase::Before => format!("`{class}` has an effect by its nature, so phase=before does not go with it"),
                Phase::After => format!("`{class}` never reaches the service, so phase=after does not go with it"),
            });
        }
        Ok(FaultRule { operation: operation.to_owned(), class, phase, nth, times })
    }

    /// Returns how the call fails.
    pub fn class(&self) -> &FaultKind {
        &self.class
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

impl fmt::Display for FaultRule {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let FaultRule { operation, class, phase, nth, times } = self;
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

/// The rules in force, each with the number of matching calls since it was added.
#[derive(Clone, Debug, Default)]
pub(super) struct Faults(Vec<(FaultRule, u32)>);

impl Faults {
    pub(super) fn add(&mut self, rule: FaultRule) {
        self.0.push((rule, 0));
    }

    /// Counts this call for every matching rule and returns the fault of the oldest rule that is due.
    pub(super) fn next_fault(&mut self, operation: &str) -> Option<(FaultKind, Phase)> {
        let mut found = None;
        for (rule, seen) in &mut self.0 {
            if !rule.matches(operation) {
                continue;
            }
            *seen = seen.saturating_add(1);
            let due = *seen >= rule.nth && rule.times.is_none_or(|times| *seen - rule.nth < times);
            if due && found.is_none() {
                found = Some((rule.class.clone(), rule.phase));
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_of_the_catalogue_survives_being_written_and_read() {
        for class in FaultKind::catalogue() {
            for phase in [Phase::Before, Phase::After] {
                let word = if phase == Phase::Before { "before" } else { "after" };
                let text = format!("dbt:jobs/run={class},phase={word},nth=2,times=forever");
                match FaultRule::parse(&text) {
                    Ok(rule) => {
                        assert!(class.allows(phase), "{text}");
                        assert_eq!(rule.to_string(), text);
                        assert_eq!(FaultRule::parse(&rule.to_string()), Ok(rule));
                    }
                    Err(said) => assert!(!class.allows(phase), "{text}: {said}"),
                }
            }
        }
    }

    #[test]
    fn a_rule_strikes_before_the_effect_the_first_time_and_once_unless_told_otherwise() {
        let rule = FaultRule::parse("dbt:jobs/run=reset").expect("a rule");
        assert_eq!(rule.to_string(), "dbt:jobs/run=reset,phase=before,nth=1,times=1");
        let mut faults = Faults::default();
        faults.add(rule);
        assert_eq!(faults.next_fault("dbt:runs/get"), None);
        assert_eq!(faults.next_fault("dbt:jobs/run"), Some((FaultKind::Cut(Cut::Reset), Phase::Before)));
        assert_eq!(faults.next_fault("dbt:jobs/run"), None);
    }

    #[test]
    fn a_rule_counts_only_calls_of_its_own_operations_and_only_since_it_was_added() {
        let mut faults = Faults::default();
        faults.next_fault("databricks:secrets/put");
        faults.add(FaultRule::parse("databricks:secrets/*=status=500,nth=2,times=2,phase=after").expect("a rule"));
        let struck: Vec<bool> = ["secrets/put", "jobs/get", "secrets/list", "secrets/acls/put", "secrets/put"]
            .iter()
            .map(|operation| faults.next_fault(&format!("databricks:{operation}")).is_some())
            .collect();
        assert_eq!(struck, [false, false, true, true, false]);
    }

    #[test]
    fn the_oldest_rule_that_is_due_wins_and_the_others_count_on() {
        let mut faults = Faults::default();
        faults.add(FaultRule::parse("dbt:*=reset").expect("a rule"));
        faults.add(FaultRule::parse("dbt:runs/get=close,nth=2").expect("a rule"));
        assert_eq!(faults.next_fault("dbt:runs/get"), Some((FaultKind::Cut(Cut::Reset), Phase::Before)));
        assert_eq!(faults.next_fault("dbt:runs/get"), Some((FaultKind::Cut(Cut::Close), Phase::Before)));
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
            let said = FaultRule::parse(text).expect_err(text);
            assert!(said.contains(named), "{text}: {said}");
        }
    }

    #[test]
    fn a_kill_in_the_middle_of_the_answer_comes_after_the_effect_by_itself() {
        assert_eq!(FaultRule::parse("dbt:jobs/run=kill-during").expect("a rule").phase, Phase::After);
    }
}
