//! What the flags and the environment say, settled into values that are whole; everything missing is named at once.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value};

use super::compute::Wish;
use super::{Args, compute, jobs, options};
use crate::commands::Stage;
use crate::credentials::{self, Account, Databricks, Missing, Wants};
use crate::databricks::workspace::NotebookPath;
use crate::dbt::Link;
use crate::engine::kinds::TaskWant;
use crate::engine::{Consent, Consents};
use crate::failure::{Code, Failure};
use crate::origin::shown;
use crate::questions::Question;
use crate::schedule::{BadSchedule, Schedule, Zone};
use crate::secret::Secret;

/// The longest name that Databricks takes (databricks-api §5.1).
const LONGEST_NAME: usize = 4096;

const NO_NOTEBOOK: Missing = Missing {
    what: "the notebook",
    give: "--notebook with its path, or the id of the dbt account that it was deployed for: --dbt-account or DBT_CLOUD_ACCOUNT_ID",
    ask: Some(Question::DbtAccount),
};

/// Everything that is known before anybody is asked.
pub(super) struct Input {
    pub(super) databricks: Databricks,
    /// At least one.
    pub(super) jobs: Vec<TaskWant>,
    pub(super) name: Option<String>,
    /// The dbt account, by its id alone.
    pub(super) account: Option<u64>,
    /// Where and with what the dbt job can be looked up.
    pub(super) access: Option<(Account, Secret)>,
    pub(super) notebook: Option<NotebookPath>,
    pub(super) schedule: Option<Schedule>,
    pub(super) zone: Option<Zone>,
    pub(super) compute: Option<Wish>,
    pub(super) paused: Option<bool>,
    pub(super) no_schedule: bool,
    pub(super) retries: Option<u32>,
    pub(super) task_timeout: Option<Duration>,
    pub(super) overrides: Option<Map<String, Value>>,
    pub(super) tags: BTreeMap<String, String>,
    pub(super) notify: Option<Vec<String>>,
    pub(super) consents: Consents,
}

pub(super) fn settle(args: Args, stage: &Stage) -> Result<Input, Failure> {
    let Args {
        job: given,
        depends_on,
        name,
        notebook,
        compute,
        policy,
        cluster_json,
        schedule,
        timezone,
        no_schedule,
        paused,
        unpaused,
        overrides,
        tag,
        notify,
        retries,
        task_timeout,
        run_now: _,
        adopt,
        force,
        dry_run: _,
    } = args;
    // The command line takes only one of the two.
    let paused = (paused || unpaused).then_some(paused);
    let environment = &stage.context.environment;
    let mut wants = Wants::default();
    let (mut jobs, mut pasted) = (Vec::new(), Vec::new());
    let given = given_jobs(given, stage, &mut wants);
    for text in &given {
        let (key, job) = jobs::split(text);
        let Some(Found { id, link }) = wants.optional(read_job(job).map(Some)) else { continue };
        pasted.extend(link.map(|link| (job.to_owned(), link)));
        jobs.push((key.map_or_else(|| format!("dbt_{id}"), ToOwned::to_owned), id));
    }
    // With a job missing, its key would be missing too.
    let jobs = if jobs.len() == given.len() {
        wants.optional(jobs::tasks(&jobs, &depends_on).map(Some)).unwrap_or_default()
    } else {
        Vec::new()
    };
    let name = wants.optional(name.map(check_name).transpose());
    let zone = wants.optional(timezone.map(|text| read_zone(&text)).transpose());
    let schedule = wants.optional(schedule.map(|text| read_schedule(&text, zone.as_ref(), stage)).transpose());
    let compute = wants.optional(compute::wish(compute.as_deref(), policy, cluster_json.as_ref()));
    let overrides = wants.optional(options::overrides(overrides));
    let tags = wants.optional(options::tags(tag).map(Some)).unwrap_or_default();
    let notify = wants.optional(options::addresses(notify));
    let databricks = credentials::databricks(environment, &stage.vault, &mut wants);
    let token = credentials::api_token(environment, &stage.vault);
    let (account, access) = if name.is_none() && given.len() > 1 {
        let give = "--name, as it should be called in the workspace; several jobs have no name in common";
        wants.need(Ok(None::<u64>), Missing { what: "the name of the workflow", give, ask: None });
        (None, None)
    } else if name.is_none() {
        // The name comes from dbt, so dbt has to be asked.
        let account = credentials::account(&stage.account, &pasted, environment, &mut wants);
        let token = wants.need(
            token,
            Missing {
                what: "the dbt token, which is needed to ask for the name of the job,",
                give: "set DBT_CLOUD_TOKEN, or say with --name how the workflow is called",
                ask: Some(Question::DbtToken),
            },
        );
        (account.as_ref().map(|account| account.id), account.zip(token))
    } else {
        let token = wants.optional(token);
        let id = wants.optional(credentials::account_id(&stage.account, &pasted, environment));
        if id.is_none() && notebook.is_none() {
            wants.need(Ok(None::<u64>), NO_NOTEBOOK);
        }
        let access = id.zip(token).and_then(|(_, token)| Some((whole_account(stage, &pasted, &mut wants)?, token)));
        (id, access)
    };
    wants.settle()?;
    let Some(databricks) = databricks else {
        return Err(Failure::new(Code::Bug, "The input is settled and yet something is missing."));
    };
    let consents = Consents::default().with(Consent::Adopt, adopt).with(Consent::Force, force);
    Ok(Input {
        databricks,
        jobs,
        name,
        account,
        access,
        notebook,
        schedule,
        zone,
        compute,
        paused,
        no_schedule,
        retries,
        task_timeout,
        overrides,
        tags,
        notify,
        consents,
    })
}

