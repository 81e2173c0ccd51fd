//! What grants on notebooks and on jobs share. Levels are added, never lowered or removed.

use std::collections::BTreeSet;

use crate::databricks::me::{groups_of, users_named};
use crate::databricks::permissions::{Holding, Level, Principal};
use crate::databricks::secrets::ADMINISTRATORS;
use crate::databricks::{has_no_acls, is_missing};
use crate::engine::{Action, Applied, Change, Note};
use crate::failure::{Code, Failure};
use crate::http::{BodyProblem, HttpError, Idempotent, Meaning, Read, Reader, Rows, Writer};

/// The highest of the levels that this version knows.
pub(super) fn highest<L: Level>(holdings: &[Holding]) -> Option<L> {
    holdings.iter().filter_map(|held| L::named(&held.level)).max()
}

/// The error for an access list with an unreadable entry, which may be the one that a grant would overwrite.
pub(super) fn unread(reader: &Reader, operation: &'static str) -> HttpError {
    reader.invalid_response(operation, BodyProblem::Unreadable("an entry of the access list cannot be read".to_owned()))
}

/// Why a principal keeps its access: this version does not know its level, so the level must not be overwritten.
pub(super) fn unknown<L: Level>(own: &[Holding]) -> Option<Note> {
    let held = own.iter().find(|held| !held.inherited && L::named(&held.level).is_none())?;
    Some(Note::Kept(format!("kept: has {}, an unknown level", held.level)))
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
        // Reading the list requires CAN_MANAGE (databricks-api §7).
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

/// The action for a principal whose level is too low.
pub(super) fn raise<L: Level>(own: &[Holding], want: L) -> Action {
    match highest::<L>(own) {
        None => Action::Create,
        Some(level) => Action::Update(vec![Change {
            field: "permission_level".to_owned(),
            from: Some(level.name().to_owned()),
            to: Some(want.name().to_owned()),
            reason: "higher level requested".to_owned(),
        }]),
    }
}

/// Sends a grant. Only a second read decides that the workspace has no ACLs.
pub(super) async fn give(
    writer: &Writer,
    grant: Idempotent<()>,
    look: Read<Rows<Holding>>,
) -> Result<Applied, HttpError> {
    match writer.put_once(grant).await {
        Err(error) if has_no_acls(&error) => match writer.read(look).await {
            Err(again) if has_no_acls(&again) => Ok(Applied::Written),
            Ok(_) | Err(_) => Err(error),
        },
        ended => ended.map(|()| Applied::Written),
    }
}

/// The principal's levels on the object itself, which a grant overwrites.
pub(super) fn direct(own: &[Holding]) -> BTreeSet<&str> {
    own.iter().filter(|held| !held.inherited).map(|held| held.level.as_str()).collect()
}

/// The principals with access to the object itself.
pub(super) fn holders(all: &[Holding]) -> BTreeSet<String> {
    all.iter().filter(|held| !held.inherited).map(|held| held.principal.clone()).collect()
}

/// Principals that had access before a grant and have none after it.
pub(super) fn lost_access(before: &BTreeSet<String>, now: &BTreeSet<String>) -> Vec<String> {
    before.difference(now).map(|principal| format!("the access of {principal}")).collect()
}

/// The difference between the requested level and the one read back.
pub(super) fn lacking<L: Level>(own: &[Holding], want: L) -> Vec<String> {
    let has = highest::<L>(own).map_or("nothing", L::name);
    vec![format!("permission_level: requested {}, has {has}", want.name())]
}

/// Adds advice to a failed grant. `managed` is the object, with who has `CAN_MANAGE` on it.
pub(super) fn explain(principal: &str, managed: &str, error: &HttpError, failure: Failure) -> Failure {
    if error.operation == "permissions/update" && (is_missing(error) || error.is_status(400)) {
        return failure.advise(format!(
            "check \"{principal}\": use a user's email, a group's display name, or a service principal's application ID (a UUID)"
        ));
    }
    if failure.code == Code::NotAllowed {
        return failure.advise(format!("reading and granting access requires CAN_MANAGE on {managed}"));
    }
    failure
}
