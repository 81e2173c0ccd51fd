//! Flags about identities: the run-as identity, and who has access to the workflow.

use std::collections::BTreeSet;

use super::input::Input;
use super::prerequisites::{Checked, Findings, Prerequisites};
use super::rights;
use crate::commands::CommandContext;
use crate::databricks::me::Me;
use crate::databricks::permissions::JobLevel;
use crate::engine::kinds::{JobGrant, Workflow, WorkflowJob};
use crate::engine::{Action, Planned, Step};
use crate::failure::{Code, Failure, Hint};
use crate::http::{Reader, side_by_side};
use crate::spec::grants::GrantTo;

/// The run-as identity, if it is not the caller, whose own rights are proven by reading.
pub(super) fn other<'a>(run_as: Option<&'a str>, current: Option<&'a str>, me: &Me) -> Option<&'a str> {
    run_as.or(current).filter(|who| !who.eq_ignore_ascii_case(&me.user_name))
}

/// Checks what would fail in every run: jobs and overrides that the notebook does not allow, a missing key, and a
/// run-as identity that cannot read notebook and key, unless the plan grants that. `other` is the run-as identity, if
/// not the caller; `key` is the result of looking up the key as the caller.
pub(super) async fn check_runs(
    reader: &Reader,
    input: &Input,
    (prerequisites, key): (&Prerequisites, Checked<()>),
    (overrides, other): (&BTreeSet<String>, Option<&str>),
    me: &Me,
    ctx: &CommandContext,
    findings: &mut Findings,
) -> Result<Vec<Planned>, Failure> {
    let (requirements, grant) = (input.requirements(), input.spec.grant_run_as);
    findings.need("notebook", prerequisites.path.as_str(), prerequisites.check_jobs(&requirements));
    let names: Vec<&str> = overrides.iter().map(String::as_str).collect();
    findings.need("override", &names.join(", "), prerequisites.check_overrides(&requirements, overrides));
    findings.warnings.extend(prerequisites.warnings.iter().cloned());
    match key {
        Ok(checked) => {
            findings.need("secret", &format!("{}/{}", prerequisites.scope, prerequisites.key), checked);
        }
        // Only the run-as identity needs to read the key.
        Err(failure) if failure.code == Code::NotAllowed && other.is_some() => {
            findings.warnings.push(format!("cannot check whether the key exists: {}", failure.what));
        }
        Err(failure) => return Err(failure),
    }
    match other {
        Some(who) if grant => return Box::pin(rights::grants(reader, who, prerequisites)).await,
        Some(who) => {
            let rights = Box::pin(rights::look(reader, who, prerequisites)).await;
            let checked = rights.map_or_else(|| Ok(Vec::new()), |rights| rights.check()).map_err(|mut failure| {
                failure.hints.insert(0, Hint::Do("add --grant-run-as to grant the missing access".to_owned()));
                failure
            });
            let unknown = findings.need("run-as identity", who, checked);
            findings.warnings.extend(unknown.unwrap_or_default());
        }
        None if grant && prerequisites.is_there => ctx.events.remark(format!(
            "{} can already read the scope and the notebook; --grant-run-as has nothing to add",
            me.user_name
        )),
        None => {}
    }
    Ok(Vec::new())
}

/// Plans the grants on the workflow. The job of a refused one may not be ours, so only grants that are refused
/// themselves are told.
pub(super) async fn grants(reader: &Reader, input: &Input, step: &Step<Workflow>) -> Result<Vec<Planned>, Failure> {
    let is_refused = matches!(step.action, Action::Blocked { .. });
    let plan = async |GrantTo { principal, level }: &GrantTo<JobLevel>| {
        let object = WorkflowJob {
            workflow: step.want.name.clone(),
            identity: step.want.identity.clone(),
            job: step.have.as_ref().filter(|_| !is_refused).map(|have| have.job.id),
        };
        let want = JobGrant { object, principal: principal.clone(), level: *level };
        Step::<JobGrant>::plan(reader, want, &input.consents).await.map(Planned::JobGrant)
    };
    let mut grants = side_by_side(&input.spec.grants, plan).await.into_iter().collect::<Result<Vec<_>, _>>()?;
    grants.retain(|grant| !is_refused || matches!(grant.entry().action, Action::Blocked { .. }));
    Ok(grants)
}
