//! Failures of requests, with advice for each service.

use http::StatusCode;

use super::{Code, Failure, Hint};
use crate::http::{Fault, HttpError, Meaning, NetKind, Said, Shape};

/// A failed request to dbt Cloud; `doing` is what was being done: "cannot read job 123".
pub(crate) fn of_dbt(doing: &str, error: &HttpError) -> Failure {
    let failure = base(doing, error);
    let origin = &error.origin;
    match error.means() {
        // dbt answers 401 for a good token at the wrong host too (dbt-cloud-api §1.2).
        Meaning::TokenInvalid => failure
            .cause(format!(
                "{origin} rejects the token: it is invalid, expired, or for another host"
            ))
            .hint(DBT_TOKEN),
        Meaning::TokenExpired => failure.cause(format!("{origin} says the token has expired")).hint(DBT_TOKEN),
        Meaning::Unpaid => failure
            .cause("the token is not the problem: the dbt account's plan does not include the API, or is unpaid")
            .advise("ask the dbt account's owner to check Account settings > Billing"),
        Meaning::OtherAccount => {
            failure.advise("check DBT_CLOUD_ACCOUNT_ID or --dbt-account: the token belongs to another account")
        }
        Meaning::AddressBlocked => {
            failure.advise("the account restricts IP addresses: ask its administrator to allow this machine's address")
        }
        Meaning::RightMissing => failure.advise(
            "check DBT_CLOUD_ACCOUNT_ID, and that the token has the permission set Job Admin (or Job Runner) on the project",
        ),
        Meaning::NotFound => failure.advise(
            "compare the IDs with the job's URL in dbt; a token without permission gets the same response",
        ),
        Meaning::WrongHost => {
            failure.advise("compare DBT_CLOUD_HOST with your browser's address bar when signed in to dbt")
        }
        Meaning::NotImplemented | Meaning::NotInPlan | Meaning::Other => failure,
    }
}

/// What helps with a token that dbt does not take.
const DBT_TOKEN: Hint = Hint::DoAndSet {
    advice: "create a new token under Account settings > API tokens, or compare the host with your browser's address bar when signed in to dbt",
    set: "DBT_CLOUD_TOKEN or DBT_CLOUD_HOST",
};

/// What helps with a token that Databricks does not take.
pub(crate) const DATABRICKS_TOKEN: Hint = Hint::DoAndSet {
    advice: "check the host, or create a new token under Settings > Developer > Access tokens",
    set: "DATABRICKS_TOKEN or the profile's token",
};

/// So a host of several workspaces is told which one is meant (databricks-api §1.4).
const NAME_WORKSPACE: &str = "if one host serves several workspaces, set DATABRICKS_WORKSPACE_ID to the number after `o=` in the browser's address bar";

/// A failed request to Databricks.
pub(crate) fn of_databricks(doing: &str, error: &HttpError) -> Failure {
    let failure = base(doing, error);
    // Without the workspace's id such a host sends its login page, or a redirect to it.
    let logs_in = match error.last_fault() {
        Fault::Nonsense(Shape::Page(_)) => true,
        Fault::Status(status, said) => {
            status.is_redirection() && said.location.as_deref().is_some_and(|to| to.contains("/login"))
        }
        Fault::NotSent(_) | Fault::NoToken(_) | Fault::Lost(_) | Fault::Nonsense(_) | Fault::TooLate(_) => false,
    };
    if logs_in {
        return failure.advise(NAME_WORKSPACE);
    }
    let origin = &error.origin;
    match error.means() {
        Meaning::TokenInvalid => failure
            .cause(format!("{origin} rejects the token: it is invalid, expired, or for another workspace"))
            .hint(DATABRICKS_TOKEN),
        Meaning::TokenExpired => failure.cause(format!("{origin} says the token has expired")).hint(DATABRICKS_TOKEN),
        Meaning::AddressBlocked => failure
            .advise("the workspace restricts IP addresses: ask its administrator to allow this machine's address"),
        Meaning::NotInPlan => failure.advise("this workspace's plan does not include this"),
        Meaning::RightMissing => {
            failure.advise("ask a workspace administrator for the permission, or use a token that has it")
        }
        Meaning::NotFound => {
            failure.advise("check the name; an object that this identity cannot see gets the same response")
        }
        Meaning::WrongHost => failure.advise("check DATABRICKS_HOST or the profile's host").advise(NAME_WORKSPACE),
        Meaning::NotImplemented | Meaning::Unpaid | Meaning::OtherAccount | Meaning::Other => failure,
    }
}

