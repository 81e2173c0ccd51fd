//! Several dbt jobs in one workflow: their task keys and dependencies.

use std::collections::{BTreeMap, BTreeSet};

use super::setting::{Setting, TaskSpec};
use crate::failure::{Code, Failure};

/// Databricks truncates longer keys in run output.
const LONGEST_KEY: usize = 100;

/// Splits `KEY=JOB`. A URL may contain `=`, but a key contains no slash.
pub(crate) fn split(text: &str) -> (Option<&str>, &str) {
    match text.split_once('=') {
        Some((key, job)) if !key.contains('/') => (Some(key), job),
        Some(_) | None => (None, text),
    }
}

/// The tasks with their dependencies.
pub(crate) fn tasks(jobs: &[(String, u64)], depends_on: &Setting<Vec<String>>) -> Result<Vec<TaskSpec>, Failure> {
    let mut keys = BTreeSet::new();
    for (key, job) in jobs {
        check_key("--job", key, *job)?;
        if !keys.insert(key.as_str()) {
            return Err(wrong_key("--job", key, *job, "two tasks have it"));
        }
    }
    let needs = match depends_on {
        Setting::Keep => Setting::Keep,
        Setting::Set(given) => Setting::Set(needs(&keys, given)?),
        Setting::Clear => Setting::Clear,
    };
    let of = |key: &str| match &needs {
        Setting::Keep => Setting::Keep,
        Setting::Set(needs) if needs.contains_key(key) => Setting::Set(needs[key].iter().cloned().collect()),
        Setting::Set(_) | Setting::Clear => Setting::Clear,
    };
    let tasks = jobs.iter().map(|(key, job)| TaskSpec { key: key.clone(), job: *job, depends_on: of(key) });
    Ok(tasks.collect())
}

fn wrong_key(flag: &str, key: &str, job: u64, reason: &str) -> Failure {
    Failure::new(Code::InvalidInput, format!("key \"{key}\" in {flag} is invalid: {reason}"))
        .advise(format!("use --job KEY={job}, such as --job load={job}"))
}

fn check_key(flag: &str, key: &str, job: u64) -> Result<(), Failure> {
    if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)) {
        return Err(wrong_key(flag, key, job, "a key may contain only letters, digits, - and _"));
    }
    if key.len() > LONGEST_KEY {
        return Err(wrong_key(flag, key, job, "a key may have at most 100 characters"));
    }
    Ok(())
}

/// The task that is added to an existing workflow. `--task-key` is equivalent to `KEY=`. Its dependencies may be any
/// task of that workflow, so they are checked later.
pub(crate) fn added(
    jobs: &[(String, u64)],
    task_key: Option<String>,
    depends_on: &Setting<Vec<String>>,
) -> Result<Vec<TaskSpec>, Failure> {
    let [(key, job)] = jobs else {
        return Err(Failure::new(Code::Usage, "--add-to takes exactly one --job").advise("pass --job once"));
    };
    let (flag, key) = match task_key {
        Some(given) if *key != given && *key != format!("dbt_{job}") => {
            return Err(Failure::new(
                Code::Contradiction,
                format!("--task-key is \"{given}\", but --job has the key \"{key}\""),
            )
            .advise("drop one of them"));
        }
        Some(given) => ("--task-key", given),
        None => ("--job", key.clone()),
    };
    check_key(flag, &key, *job)?;
    let depends_on = match depends_on {
        Setting::Keep => Setting::Keep,
        Setting::Clear => Setting::Clear,
        Setting::Set(given) => {
            let mut needs = BTreeSet::new();
            for text in given {
                let wrong = |reason: String| {
                    Failure::new(Code::InvalidInput, format!("--depends-on \"{text}\" is invalid: {reason}")).advise(
                        format!("use --depends-on {key}=KEY[,KEY] with task keys of the workflow; `none` clears"),
                    )
                };
                let (own, others) =
                    text.split_once('=').ok_or_else(|| wrong("it has no = between the keys".to_owned()))?;
                if own != key {
                    return Err(wrong(format!(
                        "with --add-to, only the added task {key} can wait; nothing else in the workflow is changed"
                    )));
                }
                for other in others.split(',') {
                    if other.is_empty() {
                        return Err(wrong("a key is empty".to_owned()));
                    }
                    if other == key {
                        return Err(wrong("the task would wait for itself".to_owned()));
                    }
                    needs.insert(other.to_owned());
                }
            }
            Setting::Set(needs.into_iter().collect())
        }
    };
    Ok(vec![TaskSpec { key, job: *job, depends_on }])
}

/// Dependencies by task key.
fn needs(keys: &BTreeSet<&str>, given: &[String]) -> Result<BTreeMap<String, BTreeSet<String>>, Failure> {
    let mut needs: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for text in given {
        let wrong = |reason: String| {
            Failure::new(Code::InvalidInput, format!("--depends-on \"{text}\" is invalid: {reason}"))
                .advise("use --depends-on KEY=KEY[,KEY] with keys of --job; `none` clears")
        };
        let (key, others) = text.split_once('=').ok_or_else(|| wrong("it has no = between the keys".to_owned()))?;
        for name in [key].into_iter().chain(others.split(',')) {
            if !keys.contains(name) {
                let known: Vec<&str> = keys.iter().copied().collect();
                return Err(wrong(format!("no --job has key \"{name}\"; keys: {}", known.join(", "))));
            }
        }
        needs.entry(key.to_owned()).or_default().extend(others.split(',').map(ToOwned::to_owned));
    }
    if let Some(circle) = needs.keys().map(|key| circle(&needs, key)).find(|circle| !circle.is_empty()) {
        return Err(Failure::new(
            Code::InvalidInput,
            format!("--depends-on makes a cycle of {}: none of them could start", circle.join(", ")),
        )
        .advise("remove one of the dependencies"));
    }
    Ok(needs)
}

