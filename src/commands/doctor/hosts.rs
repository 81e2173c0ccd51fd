//! Checks of each host: connection and clock; and of the credential's identity.

use jiff::{SignedDuration, Timestamp};

use super::report::{Check, Section};
use crate::commands::shared::dbt_accounts::{accounts, listed};
use crate::commands::shared::provision::who;
use crate::commands::{CommandContext, probe_host};
use crate::context::Environment;
use crate::credentials::{Account, Databricks};
use crate::databricks::me::Me;
use crate::durations::shown;
use crate::failure::{Code, Failure, of_databricks, of_dbt};
use crate::http::{Fault, HttpError, Meaning, Net, NetKind, Reader, is_proxied};
use crate::origin::{Origin, is_loopback};

/// Proxy variables in order of precedence.
const PROXIES: [&str; 4] = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];
/// A larger clock difference is a warning; beyond `WRONG` it breaks sign-ins and certificates.
const OFF: SignedDuration = SignedDuration::from_mins(1);
const WRONG: SignedDuration = SignedDuration::from_mins(5);

/// One of the two hosts.
#[derive(Clone, Copy)]
pub(super) struct Host<'a> {
    pub(super) part: Section,
    pub(super) origin: &'a Origin,
}

impl Host<'_> {
    /// Host, with the port if it is not the default.
    fn place(self) -> String {
        let url = self.origin.url();
        url.port().map_or_else(|| self.origin.host().to_owned(), |port| format!("{}:{port}", self.origin.host()))
    }

    /// Checks from the result of the probe; `now` is the local time when it ended.
    fn checks(self, probed: Result<Option<Timestamp>, Net>, environment: &Environment, now: Timestamp) -> Vec<Check> {
        let Host { part, origin: _ } = self;
        match probed {
            Ok(date) => {
                let reachable = Check::ok(part, "connection", format!("{} is reachable", self.place()));
                // A wrong clock does not block later checks.
                vec![reachable, self.clock(date, now).optional()]
            }
            Err(net) => {
                let unreachable = Check::failed(part, "connection", self.unreachable(&net, environment));
                let clock = Check::skipped(part, "clock", &unreachable.as_reason());
                vec![unreachable, clock]
            }
        }
    }

    fn unreachable(self, net: &Net, environment: &Environment) -> Failure {
        let Host { part, origin } = self;
        let failure = self.failure(part, &format!("cannot reach {}", self.place()), net);
        if net.kind == NetKind::Certificate || !is_proxied(origin.url()) {
            return failure;
        }
        let set = PROXIES.into_iter().find(|name| environment.names().any(|known| known == *name));
        let (source, host) = (set.unwrap_or("the system's settings"), origin.host());
        Failure { hints: Vec::new(), ..failure }
            .advise(format!("fix the proxy set in {source}, or add {host} to NO_PROXY if it is reachable directly"))
    }

    fn failure(self, part: Section, what: &str, net: &Net) -> Failure {
        let error = |service| HttpError {
            service,
            operation: "connect",
            origin: self.origin.to_string(),
            fault: Fault::NotSent(net.clone()),
            attempts: 1,
            request_id: None,
            exceeded: None,
        };
        match part {
            Section::Dbt => of_dbt(what, &error("dbt")),
            Section::Databricks | Section::Setup => of_databricks(what, &error("Databricks")),
        }
    }

    fn clock(self, date: Option<Timestamp>, now: Timestamp) -> Check {
        let Host { part, origin } = self;
        let id = "clock";
        if is_loopback(origin.url()) {
            // A sandbox has its own clock.
            return Check::skipped(part, id, "the host is this machine");
        }
        let host = origin.host();
        let Some(date) = date else {
            return Check::skipped(part, id, &format!("{host} sends no Date header"));
        };
        let off = now.duration_since(date);
        let side = if off.is_negative() { "behind" } else { "ahead of" };
        let what = format!("the clock of this machine is {} {side} {host}", shown(off.unsigned_abs()));
        let advice = "set the clock and enable NTP";
        if off.abs() > WRONG {
            let failure = Failure::new(Code::Failed, what);
            return Check::failed(
                part,
                id,
                failure.cause("certificates, sign-in, and schedules depend on the time").advise(advice),
            );
        }
        if off.abs() > OFF {
            return Check::warning(part, id, what).advise(advice);
        }
        Check::ok(part, id, format!("the clock of this machine matches {host}"))
    }
}

