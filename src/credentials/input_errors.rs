//! Collects missing and invalid values, so that a command fails once and reports all of them.

use crate::failure::{Code, Failure, Hint};
use crate::questions::{OpenQuestions, Question};

/// A missing value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MissingInput {
    /// The value, such as `the host of your Databricks workspace`.
    pub(crate) what: &'static str,
    /// The flags and variables that provide it.
    pub(crate) give: &'static str,
    /// The question to prompt for it; `None` if an answer would not help.
    pub(crate) ask: Option<Question>,
}

/// The missing and invalid values of a command.
#[derive(Debug, Default)]
pub(crate) struct InputErrors {
    missing: Vec<MissingInput>,
    wrong: Vec<Failure>,
    remarks: Vec<String>,
    advice: Vec<String>,
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

    /// Adds another way to provide a missing value.
    pub(crate) fn advise(&mut self, advice: String) {
        if !self.advice.contains(&advice) {
            self.advice.push(advice);
        }
    }

    /// Adds URLs that may contain host and account, for prompts.
    pub(crate) fn pasted<'a>(&mut self, texts: impl Iterator<Item = &'a String>) {
        self.pasted.extend(texts.cloned());
    }

    /// Adds the contents of another collection.
    pub(crate) fn join(&mut self, other: InputErrors) {
        let InputErrors { missing, wrong, remarks, advice, pasted, tried } = other;
        for advice in advice {
            self.advise(advice);
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

    /// Fails if anything is missing or invalid, and reports all of it.
    pub(crate) fn settle(self) -> Result<(), Failure> {
        let InputErrors { missing, wrong, remarks, advice, pasted, tried } = self;
        let count = tried.len();
        let missing_lines: Vec<String> =
            missing.iter().map(|MissingInput { what, give, ask: _ }| format!("{what} is missing: {give}")).collect();
        if let [first, others @ ..] = wrong.as_slice() {
            // Several errors are listed as causes of one failure: none is the cause of another.
            let mut failure = match wrong.len() + missing_lines.len() {
                1 => first.clone(),
                count => {
                    let Failure { code, what, causes, hints, open: _ } = first.clone();
                    let failure = Failure::new(code, format!("{count} conflicts."));
                    Failure { causes: [vec![what], causes].concat(), hints, ..failure }
                }
            };
            for Failure { code: _, what, causes, hints, open: _ } in others.iter().cloned() {
                failure.causes.push(what);
                failure.causes.extend(causes);
                failure
                    .hints
                    .extend(hints.into_iter().filter(|hint| !failure.hints.contains(hint)).collect::<Vec<_>>());
            }
            failure.causes.extend(missing_lines.into_iter().chain(remarks).chain(tried));
            failure.open.tried = count;
            return Err(failure);
        }
        if missing.is_empty() {
            return Ok(());
        }
        let what = match missing_lines.len() {
            1 => "A value is missing.".to_owned(),
            count => format!("{count} values are missing."),
        };
        let mut failure = Failure::new(Code::MissingInput, what);
        failure.causes = missing_lines.into_iter().chain(remarks).chain(tried).collect();
        failure.open.tried = count;
        // Prompt only if every missing value can be prompted for; otherwise all answers would be in vain.
        if let Some(questions) = missing.into_iter().map(|missing| missing.ask).collect() {
            failure.open = OpenQuestions { questions, pasted, tried: count };
        }
        Err(advice.into_iter().fold(failure, Failure::advise).hint(Hint::GiveEach))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_asked_if_one_value_is_wrong_or_cannot_be_asked_for() {
        let missing = |ask| MissingInput { what: "A", give: "set A", ask };
        let (host, account) = (Some(Question::DbtHost), Some(Question::DbtAccount));
        let wrong = Err(Failure::new(Code::InvalidInput, "A is odd."));
        for (second, found, open) in [
            (account.clone(), Ok(None), vec![Question::DbtHost, Question::DbtAccount]),
            (None, Ok(None), vec![]),
            (account, wrong, vec![]),
        ] {
            let mut errors = InputErrors::default();
            errors.need::<()>(Ok(None), missing(host.clone()));
            errors.need::<()>(found, missing(second));
            assert_eq!(errors.settle().unwrap_err().open.questions, open);
        }
    }

    #[test]
    fn what_is_wrong_keeps_its_advice_beside_what_is_missing() {
        let mut errors = InputErrors::default();
        let wrong = |what: &str, advice: &str| Failure::new(Code::InvalidInput, what).advise(advice);
        for (what, advice) in [("A is odd.", "set A"), ("B is odd.", "set B"), ("C is odd.", "set B")] {
            assert_eq!(errors.optional::<()>(Err(wrong(what, advice))), None);
        }
        assert_eq!(errors.need::<()>(Ok(None), MissingInput { what: "D", give: "set D", ask: None }), None);
        errors.remark("D2 is set".to_owned());
        let failure = errors.settle().unwrap_err();
        assert_eq!((failure.code, failure.what.as_str()), (Code::InvalidInput, "4 conflicts."));
        assert_eq!(failure.causes, ["A is odd.", "B is odd.", "C is odd.", "D is missing: set D", "D2 is set"]);
        assert_eq!(failure.hints.iter().map(ToString::to_string).collect::<Vec<_>>(), ["set A", "set B"]);
    }
}
