//! Flags about people: whom the runs act as, and who may do what with the workflow.

use std::str::FromStr;

use super::ground::Ground;
use super::input::Input;
use super::rights;
use crate::commands::Stage;
use crate::databricks::me::Me;
use crate::databricks::permissions::{JobLevel, Principal};
use crate::databricks::secrets::EVERYBODY;
use crate::engine::kinds::{JobGrant, JobGrantWant, Workflow};
use crate::engine::{Planned, Step};
use crate::failure::{Code, Failure, Hint};
use crate::http::Reader;
use crate::origin::shown;

#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct Flags {
    /// Whom the runs act as: a user's e-mail, or a service principal's application id [default: unchanged, at first you]
    #[arg(long, value_name = "WHO")]
    pub(super) run_as: Option<String>,
    /// Give whoever the runs act as what they lack to read the key and the notebook
    #[arg(long)]
    pub(super) grant_run_as: bool,
    /// As a person gave it.
    #[arg(
        long,
        value_name = "PRINCIPAL:PERMISSION",
        help = "Who may do what with the workflow: CAN_VIEW, CAN_MANAGE_RUN or CAN_MANAGE; repeatable, others keep what \
                they have"
    )]
    pub(super) grant: Vec<JobGrantTo>,
}

/// A principal and what it should be able to do with the workflow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct JobGrantTo {
    principal: String,
    level: JobLevel,
}

impl FromStr for JobGrantTo {
    type Err = String;

    fn from_str(text: &str) -> Result<JobGrantTo, String> {
        let known = "the level behind the colon is CAN_VIEW, CAN_MANAGE_RUN or CAN_MANAGE";
        let (principal, level) = text.rsplit_once(':').ok_or("it has no level: write PRINCIPAL:CAN_MANAGE_RUN")?;
        let level = JobLevel::named(&level.to_ascii_uppercase()).ok_or(known)?;
        if level == JobLevel::IsOwner {
            return Err(format!("a job has exactly one owner, who made it, and is given no other; {known}"));
        }
        let principal = principal.trim();
        if principal.is_empty() {
            return Err("it names nobody".to_owned());
        }
        if principal.chars().any(char::is_control) {
            return Err("it has a control character in it".to_owned());
        }
        Ok(JobGrantTo { principal: principal.to_owned(), level })
    }
}

/// What stands in e-mails and ids beside letters and digits; all else would only be a danger in a command to copy.
const IN_ADDRESSES: &str = "@.-_+%'!#^~=";

/// Whom runs can act as, in the words of the service.
pub(in crate::commands) fn read_run_as(text: &str) -> Result<String, Failure> {
    let text = text.trim();
    let wrong = |reason: &str| {
        Failure::new(Code::InvalidInput, format!("--run-as is \"{}\", which cannot be used: {reason}.", shown(text)))
            .advise("give the e-mail of a user, or the application id (a UUID) of a service principal, as the workspace's page of it shows")
    };
    if !text.chars().all(|sign| sign.is_alphanumeric() || IN_ADDRESSES.contains(sign)) {
        return Err(wrong("it has a sign in it that is in no e-mail and in no id"));
    }
    match Principal::of(text) {
        Principal::User if text.matches('@').count() == 1 && !text.starts_with('@') && !text.ends_with('@') => {
            Ok(text.to_owned())
        }
        Principal::ServicePrincipal => Ok(text.to_owned()),
        Principal::User | Principal::Group => Err(wrong("it is no e-mail and no application id")),
    }
}

/// One grant per principal; two levels for one are a contradiction. Who changes the job can use the key, so not everybody
/// may.
pub(super) fn settle_grants(given: Vec<JobGrantTo>) -> Result<Vec<JobGrantTo>, Failure> {
    let mut settled: Vec<JobGrantTo> = Vec::new();
    for grant in given {
        let JobGrantTo { principal, level } = &grant;
        if principal.eq_ignore_ascii_case(EVERYBODY) && *level >= JobLevel::CanManage {
            return Err(Failure::new(
                Code::Refused,
                format!(
                    "--grant {principal}:{} would let everybody in this workspace change what the workflow runs, and so use the dbt key; nothing was written.",
                    level.name()
                ),
            )
            .advise("give CAN_MANAGE_RUN, or name the user or group that is to change it"));
        }
        match settled.iter().find(|known| known.principal.eq_ignore_ascii_case(principal)) {
            None => settled.push(grant),
            Some(known) if known.level == *level => {}
            Some(known) => {
                return Err(Failure::new(
                    Code::Contradiction,
                    format!("--grant names {principal} with {} and with {}.", known.level.name(), level.name()),
                )
                .advise("name each principal once; each level includes the ones before it: CAN_VIEW, CAN_MANAGE_RUN, CAN_MANAGE"));
            }
        }
    }
    Ok(settled)
}

