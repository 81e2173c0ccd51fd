//! Collects missing and invalid values, so that a command fails once and reports all of them.

use std::borrow::Cow;

use crate::context::Environment;
use crate::failure::{Code, Failure, Hint};
use crate::http::Service;
use crate::questions::{OpenQuestions, Question};

/// A part of signing in to a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SignIn {
    DatabricksHost,
    DatabricksToken,
    DbtHost,
    DbtAccount,
    DbtToken,
}

impl SignIn {
    /// All of them, in the order in which they are named.
    const ALL: [SignIn; 5] =
        [SignIn::DatabricksHost, SignIn::DatabricksToken, SignIn::DbtHost, SignIn::DbtAccount, SignIn::DbtToken];

    fn service(self) -> Service {
        match self {
            SignIn::DatabricksHost | SignIn::DatabricksToken => Service::Databricks,
            SignIn::DbtHost | SignIn::DbtAccount | SignIn::DbtToken => Service::Dbt,
        }
    }

    fn variable(self) -> &'static str {
        match self {
            SignIn::DatabricksHost => "DATABRICKS_HOST",
            SignIn::DatabricksToken => "DATABRICKS_TOKEN",
            SignIn::DbtHost => "DBT_CLOUD_HOST",
            SignIn::DbtAccount => "DBT_CLOUD_ACCOUNT_ID",
            SignIn::DbtToken => "DBT_CLOUD_TOKEN",
        }
    }

    /// What is missing without it; without a token, one is not signed in at all.
    fn without(self) -> Result<&'static str, &'static str> {
        match self {
            SignIn::DatabricksHost => Ok("Databricks host"),
            SignIn::DbtHost => Ok("dbt host"),
            SignIn::DbtAccount => Ok("dbt account ID"),
            SignIn::DatabricksToken => Err("Databricks"),
            SignIn::DbtToken => Err("dbt"),
        }
    }
}

/// A missing value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MissingInput {
    what: Missing,
    /// The question to prompt for it; `None` if an answer would not help.
    ask: Option<Question>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Missing {
    /// Part of signing in to a service. All parts of one service are one line.
    SignIn {
        part: SignIn,
        /// Whether `auth login` helps.
        login: bool,
        /// A flag instead of the variable.
        flag: Option<&'static str>,
        /// What makes signing in unnecessary.
        or: Option<&'static str>,
    },
    /// Anything else, and how to provide it.
    Value { what: &'static str, give: Cow<'static, str> },
    /// The flag that confirms the plan.
    Confirmation,
}

impl MissingInput {
    /// A value that signing in to its service, or its variable, would give.
    pub(crate) fn sign_in(part: SignIn, environment: &Environment, ask: Option<Question>) -> MissingInput {
        let login = !environment.keyring().is_known_unusable();
        let flag = match part {
            SignIn::DbtHost | SignIn::DbtAccount => Some("pass --dbt-url URL"),
            SignIn::DatabricksHost | SignIn::DatabricksToken | SignIn::DbtToken => None,
        };
        MissingInput { what: Missing::SignIn { part, login, flag, or: None }, ask }
    }

    /// Any other value, and what to do: `pass --name NAME`.
    pub(crate) fn value(what: &'static str, give: impl Into<Cow<'static, str>>, ask: Option<Question>) -> MissingInput {
        MissingInput { what: Missing::Value { what, give: give.into() }, ask }
    }

    /// Confirmation of a plan, where no one can be asked.
    pub(crate) fn confirmation() -> MissingInput {
        MissingInput { what: Missing::Confirmation, ask: None }
    }

    /// What makes signing in unnecessary.
    pub(crate) fn or(mut self, way: &'static str) -> MissingInput {
        if let Missing::SignIn { or, .. } = &mut self.what {
            *or = Some(way);
        }
        self
    }

    /// It is given with the variable or this flag; a stored login does not count.
    pub(crate) fn given_with(mut self, with: &'static str) -> MissingInput {
        if let Missing::SignIn { login, flag, .. } = &mut self.what {
            (*login, *flag) = (false, Some(with));
        }
        self
    }
}

