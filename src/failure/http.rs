//! Failures of requests, with advice for each service.

use http::StatusCode;

use super::{Code, Failure};
use crate::http::{Fault, HttpError, NetKind, Said, Shape};

/// A failed request to dbt Cloud; `doing` is what was being done: "cannot read job 123".
pub(crate) fn of_dbt(doing: &str, error: &HttpError) -> Failure {
    let failure = base(doing, error);
    if failure.code == Code::NotAuthenticated {
        // dbt answers 401 for a good token at the wrong host too (dbt-cloud-api §1.2).
        failure
            .cause(format!("{} does not accept the token: it is invalid or expired, or this is not your account's host", error.origin))
            .advise("compare the host with your browser's address bar when signed in to dbt, then set DBT_CLOUD_HOST; make a new token under Account settings > API tokens")
    } else if failure.code == Code::NotAllowed {
        failure.advise(if is_ip_restriction(error) {
            "the account restricts IP addresses: ask its administrator to allow this machine's address"
        } else {
            "check DBT_CLOUD_ACCOUNT_ID, and that the token has the permission set Job Admin (or Job Runner) on the project"
        })
    } else if failure.code == Code::NotFound {
        failure.advise(
            "compare the ids with the URL of the job in dbt; a token without permission on it gets the same answer",
        )
    } else {
        failure
    }
}

/// Whether dbt Cloud lets no request from this address in (dbt-cloud-api §2.5).
pub(crate) fn is_ip_restriction(error: &HttpError) -> bool {
    error.is_status(403) && error.said().is_some_and(|said| said.message.contains("Forbidden: Access denied"))
}

/// A failed request to Databricks.
pub(crate) fn of_databricks(doing: &str, error: &HttpError) -> Failure {
    let failure = base(doing, error);
    if let Fault::NoToken(_) = error.last_fault() {
        return failure;
    }
    if failure.code == Code::NotAuthenticated {
        failure
            .cause(format!("{} does not accept the token", error.origin))
            .advise("check the host, and make a new token under Settings > Developer > Access tokens, then set DATABRICKS_TOKEN or the profile's token")
    } else if failure.code == Code::NotAllowed {
        failure.advise("ask a workspace administrator for the permission, or use the token of somebody who has it")
    } else if failure.code == Code::NotFound {
        failure.advise("check the name: what is there but not visible to this identity gets the same answer")
    } else if let Fault::Nonsense(Shape::Page(_)) = error.last_fault() {
        // databricks-api §1.4: so answers a host of several workspaces that was not told which one.
        failure.advise(
            "where one host serves several workspaces, set DATABRICKS_WORKSPACE_ID to the number behind `o=` in the browser's address bar",
        )
    } else {
        failure
    }
}

fn base(doing: &str, error: &HttpError) -> Failure {
    if error.late {
        let failure = Failure::new(Code::StillRunning, format!("{doing}.")).cause(error.to_string());
        return failure.advise("give more time with --timeout");
    }
    let code = match error.last_fault() {
        Fault::NotSent(net) | Fault::Lost(net) => match net.kind {
            NetKind::Certificate | NetKind::Tls => Code::Tls,
            NetKind::Name
            | NetKind::Connect
            | NetKind::ConnectTimeout
            | NetKind::Proxy
            | NetKind::Broken
            | NetKind::Timeout => Code::Network,
        },
        Fault::NoToken(none) => {
            if none.passing {
                Code::Unavailable
            } else {
                Code::NotAuthenticated
            }
        }
        Fault::Status(status, said) => of_status(*status, said),
        Fault::Nonsense(_) => Code::Nonsense,
        // `last_fault` has unwrapped it.
        Fault::TooLate(_) => Code::Unavailable,
    };
    let failure = Failure::new(code, format!("{doing}.")).cause(error.to_string());
    match error.last_fault() {
        Fault::NoToken(none) => none.tried.iter().fold(failure, Failure::cause).advise(&none.advice),
        Fault::NotSent(net) | Fault::Lost(net) => failure.advise(match net.kind {
            NetKind::Name => "check the host name for a typing error, and the network",
            NetKind::Certificate => {
                "a proxy that opens TLS connections needs its CA: name a file with it by --ca-bundle, or set SSL_CERT_FILE"
            }
            NetKind::Proxy => "check HTTPS_PROXY and NO_PROXY",
            NetKind::Connect | NetKind::ConnectTimeout | NetKind::Tls | NetKind::Broken | NetKind::Timeout => {
                "check the host, the network and HTTPS_PROXY, then run the same command again"
            }
        }),
        Fault::Status(status, said) if status.is_redirection() => {
            let target = said.location.as_deref().unwrap_or("another place");
            failure
                .advise(format!("redirects are not followed with a token; if {target} is your real host, use that one"))
        }
        Fault::Status(..) if matches!(code, Code::RateLimited | Code::Unavailable) => {
            failure.advise("run the same command again in a few minutes")
        }
        Fault::Status(..) if code == Code::Failed => {
            failure.advise("run the same command again with `-vv` to see what was asked and answered")
        }
        // What the others need depends on the service.
        Fault::Status(..) => failure,
        Fault::Nonsense(Shape::Page(_)) => {
            failure.advise("the host may be wrong, or a proxy or login page stands in between: open it in a browser")
        }
        Fault::Nonsense(Shape::Empty | Shape::TooLarge { .. } | Shape::Unreadable(_)) | Fault::TooLate(_) => {
            failure.advise("run the same command again with `-vv` to see the answer")
        }
    }
}

fn of_status(status: StatusCode, said: &Said) -> Code {
    // Codes first, statuses second: Databricks answers 400 for several of these (databricks-api §2.2).
    match said.code.as_deref() {
        Some("RESOURCE_DOES_NOT_EXIST" | "NOT_FOUND") => return Code::NotFound,
        Some("PERMISSION_DENIED") => return Code::NotAllowed,
        Some(_) | None => {}
    }
    if said.message.contains("does not exist") && status.as_u16() == 400 {
        return Code::NotFound;
    }
    match status.as_u16() {
        401 => Code::NotAuthenticated,
        403 => Code::NotAllowed,
        404 => Code::NotFound,
        429 => Code::RateLimited,
        408 | 500 | 502 | 503 | 504 => Code::Unavailable,
        300..=399 => Code::Nonsense,
        _ => Code::Failed,
    }
}