/// Checks that dbt accepts the token and lets it see the account.
pub(super) async fn dbt_identity(reader: &Reader, account: &Account) -> Check {
    let (part, id, known_as) = (Section::Dbt, "identity", reader.known_as());
    let accounts = match accounts(reader).await {
        Ok(accounts) => accounts,
        Err(error) if error.means() == Meaning::WrongHost => {
            let doing = format!("{} does not respond like dbt", account.origin);
            return Check::failed(part, id, of_dbt(&doing, &error));
        }
        Err(error) => {
            let doing = format!("cannot list the accounts that the token from {known_as} can see");
            return Check::failed(part, id, of_dbt(&doing, &error));
        }
    };
    let Some(seen) = accounts.iter().find(|seen| seen.id == account.id) else {
        let seen = listed(&accounts);
        let what = format!("the token from {known_as} is valid, but not for account {}", account.id);
        let failure = Failure::new(Code::NotFound, what).cause(format!("accounts it can see: {seen}"));
        let advice = "check DBT_CLOUD_ACCOUNT_ID or --dbt-account, or create a token in that account under Account settings > API tokens";
        return Check::failed(part, id, failure.advise(advice));
    };
    if seen.locked == Some(true) {
        let failure = Failure::new(Code::NotAllowed, format!("dbt has locked account {}", account.id));
        let failure = seen.lock_reason.iter().fold(failure, |failure, reason| failure.cause(reason.as_str()));
        return Check::failed(part, id, failure.advise("ask the account owner to contact dbt"));
    }
    let seen = listed(std::slice::from_ref(seen));
    Check::ok(part, id, format!("the token from {known_as} is accepted and can see account {seen}"))
}

/// Looks up who the Databricks credential belongs to.
pub(super) async fn databricks_identity(reader: &Reader, identity: &Databricks) -> (Check, Option<Me>) {
    let (part, id) = (Section::Databricks, "identity");
    match who(reader).await {
        Ok(me) => {
            let what =
                format!("{} is {}; token accepted ({})", reader.known_as(), me.user_name, identity.auth_method.name());
            (Check::ok(part, id, what), Some(me))
        }
        Err(mut failure) => {
            let tried = identity.tried.iter().map(ToString::to_string).filter(|row| !failure.causes.contains(row));
            let tried: Vec<String> = tried.collect();
            failure.open_questions.tried += tried.len();
            failure.causes.extend(tried);
            (Check::failed(part, id, failure), None)
        }
    }
}

/// Probes a host, and returns the checks.
pub(super) async fn host_checks(host: Host<'_>, ctx: &CommandContext) -> Result<Vec<Check>, Failure> {
    let probed = probe_host(host.origin, ctx).await?;
    Ok(host.checks(probed, &ctx.context.environment, ctx.context.wall.now()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_off_is_a_warning_and_one_that_is_wrong_a_failure() {
        let shown = |origin: &str, date: Option<&str>| {
            let origin = Origin::parse(origin).unwrap();
            let host = Host { part: Section::Dbt, origin: &origin };
            let date = date.map(|date| date.parse().unwrap());
            let checks = host.checks(Ok(date), &Environment::default(), "2026-11-10T12:00:00Z".parse().unwrap());
            format!("{:?}", checks.last().unwrap())
        };
        let remote = "https://ab123.us1.dbt.com";
        for (date, words) in [
            ("2026-11-10T12:01:00Z", ["Ok", "the clock of this machine matches"]),
            ("2026-11-10T12:01:01Z", ["Warning", "1m 1s behind ab123"]),
            ("2026-11-10T11:55:00Z", ["Warning", "5m ahead of ab123"]),
            ("2026-11-10T11:54:59Z", ["Failed", "5m 1s ahead of ab123"]),
        ] {
            let shown = shown(remote, Some(date));
            assert!(words.iter().all(|word| shown.contains(word)), "{date}: {shown}");
        }
        let silent = shown(remote, None);
        assert!(silent.contains("Skipped") && silent.contains("sends no Date header"), "{silent}");
        let sandbox = shown("http://127.0.0.1:1", Some("2001-01-01T00:00:00Z"));
        assert!(sandbox.contains("Skipped") && sandbox.contains("the host is this machine"), "{sandbox}");
    }
}