/// What is missing: "not signed in to dbt; no dbt job given; plan not confirmed".
fn missing_phrase(missing: &[MissingInput]) -> Option<String> {
    let (mut services, mut values) = (Vec::new(), Vec::new());
    let parts =
        |wanted: SignIn| missing.iter().any(|one| matches!(&one.what, Missing::SignIn { part, .. } if *part == wanted));
    for part in SignIn::ALL.into_iter().filter(|part| parts(*part)) {
        match part.without() {
            Ok(value) => values.push((part.service(), value)),
            Err(service) => services.push((part.service(), service)),
        }
    }
    // Not being signed in includes not knowing the host.
    values.retain(|(of, _)| !services.iter().any(|(service, _)| service == of));
    let services: Vec<&str> = services.into_iter().map(|(_, name)| name).collect();
    let mut values: Vec<&str> = values.into_iter().map(|(_, value)| value).collect();
    for one in missing {
        match &one.what {
            Missing::Value { what, give: _ } if !values.contains(what) => values.push(what),
            Missing::Value { .. } | Missing::SignIn { .. } | Missing::Confirmation => {}
        }
    }
    let signed_in = (!services.is_empty()).then(|| format!("not signed in to {}", listed(&services, "or")));
    let given = (!values.is_empty()).then(|| format!("no {} given", listed(&values, "or")));
    let is_unconfirmed = missing.iter().any(|one| one.what == Missing::Confirmation);
    let confirmed = is_unconfirmed.then(|| "plan not confirmed".to_owned());
    [signed_in, given, confirmed].into_iter().flatten().reduce(|first, second| format!("{first}; {second}"))
}

/// What to do: one line for each service, and one for each other value.
fn missing_hints(missing: &[MissingInput], profiles: &[String]) -> Vec<Hint> {
    let of_service = |service| sign_in_hint(service, missing, profiles);
    let mut hints: Vec<Hint> = [Service::Databricks, Service::Dbt].into_iter().filter_map(of_service).collect();
    for one in missing {
        match &one.what {
            Missing::SignIn { .. } => {}
            Missing::Value { what: _, give } => hints.push(Hint::Do(give.clone().into_owned())),
            Missing::Confirmation => {
                hints.push(Hint::Do("pass -y to apply the plan (--dry-run shows it first)".to_owned()));
            }
        }
    }
    hints
}

/// How to sign in to this service, reduced to what is missing.
fn sign_in_hint(service: Service, missing: &[MissingInput], profiles: &[String]) -> Option<Hint> {
    // Variables with the same flag are one group.
    let mut groups: Vec<(Vec<&str>, Option<&str>)> = Vec::new();
    let (mut helps, mut others) = (true, Vec::new());
    for wanted in SignIn::ALL.into_iter().filter(|part| part.service() == service) {
        let (mut is_missing, mut instead) = (false, None);
        for one in missing {
            match &one.what {
                Missing::SignIn { part, login, flag, or } if *part == wanted => {
                    is_missing = true;
                    helps &= login;
                    instead = instead.or(*flag);
                    others.extend(*or);
                }
                Missing::SignIn { .. } | Missing::Value { .. } | Missing::Confirmation => {}
            }
        }
        match groups.last_mut() {
            _ if !is_missing => {}
            Some((variables, flag)) if *flag == instead => variables.push(wanted.variable()),
            Some(_) | None => groups.push((vec![wanted.variable()], instead)),
        }
    }
    if groups.is_empty() {
        return None;
    }
    let group = |(variables, flag): (Vec<&str>, Option<&str>)| {
        let variables = listed(&variables, "and");
        flag.map_or(variables.clone(), |flag| format!("{variables} (or {flag})"))
    };
    let groups: Vec<String> = groups.into_iter().map(group).collect();
    let command = match service {
        Service::Databricks => "run `dbtrigger auth login --databricks`",
        Service::Dbt => "run `dbtrigger auth login`",
    };
    let mut ways: Vec<String> = helps.then(|| command.to_owned()).into_iter().collect();
    ways.push(format!("set {}", groups.join(", and ")));
    ways.extend(others.into_iter().map(ToOwned::to_owned));
    if service == Service::Databricks && !profiles.is_empty() {
        ways.push(format!("pick a profile with -p: {}", profiles.join(", ")));
    }
    let last = ways.pop()?;
    Some(Hint::Do(if ways.is_empty() { last } else { format!("{}, or {last}", ways.join(", ")) }))
}

/// `a`, `a and b`, `a, b, and c`.
fn listed(words: &[&str], last: &str) -> String {
    match words {
        [] => String::new(),
        [only] => (*only).to_owned(),
        [first, second] => format!("{first} {last} {second}"),
        [rest @ .., end] => format!("{}, {last} {end}", rest.join(", ")),
    }
}

