//! Tags, email addresses and overrides of a workflow.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::setting::Setting;
use crate::dbt::{FIELDS, Field, Kind, Together, wrong_together};
use crate::failure::{Code, Failure};

/// Tags that dbtrigger sets.
const OUR_TAGS: [&str; 3] = ["managed-by", "dbtrigger-id", "dbtrigger-settings"];

fn wrong(flag: &str, text: &str, reason: &str) -> Failure {
    Failure::new(Code::InvalidInput, format!("{flag} \"{text}\" is invalid: {reason}"))
}

/// Job tags become cluster tags, so their rules apply.
pub(crate) fn tags(given: Vec<String>) -> Result<BTreeMap<String, String>, Failure> {
    let mut tags = BTreeMap::new();
    for text in given {
        let wrong =
            |reason: &str| wrong("--tag", &text, reason).advise("use --tag KEY=VALUE, such as --tag team=finance");
        let (key, value) = text.split_once('=').ok_or_else(|| wrong("it has no = between key and value"))?;
        let plain = |text: &str| text.chars().all(|sign| sign.is_ascii_alphanumeric() || " +-=._:/@".contains(sign));
        if key.is_empty() || key.len() > 127 {
            return Err(wrong("a key must have 1 to 127 characters"));
        }
        if value.len() > 255 {
            return Err(wrong("a value may have at most 255 characters"));
        }
        if !plain(key) || !plain(value) {
            return Err(wrong("Databricks allows only ASCII letters, digits, spaces, and + - = . _ : / @"));
        }
        if OUR_TAGS.iter().any(|ours| ours.eq_ignore_ascii_case(key)) {
            return Err(wrong("dbtrigger finds its workflows by this tag"));
        }
        if tags.insert(key.to_owned(), value.to_owned()).is_some_and(|before| before != value) {
            return Err(wrong("the same key is given with another value"));
        }
    }
    Ok(tags)
}

/// Checks `--notify`, and sorts the addresses.
pub(crate) fn addresses(given: Vec<Setting<String>>) -> Result<Setting<Vec<String>>, Failure> {
    let mut given = Setting::list("--notify", "none", given)?;
    let Setting::Set(all) = &mut given else { return Ok(given) };
    for text in &*all {
        let sides =
            text.split_once('@').filter(|(name, host)| !name.is_empty() && !host.is_empty() && !host.contains('@'));
        let odd = text.chars().any(|sign| sign.is_whitespace() || sign.is_control() || ",;<>\"".contains(sign));
        if sides.is_none() || odd || text.len() > 320 {
            return Err(wrong("--notify", text, "it is not a single email address")
                .advise("pass one address at a time, such as --notify ops@example.com; `none` clears"));
        }
    }
    all.sort_unstable();
    all.dedup();
    Ok(given)
}