/// The jobs of the command line, or else the one that was chosen at a question.
fn given_jobs(given: Vec<String>, stage: &Stage, wants: &mut Wants) -> Vec<String> {
    if !given.is_empty() {
        return given;
    }
    let missing = Missing {
        what: "the dbt job",
        give: "--job with its id or address; `dbtrigger jobs` lists them",
        ask: Some(Question::DbtJob { flag: Some("--job"), project: None, environment: None }),
    };
    let chosen = wants.need(Ok(stage.talk.job), missing);
    chosen.iter().map(ToString::to_string).collect()
}

/// The account, if host and id are known; what is wrong about them is wrong, what is missing is not needed.
fn whole_account(stage: &Stage, pasted: &[(String, Link)], wants: &mut Wants) -> Option<Account> {
    let mut own = Wants::default();
    let account = credentials::account(&stage.account, pasted, &stage.context.environment, &mut own);
    match own.settle() {
        Ok(()) => account,
        Err(failure) if failure.code == Code::MissingInput => None,
        Err(failure) => wants.optional(Err(failure)),
    }
}

/// The dbt job, with the address that it was read from.
#[derive(Debug)]
struct Found {
    id: u64,
    link: Option<Link>,
}

fn read_job(text: &str) -> Result<Found, Failure> {
    let text = text.trim();
    let wrong = |reason: &str| {
        Failure::new(Code::InvalidInput, format!("--job is \"{}\", which cannot be used: {reason}.", shown(text)))
            .advise("give the id of the dbt job, or the address of its page copied from the browser")
    };
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return match text.parse::<u64>() {
            Ok(id) if id > 0 => Ok(Found { id, link: None }),
            Ok(_) | Err(_) => Err(wrong("no dbt job has this id")),
        };
    }
    if !text.contains('/') {
        return Err(wrong("it is no id and no address; jobs are not found by name yet"));
    }
    let link = Link::parse(text).map_err(|bad| wrong(&bad.to_string()))?;
    match link.job {
        Some(id) => Ok(Found { id, link: Some(link) }),
        None => Err(wrong("the address names no job")),
    }
}

fn check_name(name: String) -> Result<String, Failure> {
    let reason = if name.trim().is_empty() {
        "it is empty"
    } else if name.trim() != name {
        "it begins or ends with white space"
    } else if name.chars().any(char::is_control) {
        "it has a line end or another control character in it"
    } else if name.len() > LONGEST_NAME {
        "Databricks takes at most 4096 bytes"
    } else {
        return Ok(name);
    };
    Err(Failure::new(Code::InvalidInput, format!("--name cannot be used: {reason}."))
        .advise("give a name as it should be shown in the workspace"))
}

fn read_zone(text: &str) -> Result<Zone, Failure> {
    Zone::parse(text).map_err(|bad| {
        Failure::new(Code::InvalidInput, format!("--timezone is \"{text}\", which cannot be used: {bad}."))
            .advise("give a name such as Europe/Berlin, America/New_York or UTC")
    })
}

fn read_schedule(text: &str, zone: Option<&Zone>, stage: &Stage) -> Result<Schedule, Failure> {
    let zone = zone.cloned().unwrap_or_else(Zone::utc);
    Schedule::parse(text, zone, stage.context.wall.now()).map_err(|bad| {
        let failure =
            Failure::new(Code::InvalidInput, format!("--schedule is \"{text}\", which cannot be used: {bad}."));
        match bad {
            BadSchedule::Unix { quartz: Some(meant) } | BadSchedule::NotQuartz { reason: _, meant: Some(meant) } => {
                failure.advise(format!("write --schedule '{meant}'"))
            }
            BadSchedule::Unix { quartz: None }
            | BadSchedule::NotQuartz { reason: _, meant: None }
            | BadSchedule::Never
            | BadSchedule::Zone => failure.advise(
                "write seconds, minutes, hours, day of month, month, day of week, such as '0 0 6 ? * MON-FRI' for six o'clock on weekdays",
            ),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_an_id_or_an_address_and_a_name_is_refused_with_the_reason() {
        let id = |text: &str| read_job(text).map(|found| found.id);
        assert_eq!(id("222222").unwrap(), 222_222);
        assert_eq!(id(" 222222 ").unwrap(), 222_222);
        assert_eq!(id("70471805314449").unwrap(), 70_471_805_314_449);
        assert_eq!(id("https://ab123.us1.dbt.com/deploy/1/projects/2/jobs/3").unwrap(), 3);
        for (text, reason) in [
            ("0", "no dbt job has this id"),
            ("99999999999999999999", "no dbt job has this id"),
            ("Nightly", "not found by name yet"),
            ("", "no id and no address"),
            ("-5", "no id and no address"),
            ("key=222222", "no id and no address"),
            ("https://ab123.us1.dbt.com/deploy/1/projects/2/runs/3", "names no job"),
            ("http://ab123.us1.dbt.com/deploy/1/projects/2/jobs/3", "cannot be used"),
        ] {
            let failure = id(text).unwrap_err();
            assert!(failure.code == Code::InvalidInput && failure.what.contains(reason), "{text}: {}", failure.what);
        }
    }

    #[test]
    fn names_that_nobody_could_find_again_are_refused() {
        for name in ["", "  ", " x", "x\n", "a\u{1b}[31m", &"x".repeat(4097)] {
            assert!(check_name(name.to_owned()).is_err(), "{name:?}");
        }
        assert_eq!(check_name("Täglich: dbt (1)".to_owned()).unwrap(), "Täglich: dbt (1)");
    }
}
