//! Who has access to an object, by its access list.

use crate::databricks::me::{groups_of, users_named};
use crate::databricks::permissions::{Holding, Level, Principal};
use crate::databricks::secrets::{ADMINISTRATORS, EVERYBODY};
use crate::databricks::{has_no_acls, is_missing};
use crate::engine::{Action, Consent, Consents, Refusal};
use crate::http::{BodyProblem, HttpError, Meaning, Reader, Rows};

/// The error for an access list with an unreadable entry, which may be the one that a grant would overwrite.
pub(super) fn unread(reader: &Reader, operation: &'static str) -> HttpError {
    reader.invalid_response(operation, BodyProblem::Unreadable("an entry of the access list cannot be read".to_owned()))
}

/// What every user could do if all had a level with which they can use the dbt key.
pub(crate) struct ForEverybody {
    /// Completes "would let every user of this workspace".
    pub(crate) could: &'static str,
    pub(crate) advice: &'static str,
    pub(crate) unless: Option<Consent>,
}

/// Refuses to grant such a level to all users without consent.
pub(super) fn refuse_everybody<L: Level>(
    principal: &str,
    level: L,
    for_everybody: Option<ForEverybody>,
    consents: &Consents,
) -> Option<Action> {
    let ForEverybody { could, advice, unless } = for_everybody.filter(|_| principal.eq_ignore_ascii_case(EVERYBODY))?;
    let what = format!("--grant {principal}:{} would let every user of this workspace {could}", level.name());
    let refusal = Refusal::new(what).advise(advice);
    match unless {
        Some(consent) if consents.has(consent) => None,
        Some(consent) => Some(refusal.unless(consent)),
        None => Some(refusal.always()),
    }
}

/// The kind of principal that a grant names. A name without an at sign is a group, unless a user has that name.
pub(super) async fn kind_of(reader: &Reader, principal: &str) -> Principal {
    match Principal::of(principal) {
        Principal::Group => match reader.read(users_named(principal)).await {
            Ok(users) if users.iter().any(|user| user.eq_ignore_ascii_case(principal)) => Principal::User,
            // Not every caller may list users.
            Ok(_) | Err(_) => Principal::Group,
        },
        known @ (Principal::User | Principal::ServicePrincipal) => known,
    }
}

/// Whether a principal manages an object, by its access list. Also `true` where only nested groups could tell: then
/// the service decides.
pub(super) async fn manages(
    reader: &Reader,
    who: &str,
    listed: Result<Rows<Holding>, HttpError>,
) -> Result<bool, HttpError> {
    let all = match listed {
        Ok(Rows { rows, unreadable: 0 }) => rows,
        // The unreadable entry may be this principal's, so the service decides.
        Ok(Rows { rows: _, unreadable: _ }) => return Ok(true),
        // Reading the list requires CAN_MANAGE.
        Err(error) if error.means() == Meaning::RightMissing => return Ok(false),
        Err(error) if has_no_acls(&error) || is_missing(&error) => return Ok(true),
        Err(error) => return Err(error),
    };
    let knows_less = |level: &str| ["CAN_VIEW", "CAN_READ", "CAN_RUN", "CAN_EDIT", "CAN_MANAGE_RUN"].contains(&level);
    let managers: Vec<&str> =
        all.iter().filter(|held| !knows_less(&held.level)).map(|held| held.principal.as_str()).collect();
    let is_group = |name: &&&str| Principal::of(name) == Principal::Group && **name != ADMINISTRATORS;
    if managers.iter().any(|name| name.eq_ignore_ascii_case(who)) || managers.iter().any(|name| is_group(&name)) {
        return Ok(true);
    }
    match reader.read(groups_of(who)).await {
        Ok(Some(groups)) => Ok(groups.iter().any(|group| group == ADMINISTRATORS)),
        Ok(None) | Err(_) => Ok(true),
    }
}