/// The missing and invalid values of a command.
#[derive(Debug, Default)]
pub(crate) struct InputErrors {
    missing: Vec<MissingInput>,
    wrong: Vec<Failure>,
    remarks: Vec<String>,
    /// Profiles that could be picked.
    profiles: Vec<String>,
    pasted: Vec<String>,
    /// Where values were looked for, and why they were not found there.
    tried: Vec<String>,
}

impl InputErrors {
    /// Returns the value of a lookup, or records it as missing or failed.
    pub(crate) fn need<T>(&mut self, found: Result<Option<T>, Failure>, missing: MissingInput) -> Option<T> {
        match found {
            Ok(Some(value)) => Some(value),
            Ok(None) => {
                self.missing.push(missing);
                None
            }
            Err(failure) => {
                self.fail(failure);
                None
            }
        }
    }

    /// Ignores duplicates: two lookups may fail for the same reason.
    fn fail(&mut self, failure: Failure) {
        if !self.wrong.contains(&failure) {
            self.wrong.push(failure);
        }
    }

    /// Like `need`, but the value may be absent.
    pub(crate) fn optional<T>(&mut self, found: Result<Option<T>, Failure>) -> Option<T> {
        found.unwrap_or_else(|failure| {
            self.fail(failure);
            None
        })
    }

    /// Adds a remark shown if values are missing, such as variables of other tools that are set.
    pub(crate) fn remark(&mut self, remark: String) {
        // Two lookups may cause the same remark.
        if !self.remarks.contains(&remark) {
            self.remarks.push(remark);
        }
    }

    /// Adds where a missing value was looked for.
    pub(crate) fn tried(&mut self, row: String) {
        if !self.tried.contains(&row) {
            self.tried.push(row);
        }
    }

    /// Sets the profiles that would provide what is missing for Databricks.
    pub(crate) fn profiles(&mut self, names: Vec<String>) {
        self.profiles = names;
    }