/// Whom the runs will act as, if that is another identity than the one whose rights are proven by asking.
pub(super) fn other<'a>(run_as: Option<&'a str>, standing: Option<&'a str>, me: &Me) -> Option<&'a str> {
    run_as.or(standing).filter(|who| !who.eq_ignore_ascii_case(&me.user_name))
}

/// What gives whoever the runs act as the rights that they lack, or what nobody could find out about them.
#[derive(Default)]
pub(super) struct Readers {
    pub(super) steps: Vec<Planned>,
    pub(super) warnings: Vec<String>,
}

/// Finds out whether whoever the runs act as can read notebook and key, or plans what gives it. `other` is whom they act as, if
/// not as whoever asks; `key` is what asking for the key came to.
pub(super) async fn readers(
    reader: &Reader,
    grant: bool,
    (ground, key): (&Ground, Result<(), Failure>),
    other: Option<&str>,
    me: &Me,
    stage: &Stage,
) -> Result<Readers, Failure> {
    let Readers { mut steps, mut warnings } = Readers::default();
    match key {
        Ok(()) => {}
        // Not whoever asks, but whoever the runs act as has to read it.
        Err(failure) if failure.code == Code::NotAllowed && other.is_some() => {
            warnings.push(format!("Whether the key is there could not be looked at: {}", failure.what));
        }
        Err(failure) => return Err(failure),
    }
    match other {
        Some(who) => match rights::look(reader, who, ground).await {
            Some(rights) if grant => steps = rights.grants(reader).await?,
            Some(rights) => warnings.extend(rights.check().map_err(|mut failure| {
                failure.hints.insert(0, Hint::Do("add --grant-run-as to give it what it lacks".to_owned()));
                failure
            })?),
            None => {}
        },
        None if grant && ground.is_there => stage.events.remark(format!(
            "the runs act as {}, who has read the key's scope and the notebook just now: --grant-run-as has nothing to give",
            me.user_name
        )),
        None => {}
    }
    Ok(Readers { steps, warnings })
}

/// Plans who may do what with the workflow.
pub(super) async fn grants(reader: &Reader, input: &Input, step: &Step<Workflow>) -> Result<Vec<Planned>, Failure> {
    let mut planned = Vec::new();
    for JobGrantTo { principal, level } in &input.grants {
        let want = JobGrantWant {
            workflow: step.want.name.clone(),
            identity: step.want.identity.clone(),
            job: step.have.as_ref().map(|have| have.job.id),
            principal: principal.clone(),
            level: *level,
        };
        planned.push(Planned::JobGrant(Step::<JobGrant>::plan(reader, want, &input.consents).await?));
    }
    Ok(planned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_act_as_a_user_or_a_service_principal_by_what_the_service_calls_them() {
        let id = "0f6c1e2a-5b77-4c0d-9c55-3c8f1f0a7d11";
        for good in ["bo@example.com", "bo.o'neil+x%y@example.com", "bo_x#EXT#@example.com", "bö@example.com", id] {
            assert_eq!(read_run_as(&format!(" {good} ")).unwrap(), good);
        }
        for text in [
            "",
            "data-team",
            "CI runner",
            "@x",
            "a@",
            "a@b@c",
            "a\"@b",
            "a\n@b",
            "a;b@c",
            "a$b@c",
            "a`b@c",
            "a(b@c",
            "a|b@c",
            "a&b@c",
            "a<b@c",
            "a\\b@c",
            "0f6c1e2a-5b77",
        ] {
            let failure = read_run_as(text).unwrap_err();
            assert!(
                failure.code == Code::InvalidInput && failure.what.contains("--run-as"),
                "{text}: {}",
                failure.what
            );
        }
    }

    #[test]
    fn a_grant_names_somebody_and_a_level_that_can_be_given() {
        let read = |text: &str| text.parse::<JobGrantTo>();
        let good = JobGrantTo { principal: "data-team".to_owned(), level: JobLevel::CanManageRun };
        assert_eq!(read("data-team:can_manage_run"), Ok(good.clone()));
        for (text, reason) in [
            ("data-team", "no level"),
            (":CAN_VIEW", "names nobody"),
            ("data-team:CAN_RUN", "CAN_MANAGE_RUN or"),
            ("data-team:IS_OWNER", "exactly one owner"),
            ("a\u{1b}b:CAN_VIEW", "control"),
        ] {
            assert!(read(text).unwrap_err().contains(reason), "{text}");
        }
        let more = JobGrantTo { level: JobLevel::CanManage, ..good.clone() };
        let everybody = |level| JobGrantTo { principal: "users".to_owned(), level };
        assert_eq!(settle_grants(vec![good.clone(), good.clone()]).unwrap().len(), 1);
        assert_eq!(settle_grants(vec![good, more]).unwrap_err().code, Code::Contradiction);
        assert_eq!(settle_grants(vec![everybody(JobLevel::CanManage)]).unwrap_err().code, Code::Refused);
        assert_eq!(settle_grants(vec![everybody(JobLevel::CanView)]).unwrap().len(), 1);
    }
}
