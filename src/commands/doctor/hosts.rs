//! Checks of each host: DNS, connection, proxy, TLS, response and clock; and of the credential's identity.

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::check::{Check, Section};
use crate::commands::CommandContext;
use crate::commands::init_secrets::accounts;
use crate::commands::provision::who;
use crate::context::Environment;
use crate::credentials::{Account, Databricks};
use crate::databricks::me::Me;
use crate::failure::{Code, Failure, of_databricks, of_dbt};
use crate::http::{Fault, HostProbe, HttpError, Meaning, Net, ProbeStep, Reader};
use crate::origin::{Origin, is_loopback};

/// Proxy variables in order of precedence.
const PROXIES: [&str; 4] = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];
/// A larger clock difference is a warning; beyond `WRONG` it breaks sign-ins and certificates.
const OFF: SignedDuration = SignedDuration::from_mins(1);
const WRONG: SignedDuration = SignedDuration::from_mins(5);

/// A certificate that expires sooner is a warning: authorities renew earlier.
const SOON: SignedDuration = SignedDuration::from_hours(14 * 24);

/// One of the two hosts.
#[derive(Clone, Copy)]
pub(super) struct Host<'a> {
    pub(super) part: Section,
    pub(super) origin: &'a Origin,
}

/// The checks of a host, in order.
const STEPS: [ProbeStep; 5] =
    [ProbeStep::Name, ProbeStep::Connection, ProbeStep::Proxy, ProbeStep::Tls, ProbeStep::Answer];

fn word(step: ProbeStep) -> &'static str {
    match step {
        ProbeStep::Name => "name",
        ProbeStep::Connection => "connection",
        ProbeStep::Proxy => "proxy",
        ProbeStep::Tls => "tls",
        ProbeStep::Answer => "answer",
    }
}