    /// Adds URLs that may contain host and account, for prompts.
    pub(crate) fn pasted<'a>(&mut self, texts: impl Iterator<Item = &'a String>) {
        self.pasted.extend(texts.cloned());
    }

    /// Adds the contents of another collection.
    pub(crate) fn join(&mut self, other: InputErrors) {
        let InputErrors { missing, wrong, remarks, profiles, pasted, tried } = other;
        if !profiles.is_empty() {
            self.profiles = profiles;
        }
        self.pasted.extend(pasted);
        self.missing.extend(missing);
        for failure in wrong {
            self.fail(failure);
        }
        self.remarks.extend(remarks);
        for row in tried {
            self.tried(row);
        }
    }

    /// Whether nothing is missing or invalid.
    pub(crate) fn is_settled(&self) -> bool {
        self.missing.is_empty() && self.wrong.is_empty()
    }

    /// Number of missing values.
    pub(crate) fn count_missing(&self) -> usize {
        self.missing.len()
    }

    /// Whether a given value is invalid. Missing values do not count: they may turn out not to be needed.
    pub(crate) fn has_wrong(&self) -> bool {
        !self.wrong.is_empty()
    }

    /// The value, if nothing is missing or invalid.
    pub(crate) fn settled<T>(self, value: Option<T>) -> Result<T, Failure> {
        self.settle()?;
        value.ok_or_else(|| Failure::new(Code::Bug, "a value is missing without an error"))
    }

    /// Fails if anything is missing or invalid, and reports all of it.
    pub(crate) fn settle(self) -> Result<(), Failure> {
        let InputErrors { missing, wrong, remarks, profiles, pasted, tried } = self;
        let count = tried.len();
        let missing_phrase = missing_phrase(&missing);
        let missing_hints = missing_hints(&missing, &profiles);
        if let [first, others @ ..] = wrong.as_slice() {
            // Several errors are listed as causes of one failure: none is the cause of another.
            let mut failure = match wrong.len() + missing_hints.len() {
                1 => first.clone(),
                count => {
                    let Failure { code, what, causes, hints, open_questions: _ } = first.clone();
                    let failure = Failure::new(code, format!("{count} conflicts"));
                    Failure { causes: [vec![what], causes].concat(), hints, ..failure }
                }
            };
            for Failure { code: _, what, causes, hints, open_questions: _ } in others.iter().cloned() {
                failure.causes.push(what);
                failure.causes.extend(causes);
                failure
                    .hints
                    .extend(hints.into_iter().filter(|hint| !failure.hints.contains(hint)).collect::<Vec<_>>());
            }
            failure.hints.extend(missing_hints);
            failure.causes.extend(missing_phrase.into_iter().chain(remarks).chain(tried));
            failure.open_questions.tried = count;
            return Err(failure);
        }
        let Some(what) = missing_phrase else { return Ok(()) };
        let mut failure = Failure::new(Code::MissingInput, what);
        failure.hints = missing_hints;
        failure.causes = remarks.into_iter().chain(tried).collect();
        failure.open_questions.tried = count;
        // Prompt only if every missing value can be prompted for; otherwise all answers would be in vain.
        if let Some(questions) = missing.into_iter().map(|missing| missing.ask).collect() {
            failure.open_questions = OpenQuestions { questions, pasted, tried: count };
        }
        Err(failure)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_asked_if_one_value_is_wrong_or_cannot_be_asked_for() {
        let missing = |ask| MissingInput::value("A", "set A", ask);
        let (host, account) = (Some(Question::DbtHost), Some(Question::DbtAccount));
        let wrong = Err(Failure::new(Code::InvalidInput, "A is odd"));
        for (second, found, open) in [
            (account.clone(), Ok(None), vec![Question::DbtHost, Question::DbtAccount]),
            (None, Ok(None), vec![]),
            (account, wrong, vec![]),
        ] {
            let mut errors = InputErrors::default();
            errors.need::<()>(Ok(None), missing(host.clone()));
            errors.need::<()>(found, missing(second));
            assert_eq!(errors.settle().unwrap_err().open_questions.questions, open);
        }
    }

    #[test]
    fn what_is_wrong_keeps_its_advice_beside_what_is_missing() {
        let mut errors = InputErrors::default();
        let wrong = |what: &str, advice: &str| Failure::new(Code::InvalidInput, what).advise(advice);
        for (what, advice) in [("A is odd", "set A"), ("B is odd", "set B"), ("C is odd", "set B")] {
            assert_eq!(errors.optional::<()>(Err(wrong(what, advice))), None);
        }
        assert_eq!(errors.need::<()>(Ok(None), MissingInput::value("D", "set D", None)), None);
        errors.remark("D2 is set".to_owned());
        let failure = errors.settle().unwrap_err();
        assert_eq!((failure.code, failure.what.as_str()), (Code::InvalidInput, "4 conflicts"));
        assert_eq!(failure.causes, ["A is odd", "B is odd", "C is odd", "no D given", "D2 is set"]);
        assert_eq!(failure.hints.iter().map(ToString::to_string).collect::<Vec<_>>(), ["set A", "set B", "set D"]);
    }

    #[test]
    fn what_is_missing_is_one_line_and_each_service_one_next_step() {
        let environment = Environment::default();
        let part = |part| MissingInput::sign_in(part, &environment, None);
        let value = |what, give: &'static str| MissingInput::value(what, give, None);
        let key = part(SignIn::DbtToken).given_with("--token-stdin/--token-file");
        for (missing, what, next) in [
            (vec![part(SignIn::DbtAccount)], "no dbt account ID given", vec!["DBT_CLOUD_ACCOUNT_ID (or pass"]),
            (
                vec![key, part(SignIn::DbtHost), part(SignIn::DbtAccount), value("A", "set A")],
                "not signed in to dbt; no A given",
                vec![
                    "set DBT_CLOUD_HOST and DBT_CLOUD_ACCOUNT_ID (or pass --dbt-url URL), and DBT_CLOUD_TOKEN (or --token-stdin/--token-file)",
                    "set A",
                ],
            ),
            (
                vec![part(SignIn::DatabricksHost), part(SignIn::DatabricksToken), part(SignIn::DbtToken).or("set B")],
                "not signed in to Databricks or dbt",
                vec![
                    "DATABRICKS_HOST and DATABRICKS_TOKEN, or pick a profile with -p: dev",
                    "DBT_CLOUD_TOKEN, or set B",
                ],
            ),
        ] {
            let mut errors = InputErrors::default();
            errors.profiles(vec!["dev".to_owned()]);
            for one in missing {
                errors.need::<()>(Ok(None), one);
            }
            let failure = errors.settle().unwrap_err();
            assert_eq!((failure.code, failure.what.as_str()), (Code::MissingInput, what));
            assert_eq!(failure.hints.len(), next.len(), "{:?}", failure.hints);
            for (hint, next) in failure.hints.iter().zip(next) {
                assert!(hint.to_string().ends_with(next) || hint.to_string().contains(next), "{hint} {next}");
            }
        }
    }
}
