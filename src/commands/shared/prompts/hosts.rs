//! Prompts for the hosts of both services, with checks.

use super::{Dialog, Instead, TYPED};
use crate::credentials::{Sourced, check_host, dbt_host, read_dbt_host, read_workspace_host, workspace_in_query};
use crate::failure::{Code, Failure};
use crate::origin::Origin;
use crate::secret::looks_like_a_token;

/// Longest label of a host name, in bytes (RFC 1035, section 2.3.4).
const LONGEST_LABEL: usize = 63;

/// Length from which a single word is taken for a token, in bytes.
const LONGEST_WORD: usize = 20;

impl Dialog<'_> {
    pub(super) fn take_host(&mut self, typed: &str) -> Result<(), Failure> {
        can_be_a_host(typed)?;
        read_workspace_host(Sourced::new(typed.to_owned(), TYPED))?;
        let environment = self.ctx.context.environment.with_answer("DATABRICKS_HOST", typed);
        let Some(Sourced { value: origin, source: _ }) = check_host(&environment)? else {
            return Err(Failure::new(Code::Bug, "a host was typed and is not there"));
        };
        self.ctx.context.environment = environment;
        // One host may serve several workspaces.
        let host = match workspace_in_query(typed) {
            Some(id) if id.bytes().all(|byte| byte.is_ascii_digit()) => format!("{origin}/?o={id}"),
            Some(id) => format!("{origin}/?w={id}"),
            None => origin.to_string(),
        };
        self.instead().retain(|instead| !matches!(instead, Instead::Variable("DATABRICKS_HOST", _)));
        self.instead().push(Instead::Variable("DATABRICKS_HOST", Some(host)));
        Ok(())
    }

    pub(super) async fn host(&mut self) -> Result<(), Failure> {
        loop {
            let typed = self.ask("dbt host (such as ab123.us1.dbt.com)", "").await?;
            let possible = can_be_a_host(&typed).and_then(|()| read_dbt_host(&typed, &TYPED));
            self.ctx.account.dbt_host = Some(typed);
            let found = possible.and_then(|_| dbt_host(&self.ctx.account, &self.pasted, &self.ctx.context.environment));
            match found {
                Ok(found) => {
                    self.instead().retain(|instead| !matches!(instead, Instead::Flag("--dbt-host", _)));
                    self.instead().extend(found.map(|origin| Instead::Flag("--dbt-host", bare(&origin))));
                    return Ok(());
                }
                Err(failure) => self.tell(&failure),
            }
            self.ctx.account.dbt_host = None;
        }
    }
}

/// The host in the form of `--dbt-host`.
pub(super) fn bare(origin: &Origin) -> String {
    let host = origin.to_string();
    host.strip_prefix("https://").unwrap_or(&host).to_owned()
}

/// Refuses valid hosts that are likely mistakes, because a token is sent there next.
pub(super) fn can_be_a_host(typed: &str) -> Result<(), Failure> {
    let is_word = typed.len() >= LONGEST_WORD && !typed.contains(['.', ':', '/', ' ']);
    if looks_like_a_token(typed) || is_word {
        let what = "your answer looks like a token, not a host, and is not shown";
        return Err(Failure::new(Code::InvalidInput, what)
            .advise("enter the host here; the token is prompted for next and hidden"));
    }
    // Invalid hosts are refused by the checks of the flag.
    let Ok(origin) = Origin::parse(typed) else { return Ok(()) };
    let host = origin.host();
    let why = if host.split('.').any(|label| label.len() > LONGEST_LABEL) && !host.starts_with('[') {
        "a host name has at most 63 characters between dots"
    } else if !host.contains(['.', ':']) && host != "localhost" {
        "it has no dot"
    } else {
        return Ok(());
    };
    Err(Failure::new(Code::InvalidInput, format!("\"{host}\" is not a valid host: {why}"))
        .advise("use the host in your browser's address bar when signed in"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_token_and_no_single_word_is_taken_for_a_host() {
        for host in [
            "ab123.us1.dbt.com",
            "http://127.0.0.1:8080",
            "http://[::1]:80",
            "localhost",
            "https://x.y/?o=1",
            "a b",
            "",
        ] {
            assert_eq!(can_be_a_host(host), Ok(()), "{host}");
        }
        for token in ["dbtc_Canary+dbt/token", "dbtu_0123456789", "dapi0123456789abcdef", "0123456789abcdefghij"] {
            let failure = can_be_a_host(token).unwrap_err();
            assert!(
                failure.what.contains("looks like a token") && !format!("{failure:?}").contains(token),
                "{failure:?}"
            );
        }
        let long = format!("{}.dbt.com", "x".repeat(64));
        for (host, why) in [("nightly", "it has no dot"), (long.as_str(), "at most 63 characters")] {
            assert!(can_be_a_host(host).unwrap_err().what.contains(why), "{host}");
        }
    }
}