impl Host<'_> {
    /// Host, with the port if it is not the default.
    fn place(self) -> String {
        let url = self.origin.url();
        url.port().map_or_else(|| self.origin.host().to_owned(), |port| format!("{}:{port}", self.origin.host()))
    }

    /// Checks from the result of the probe; `now` is the local time when it ended.
    pub(super) fn links(self, probe: &HostProbe, environment: &Environment, now: Timestamp) -> Vec<Check> {
        let HostProbe { proxy, addresses: _, broken, date, valid_until: _ } = probe;
        let source = proxy.as_ref().map(|_| {
            let set = PROXIES.into_iter().find(|name| environment.names().any(|known| known == *name));
            set.unwrap_or("the system's settings")
        });
        let mut checks = Vec::new();
        for step in STEPS.into_iter().filter(|step| proxy.is_some() || *step != ProbeStep::Proxy) {
            checks.push(match broken {
                Some((at, net)) if *at == step => {
                    Check::failed(self.part, word(step), self.broken(step, net, probe, source))
                }
                Some((at, _)) if *at < step => {
                    let of = format!("an earlier check failed: {}.{}", self.part.word(), word(*at));
                    Check::skipped(self.part, word(step), word(step), &of)
                }
                Some(_) | None => self.holds(step, probe, source, now),
            });
        }
        // A wrong clock does not block later checks.
        checks.push(self.clock(broken.as_ref().map(|(step, _)| *step), *date, now).optional());
        checks
    }

    fn holds(self, step: ProbeStep, probe: &HostProbe, source: Option<&str>, now: Timestamp) -> Check {
        let Host { part, origin } = self;
        let HostProbe { proxy, addresses, broken: _, date: _, valid_until } = probe;
        let (host, place) = (origin.host(), self.place());
        let addresses = addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let first = proxy.as_ref().map_or_else(|| host.to_owned(), |proxy| format!("the proxy {proxy}"));
        let what = match step {
            ProbeStep::Name if proxy.is_none() && is_loopback(origin.url()) => format!("{host} is an IP address"),
            ProbeStep::Name => format!("{first} resolves to {addresses}"),
            ProbeStep::Connection if proxy.is_none() => format!("{place} accepts connections"),
            ProbeStep::Connection => format!("{first} accepts connections"),
            ProbeStep::Proxy => {
                format!("{first} ({}) connects to {place}", source.unwrap_or_default())
            }
            ProbeStep::Tls if origin.url().scheme() != "https" => {
                return Check::skipped(part, word(step), "TLS", "plain HTTP to a loopback address");
            }
            ProbeStep::Tls => match valid_until {
                Some(until) => return self.certificate(*until, now),
                None => format!("the certificate of {host} is trusted"),
            },
            ProbeStep::Answer => format!("{place} answers"),
        };
        Check::ok(part, word(step), what)
    }

    /// The check of a trusted certificate, which is therefore still valid.
    fn certificate(self, until: Timestamp, now: Timestamp) -> Check {
        let Host { part, origin } = self;
        let (id, host) = (word(ProbeStep::Tls), origin.host());
        let left = until.duration_since(now);
        let (day, days) = (until.to_zoned(TimeZone::UTC).date(), left.as_hours() / 24);
        let days = if days == 1 { "1 day".to_owned() } else { format!("{days} days") };
        let check = if left < SOON {
            Check::warning(part, id, format!("The certificate of {host} expires on {day} ({days} left)."))
                .because("connections fail once it has expired")
                .advise(format!("ask the operator of {host}, or of the proxy in front of it, to renew the certificate"))
        } else {
            Check::ok(part, id, format!("the certificate of {host} is trusted and valid until {day} ({days} left)"))
        };
        check.valid_until(until)
    }

    fn broken(self, step: ProbeStep, net: &Net, probe: &HostProbe, source: Option<&str>) -> Failure {
        let Host { part, origin } = self;
        let (host, place) = (origin.host(), self.place());
        let first = |at: &str| probe.proxy.as_ref().map_or_else(|| at.to_owned(), |proxy| format!("the proxy {proxy}"));
        let what = match step {
            ProbeStep::Name => format!("Cannot resolve {}", first(host)),
            ProbeStep::Connection => format!("Cannot connect to {}", first(&place)),
            ProbeStep::Proxy => format!("Cannot connect through {} to {place}", first(&place)),
            ProbeStep::Tls => format!("TLS connection to {place} failed"),
            ProbeStep::Answer => format!("No HTTP response from {place}"),
        };
        let failure = self.failure(part, &what, net);
        match source {
            Some(source) if step <= ProbeStep::Proxy => Failure { hints: Vec::new(), ..failure }.advise(format!(
                "fix the proxy set in {source}, or add {host} to NO_PROXY if it is reachable directly"
            )),
            Some(_) | None => failure,
        }
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
            Section::Dbt => of_dbt(what, &error("dbt Cloud")),
            Section::Databricks | Section::Chain => of_databricks(what, &error("Databricks")),
        }
    }

    fn clock(self, broken: Option<ProbeStep>, date: Option<Timestamp>, now: Timestamp) -> Check {
        let Host { part, origin } = self;
        let id = "clock";
        if is_loopback(origin.url()) {
            // A sandbox has its own clock.
            return Check::skipped(part, id, id, "the host is this machine");
        }
        if let Some(step) = broken {
            let of = format!("an earlier check failed: {}.{}", part.word(), word(step));
            return Check::skipped(part, id, id, &of);
        }
        let host = origin.host();
        let Some(date) = date else {
            return Check::skipped(part, id, id, &format!("{host} sends no Date header"));
        };
        let off = now.duration_since(date);
        let side = if off.is_negative() { "behind" } else { "ahead of" };
        let what = format!("The clock of this machine is {} s {side} {host}", off.abs().as_secs());
        let advice = "set the clock and enable NTP";
        if off.abs() > WRONG {
            let failure = Failure::new(Code::Failed, format!("{what}."));
            return Check::failed(
                part,
                id,
                failure.cause("certificates, sign-in, and schedules depend on the time").advise(advice),
            );
        }
        if off.abs() > OFF {
            return Check::warning(part, id, format!("{what}.")).advise(advice);
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
            let doing = format!("Cannot list the accounts that the token from {known_as} can see");
            return Check::failed(part, id, of_dbt(&doing, &error));
        }
    };
    let named = |name: Option<&String>| name.map(|name| format!(" ({name})")).unwrap_or_default();
    let Some(seen) = accounts.iter().find(|seen| seen.id == account.id) else {
        let seen: Vec<String> =
            accounts.iter().map(|seen| format!("{}{}", seen.id, named(seen.name.as_ref()))).collect();
        let seen = if seen.is_empty() { "none".to_owned() } else { seen.join(", ") };
        let what = format!("The token from {known_as} is valid, but not for account {}.", account.id);
        let failure = Failure::new(Code::NotFound, what).cause(format!("accounts it can see: {seen}"));
        let advice = "check DBT_CLOUD_ACCOUNT_ID or --dbt-account, or create a token in that account under Account settings > API tokens";
        return Check::failed(part, id, failure.advise(advice));
    };
    if seen.locked == Some(true) {
        let failure = Failure::new(Code::NotAllowed, format!("dbt has locked account {}.", account.id));
        let failure = seen.lock_reason.iter().fold(failure, |failure, reason| failure.cause(reason.as_str()));
        return Check::failed(part, id, failure.advise("ask the account owner to contact dbt"));
    }
    let name = named(seen.name.as_ref());
    Check::ok(part, id, format!("the token from {known_as} is accepted and can see account {}{name}", account.id))
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
            failure.causes.extend(tried);
            (Check::failed(part, id, failure), None)
        }
    }
}

