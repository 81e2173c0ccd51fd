//! Scopes with similar names, for a scope that does not exist yet.

use crate::commands::CommandContext;
use crate::databricks::secrets::{ScopeName, scopes};
use crate::http::Reader;
use crate::nearest::nearest_names;
use crate::spec::DEFAULT_SCOPE;

/// Scopes with similar names, if none has this name.
pub(in crate::commands) struct NearScopes(Vec<String>);

pub(in crate::commands) async fn near_scopes(reader: &Reader, scope: &ScopeName) -> NearScopes {
    // The default is not a typo.
    if scope.as_str() == DEFAULT_SCOPE {
        return NearScopes(Vec::new());
    }
    let known = reader.read_once(scopes()).await.unwrap_or_default();
    if known.iter().any(|known| known.name.eq_ignore_ascii_case(scope.as_str())) {
        return NearScopes(Vec::new());
    }
    NearScopes(nearest_names(scope.as_str(), known.iter().map(|scope| scope.name.as_str())))
}

impl NearScopes {
    pub(in crate::commands) fn warn(&self, scope: &ScopeName, ctx: &CommandContext) {
        let NearScopes(near) = self;
        if !near.is_empty() {
            let near = near.join(", ");
            ctx.events.warning(format!("no secret scope \"{scope}\" yet; did you mean {near}?"));
        }
    }
}