fn base(doing: &str, error: &HttpError) -> Failure {
    if error.late {
        let failure = Failure::new(Code::StillRunning, format!("{doing}.")).cause(error.to_string());
        return failure.advise("increase --timeout");
    }
    let code = match error.last_fault() {
        Fault::NotSent(net) | Fault::Lost(net) => of_net(net.kind),
        Fault::NoToken(none) => match none.net {
            Some(kind) => of_net(kind),
            None if none.passing => Code::Unavailable,
            None => Code::NotAuthenticated,
        },
        Fault::Status(status, said) => of_status(*status, said),
        Fault::Nonsense(_) => Code::Nonsense,
        // `last_fault` has unwrapped it.
        Fault::TooLate(_) => Code::Unavailable,
    };
    let failure = Failure::new(code, format!("{doing}.")).cause(error.to_string());
    match error.last_fault() {
        Fault::NoToken(none) => {
            let advice = match none.net {
                Some(kind) => on_the_way(kind),
                None => &none.advice,
            };
            none.tried.iter().fold(failure, Failure::cause).advise(advice)
        }
        Fault::NotSent(net) | Fault::Lost(net) => failure.advise(on_the_way(net.kind)),
        Fault::Status(status, said) if status.is_redirection() => {
            let target = said.location.as_deref().unwrap_or("another place");
            failure.advise(format!("redirects are not followed with a token; if {target} is your host, use it"))
        }
        Fault::Status(_, said) if said.means == Meaning::NotImplemented => failure
            .cause("this server does not support this request")
            .advise("check the host: it may be a test server or an older version of the service"),
        Fault::Status(..) if matches!(code, Code::RateLimited | Code::Unavailable) => {
            failure.advise("run the same command again in a few minutes")
        }
        Fault::Status(..) if code == Code::Failed => {
            failure.advise("run the same command again with `-vv` to see the request and the response")
        }
        // What the others need depends on the service.
        Fault::Status(..) => failure,
        Fault::Nonsense(Shape::Page(_)) => {
            failure.advise("the host may be wrong, or a proxy or sign-in page answers instead: open it in a browser")
        }
        Fault::Nonsense(Shape::Empty | Shape::TooLarge { .. } | Shape::Broken(_) | Shape::Unreadable(_))
        | Fault::TooLate(_) => failure.advise("run the same command again with `-vv` to see the response"),
    }
}

fn of_net(kind: NetKind) -> Code {
    match kind {
        NetKind::Certificate | NetKind::Tls => Code::Tls,
        NetKind::Name
        | NetKind::Connect
        | NetKind::ConnectTimeout
        | NetKind::Proxy
        | NetKind::Broken
        | NetKind::Timeout => Code::Network,
    }
}

/// What helps on the way to a host.
fn on_the_way(kind: NetKind) -> &'static str {
    match kind {
        NetKind::Name => "check the host name and the network",
        NetKind::Certificate => {
            "behind a TLS-inspecting proxy, pass its CA certificate with --ca-bundle or SSL_CERT_FILE"
        }
        NetKind::Proxy => "check HTTPS_PROXY and NO_PROXY",
        NetKind::Connect | NetKind::ConnectTimeout | NetKind::Tls | NetKind::Broken | NetKind::Timeout => {
            "check the host, the network, and HTTPS_PROXY, then run the same command again"
        }
    }
}

fn of_status(status: StatusCode, said: &Said) -> Code {
    match said.means {
        Meaning::TokenInvalid | Meaning::TokenExpired => return Code::NotAuthenticated,
        Meaning::AddressBlocked
        | Meaning::RightMissing
        | Meaning::NotInPlan
        | Meaning::Unpaid
        | Meaning::OtherAccount => return Code::NotAllowed,
        Meaning::NotFound => return Code::NotFound,
        Meaning::NotImplemented => return Code::Failed,
        Meaning::WrongHost | Meaning::Other => {}
    }
    match status.as_u16() {
        401 => Code::NotAuthenticated,
        403 => Code::NotAllowed,
        404 => Code::NotFound,
        429 => Code::RateLimited,
        408 | 425 | 500 | 502 | 503 | 504 => Code::Unavailable,
        300..=399 => Code::Nonsense,
        _ => Code::Failed,
    }
}