/// Probes a host and returns the checks.
pub(super) async fn probed(host: Host<'_>, ctx: &CommandContext) -> Result<Vec<Check>, Failure> {
    let probe = crate::commands::probe_host(host.origin, ctx).await?;
    Ok(host.links(&probe, &ctx.context.environment, ctx.context.wall.now()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{NetKind, Proxy};

    #[test]
    fn a_certificate_with_less_than_two_weeks_left_is_a_warning() {
        let origin = Origin::parse("https://ab123.us1.dbt.com").unwrap();
        let host = Host { part: Section::Dbt, origin: &origin };
        let until: Timestamp = "2026-11-24T12:00:00Z".parse().unwrap();
        let shown = |now: &str| {
            let probe = HostProbe { valid_until: Some(until), ..HostProbe::default() };
            let links = host.links(&probe, &Environment::default(), now.parse().unwrap());
            let [_, _, tls, _, _] = &links[..] else { panic!("{links:?}") };
            format!("{tls:?}")
        };
        for (now, words) in [
            ("2026-11-10T12:00:00Z", ["Ok", "valid until 2026-11-24 (14 days left)"]),
            ("2026-11-10T12:00:01Z", ["Warning", "expires on 2026-11-24 (13 days left)"]),
            ("2026-11-23T11:00:00Z", ["Warning", "(1 day left)"]),
            ("2026-11-24T11:00:00Z", ["Warning", "(0 days left)"]),
        ] {
            let shown = shown(now);
            assert!(words.iter().all(|word| shown.contains(word)), "{now}: {shown}");
        }
    }

    #[test]
    fn a_clock_that_is_off_is_a_warning_and_one_that_is_wrong_a_failure() {
        let shown = |origin: &str, date: Option<&str>| {
            let origin = Origin::parse(origin).unwrap();
            let probe = HostProbe { date: date.map(|date| date.parse().unwrap()), ..HostProbe::default() };
            let host = Host { part: Section::Dbt, origin: &origin };
            let links = host.links(&probe, &Environment::default(), "2026-11-10T12:00:00Z".parse().unwrap());
            format!("{:?}", links.last().unwrap())
        };
        let remote = "https://ab123.us1.dbt.com";
        for (date, words) in [
            ("2026-11-10T12:01:00Z", ["Ok", "the clock of this machine matches"]),
            ("2026-11-10T12:01:01Z", ["Warning", "61 s behind ab123"]),
            ("2026-11-10T11:55:00Z", ["Warning", "300 s ahead of ab123"]),
            ("2026-11-10T11:54:59Z", ["Failed", "301 s ahead of ab123"]),
        ] {
            let shown = shown(remote, Some(date));
            assert!(words.iter().all(|word| shown.contains(word)), "{date}: {shown}");
        }
        let silent = shown(remote, None);
        assert!(silent.contains("Skipped") && silent.contains("sends no Date header"), "{silent}");
        let sandbox = shown("http://127.0.0.1:1", Some("2001-01-01T00:00:00Z"));
        assert!(sandbox.contains("Skipped") && sandbox.contains("the host is this machine"), "{sandbox}");
    }

    #[test]
    fn behind_a_broken_link_nothing_is_said_to_hold_and_a_proxy_is_named_with_where_it_comes_from() {
        let origin = Origin::parse("https://ab123.us1.dbt.com").unwrap();
        let host = Host { part: Section::Dbt, origin: &origin };
        let net = Net::new(NetKind::Connect, "refused");
        let probe = HostProbe { broken: Some((ProbeStep::Connection, net.clone())), ..HostProbe::default() };
        let links = host.links(&probe, &Environment::default(), Timestamp::UNIX_EPOCH);
        let links: Vec<String> = links.iter().map(|link| format!("{link:?}")).collect();
        let words = ["Ok", "Failed", "Skipped", "Skipped", "Skipped"];
        assert!(links.len() == 5 && links.iter().zip(words).all(|(link, word)| link.contains(word)), "{links:#?}");
        assert!(links[2..].iter().all(|link| link.contains("failed: dbt.connection")), "{links:#?}");
        // The variable that set it, and the next step.
        let environment = Environment::of([("ALL_PROXY", "http://proxy.example:3128")]);
        let proxy = Proxy::of("http", "proxy.example", 3128);
        let probe = HostProbe { proxy: Some(proxy), broken: Some((ProbeStep::Proxy, net)), ..HostProbe::default() };
        let links = host.links(&probe, &environment, Timestamp::UNIX_EPOCH);
        let shown = format!("{:?}", links[2]);
        for words in
            ["Failed", "Cannot connect through the proxy", "set in ALL_PROXY, or add ab123.us1.dbt.com to NO_PROXY"]
        {
            assert!(shown.contains(words), "{words}: {shown}");
        }
    }
}