/// The tasks in a dependency cycle with this one; empty if there is none. `needs` maps a key to the keys that it
/// depends on.
pub(crate) fn circle(needs: &BTreeMap<String, BTreeSet<String>>, key: &str) -> Vec<String> {
    let waits_for = |key: &str| {
        let (mut seen, mut open) = (BTreeSet::new(), vec![key.to_owned()]);
        while let Some(need) = open.pop() {
            open.extend(needs.get(&need).into_iter().flatten().filter(|need| seen.insert((*need).clone())).cloned());
        }
        seen
    };
    waits_for(key).into_iter().filter(|need| waits_for(need).contains(key)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jobs(keys: &[&str]) -> Vec<(String, u64)> {
        keys.iter().zip(1..).map(|(key, id)| ((*key).to_owned(), id)).collect()
    }

    fn set(given: &[&str]) -> Setting<Vec<String>> {
        Setting::Set(given.iter().map(|text| (*text).to_owned()).collect())
    }

    #[test]
    fn a_key_stands_before_the_job_and_an_address_is_left_whole() {
        assert_eq!(split("222222"), (None, "222222"));
        assert_eq!(split("load=222222"), (Some("load"), "222222"));
        assert_eq!(split("=222222"), (Some(""), "222222"));
        let address = "https://ab123.us1.dbt.com/deploy/1/projects/2/jobs/3?a=b";
        assert_eq!(split(address), (None, address));
        assert_eq!(split(&format!("load={address}")), (Some("load"), address));
    }

    #[test]
    fn keys_that_databricks_would_refuse_cut_or_mix_up_are_refused() {
        for (keys, reason) in [
            (&["a b"][..], "letters, digits"),
            (&[""], "letters, digits"),
            (&["ä"], "letters, digits"),
            (&["x".repeat(101).as_str()], "at most 100"),
            (&["a", "a"], "two tasks"),
        ] {
            let failure = tasks(&jobs(keys), &Setting::Keep).unwrap_err();
            assert!(failure.what.contains(reason), "{keys:?}: {}", failure.what);
        }
        let longest = "x".repeat(100);
        assert!(tasks(&jobs(&[&longest]), &Setting::Keep).is_ok());
        assert!(
            tasks(&jobs(&["a", "B-2_c"]), &Setting::Keep).unwrap().iter().all(|task| task.depends_on == Setting::Keep)
        );
    }

    #[test]
    fn one_task_is_added_with_one_key_and_waits_for_whatever_the_workflow_has() {
        let one = [("dbt_1".to_owned(), 1)];
        let add = |key: Option<&str>, needs: &[&str]| added(&one, key.map(ToOwned::to_owned), &set(needs));
        let task = |key: &str, needs| vec![TaskSpec { key: key.to_owned(), job: 1, depends_on: needs }];
        assert_eq!(added(&one, None, &Setting::Keep).unwrap(), task("dbt_1", Setting::Keep));
        assert_eq!(add(Some("x"), &["x=b,a", "x=a"]).unwrap(), task("x", set(&["a", "b"])));
        assert_eq!(added(&one, None, &Setting::Clear).unwrap(), task("dbt_1", Setting::Clear));
        for (key, needs, reason) in [
            (Some("a b"), &[][..], "\"a b\" in --task-key is invalid: a key may contain only letters"),
            (Some(""), &[], "a key may contain only letters, digits, - and _"),
            (None, &["dbt_1"], "no ="),
            (None, &["dbt_1="], "a key is empty"),
            (None, &["dbt_1=dbt_1"], "wait for itself"),
            (None, &["load=dbt_1"], "only the added task dbt_1"),
        ] {
            let failure = add(key, needs).unwrap_err();
            assert!(failure.code == Code::InvalidInput && failure.what.contains(reason), "{needs:?}: {}", failure.what);
        }
        let named = |key: &str| added(&[("load".to_owned(), 1)], Some(key.to_owned()), &Setting::Keep);
        assert_eq!(named("load").unwrap(), task("load", Setting::Keep));
        let failure = named("other").unwrap_err();
        assert_eq!(failure.code, Code::Contradiction);
        assert!(failure.what.contains("\"other\"") && failure.what.contains("\"load\""), "{}", failure.what);
    }

    #[test]
    fn dependencies_name_tasks_of_the_same_line_and_make_no_circle() {
        let all = tasks(&jobs(&["a", "b", "c"]), &set(&["c=a,b", "b=a", "c=a"])).unwrap();
        let needs: Vec<_> = all.into_iter().map(|task| task.depends_on).collect();
        assert_eq!(needs, [Setting::Clear, set(&["a"]), set(&["a", "b"])]);
        let none = tasks(&jobs(&["a", "b"]), &Setting::Clear).unwrap();
        assert!(none.iter().all(|task| task.depends_on == Setting::Clear));
        for (given, reason) in [
            (&["a"][..], "no ="),
            (&["a=x"], "no --job has key \"x\""),
            (&["x=a"], "no --job has key \"x\""),
            (&["a="], "no --job has key \"\""),
            (&["a=a"], "cycle of a"),
            (&["a=b", "b=c", "c=a"], "cycle of a, b, c"),
        ] {
            let failure = tasks(&jobs(&["a", "b", "c"]), &set(given)).unwrap_err();
            assert!(failure.code == Code::InvalidInput && failure.what.contains(reason), "{given:?}: {}", failure.what);
        }
    }
}