/// Overrides in the notebook's format.
pub(crate) fn overrides(given: Vec<Setting<String>>) -> Result<Setting<Map<String, Value>>, Failure> {
    let given = match Setting::list("--override", "none", given)? {
        Setting::Keep => return Ok(Setting::Keep),
        Setting::Set(given) => given,
        Setting::Clear => return Ok(Setting::Clear),
    };
    // Sorted by key, so that the order of the flags makes no difference.
    let mut all: BTreeMap<String, Value> = BTreeMap::new();
    for text in given {
        let wrong = |reason: &str| wrong("--override", &text, reason);
        let Some((name, value)) = text.split_once('=') else {
            return Err(wrong("it has no = between key and value").advise("use --override git_branch=main"));
        };
        let Some(&Field { name, kind, .. }) = Field::named(name) else {
            let names: Vec<&str> = FIELDS.iter().map(|field| field.name).collect();
            return Err(wrong("dbt has no such override").advise(format!("the overrides are {}", names.join(", "))));
        };
        if value.trim().is_empty() {
            return Err(wrong("its value is empty"));
        }
        if value.contains("{{") {
            return Err(wrong("Databricks would substitute {{ }}, so whoever starts the workflow could change it"));
        }
        let read = match kind {
            Kind::Text => json!(value),
            Kind::Number | Kind::Seconds => match value.parse::<u64>() {
                Ok(number @ 1..) => json!(number),
                Ok(0) | Err(_) => return Err(wrong("its value must be a whole number of at least 1")),
            },
            Kind::Flag => match value {
                "true" => json!(true),
                "false" => json!(false),
                _ => return Err(wrong("its value must be true or false")),
            },
            Kind::Texts => {
                let steps = all.entry(name.to_owned()).or_insert_with(|| json!([]));
                steps.as_array_mut().into_iter().for_each(|steps| steps.push(json!(value)));
                continue;
            }
        };
        if all.insert(name.to_owned(), read).is_some() {
            return Err(wrong("the same key is given more than once"));
        }
    }
    match wrong_together(|name| all.contains_key(name)) {
        None => Ok(Setting::Set(all.into_iter().collect())),
        Some(Together::TwoPullRequests(one, other)) => {
            let what = format!("--override {} conflicts with {}: a run is for one pull request", one.name, other.name);
            Err(Failure::new(Code::Contradiction, what).advise("drop one of them"))
        }
        Some(Together::NoCommit(one)) => {
            let what =
                format!("--override {} requires git_sha or git_branch: dbt does not look up the commit", one.name);
            Err(Failure::new(Code::Usage, what).advise("add --override git_sha=COMMIT or --override git_branch=BRANCH"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(given: &[&str]) -> Vec<String> {
        given.iter().map(|text| (*text).to_owned()).collect()
    }

    fn given(given: &[&str]) -> Vec<Setting<String>> {
        given.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn tags_that_databricks_would_refuse_or_that_are_ours_are_refused_here() {
        let good = tags(owned(&["team=finance", "a b=x=y", "empty=", "team=finance"])).unwrap();
        assert_eq!((good["team"].as_str(), good["a b"].as_str(), good["empty"].as_str()), ("finance", "x=y", ""));
        let (longest_key, longest_value) = ("k".repeat(127) + "=v", "k=".to_owned() + &"v".repeat(255));
        assert_eq!(tags(vec![longest_key]).unwrap().len(), 1);
        assert_eq!(tags(vec![longest_value]).unwrap()["k"].len(), 255);
        let long = "k".repeat(128) + "=v";
        let wide = "k=".to_owned() + &"v".repeat(256);
        for (given, reason) in [
            (&["team"][..], "no ="),
            (&["=x"], "1 to 127"),
            (&[&long], "1 to 127"),
            (&[&wide], "at most 255"),
            (&["team=Bü"], "ASCII letters"),
            (&["a=b\n"], "ASCII letters"),
            (&["Managed-By=me"], "by this tag"),
            (&["dbtrigger-id=x"], "by this tag"),
            (&["a=1", "a=2"], "another value"),
        ] {
            let failure = tags(owned(given)).unwrap_err();
            assert!(failure.code == Code::InvalidInput && failure.what.contains(reason), "{given:?}: {}", failure.what);
        }
    }

    #[test]
    fn addresses_are_one_mailbox_each_and_none_takes_all_away() {
        assert_eq!(addresses(vec![]).unwrap(), Setting::Keep);
        assert_eq!(addresses(given(&["none"])).unwrap(), Setting::Clear);
        let both = addresses(given(&["b@x.example", "a@x.example", "b@x.example"])).unwrap();
        assert_eq!(both, Setting::Set(owned(&["a@x.example", "b@x.example"])));
        let longest = "a".repeat(318) + "@x";
        assert_eq!(addresses(given(&[&longest])).unwrap(), Setting::Set(vec![longest.clone()]));
        let too_long = "a".to_owned() + &longest;
        for text in ["ops", "@x", "a@", "a@b@c", "a@x,b@x", "A <a@x>", "a@x\n", "a b@x", "a\u{7}@x", &too_long] {
            assert_eq!(addresses(given(&[text])).unwrap_err().code, Code::InvalidInput, "{text:?}");
        }
        assert_eq!(addresses(given(&["none", "a@x"])).unwrap_err().code, Code::Contradiction);
    }

    #[test]
    fn overrides_get_the_type_that_dbt_wants_whatever_the_order_of_the_flags() {
        let flags = [
            "threads_override=8",
            "steps_override=dbt seed",
            "git_branch=a=b",
            "generate_docs_override=true",
            "steps_override=dbt run",
        ];
        let all = overrides(given(&flags)).unwrap();
        assert_eq!(
            Value::Object(all.value().unwrap().clone()).to_string(),
            r#"{"generate_docs_override":true,"git_branch":"a=b","steps_override":["dbt seed","dbt run"],"threads_override":8}"#
        );
        assert_eq!(overrides(vec![]).unwrap(), Setting::Keep);
        assert_eq!(overrides(given(&["none"])).unwrap(), Setting::Clear);
        for (flags, reason) in [
            (&["git_branch"][..], "no ="),
            (&["cause=x"], "no such override"),
            (&["git_branch= "], "is empty"),
            (&["threads_override=many"], "a whole number"),
            (&["threads_override=-1"], "a whole number"),
            (&["threads_override=0"], "at least 1"),
            (&["generate_docs_override=yes"], "true or false"),
            (&["git_branch={{job.parameters.x}}"], "substitute"),
            (&["git_branch=a", "git_branch=b"], "more than once"),
            (&["git_branch=a", "none"], "conflicts"),
        ] {
            let failure = overrides(given(flags)).unwrap_err();
            assert!(failure.what.contains(reason), "{flags:?}: {}", failure.what);
        }
    }
}
