//! Maps failed requests to failures, with advice for each service.

use http::StatusCode;

use super::remedy::Remedy;
use super::{Code, Failure, Hint};
use crate::http::{BodyProblem, Fault, HttpError, Limit, Meaning, NetKind, Service, ServiceError};

/// A failed request to dbt. `doing` is the failed action, such as "cannot read job 123".
pub(crate) fn of_dbt(doing: &str, error: &HttpError) -> Failure {
    // dbt answers 401 for a good token at the wrong host too.
    explained(Service::Dbt, "this is not your account's host", doing, error)
}

/// A failed request to Databricks.
pub(crate) fn of_databricks(doing: &str, error: &HttpError) -> Failure {
    explained(Service::Databricks, "belongs to another workspace", doing, error)
}

/// `or_else` is the other possible cause of a rejected token, besides being invalid or expired.
fn explained(service: Service, or_else: &str, doing: &str, error: &HttpError) -> Failure {
    let failure = base(doing, error);
    if error.exceeded.is_some() {
        return failure;
    }
    let origin = &error.origin;
    let is_page = matches!(error.last_fault(), Fault::InvalidResponse(BodyProblem::Page(_)));
    let means = if is_page { Meaning::WrongHost } else { error.means() };
    let failure = match means {
        Meaning::TokenInvalid => {
            failure.cause(format!("{origin} rejects the token: it is invalid or expired, or {or_else}"))
        }
        Meaning::TokenExpired => failure.cause(format!("{origin} says the token has expired")),
        Meaning::Unpaid => {
            failure.cause("the token is not the problem: the dbt account's plan does not include the API, or is unpaid")
        }
        Meaning::AddressBlocked
        | Meaning::RightMissing
        | Meaning::NotInPlan
        | Meaning::OtherAccount
        | Meaning::WrongHost
        | Meaning::NotFound
        | Meaning::NotImplemented
        | Meaning::Other => failure,
    };
    match Remedy::against(service, means) {
        Some(remedy) => failure.hint(Hint::Against(remedy)),
        None => failure,
    }
}

fn base(doing: &str, error: &HttpError) -> Failure {
    if let Some(limit) = error.exceeded {
        let failure =
            Failure::new(Code::StillRunning, format!("{doing}: timed out after {limit}")).cause(error.to_string());
        return failure.advise(match limit {
            Limit::Timeout(_) => "increase --timeout",
            Limit::Own(_) => "run the same command again in a few minutes",
        });
    }
    let code = match error.last_fault() {
        Fault::NotSent(net) | Fault::Lost(net) => of_net(net.kind),
        Fault::NoToken(none) => match none.net {
            Some(kind) => of_net(kind),
            None if none.is_retryable => Code::Unavailable,
            None => Code::NotAuthenticated,
        },
        Fault::Status(status, service_error) => of_status(*status, service_error),
        Fault::InvalidResponse(_) => Code::UnexpectedResponse,
        // Unreachable: `last_fault` unwraps it.
        Fault::DeadlineExceeded(_) => Code::Unavailable,
    };
    let failure = Failure::new(code, with_reason(doing, error.last_fault())).cause(error.to_string());
    match error.last_fault() {
        Fault::NoToken(none) => {
            let advice = match none.net {
                Some(kind) => on_the_way(kind),
                None => &none.advice,
            };
            let mut failure = none.tried.iter().fold(failure, Failure::cause).advise(advice);
            failure.open_questions.tried = none.tried.len();
            failure
        }
        Fault::NotSent(net) | Fault::Lost(net) => failure.advise(on_the_way(net.kind)),
        Fault::Status(status, service_error) if status.is_redirection() => {
            let target = service_error.location.as_deref().unwrap_or("another place");
            failure.advise(format!("redirects are not followed with a token; if {target} is your host, use it"))
        }
        Fault::Status(_, service_error) if service_error.means == Meaning::NotImplemented => failure
            .cause("this server does not support this request")
            .advise("check the host: it may be a test server or an older version of the service"),
        Fault::Status(..) if matches!(code, Code::RateLimited | Code::Unavailable) => {
            failure.advise("run the same command again in a few minutes")
        }
        Fault::Status(..) if code == Code::Failed => {
            failure.advise("run the same command again with `-vv` to see the request and the response")
        }
        // Advice for the other statuses depends on the service.
        Fault::Status(..) => failure,
        Fault::InvalidResponse(BodyProblem::Page(_)) => {
            failure.advise("open the host in a browser: it may be wrong, or a proxy or sign-in page answers")
        }
        Fault::InvalidResponse(
            BodyProblem::Empty | BodyProblem::TooLarge { .. } | BodyProblem::Broken(_) | BodyProblem::Unreadable(_),
        )
        | Fault::DeadlineExceeded(_) => failure.advise("run the same command again with `-vv` to see the response"),
    }
}

/// What failed, and why.
fn with_reason(doing: &str, fault: &Fault) -> String {
    let reason = match fault {
        Fault::NotSent(net) | Fault::Lost(net) => net.kind.to_string(),
        Fault::NoToken(_) => "not signed in".to_owned(),
        Fault::Status(status, said) => {
            let words = match said.means {
                Meaning::TokenInvalid => "token rejected",
                Meaning::TokenExpired => "token expired",
                Meaning::AddressBlocked => "IP address not allowed",
                Meaning::RightMissing => "permission denied",
                Meaning::NotInPlan => "not in this workspace's plan",
                Meaning::Unpaid => "not in the account's plan, or unpaid",
                Meaning::OtherAccount => "the token is for another account",
                Meaning::WrongHost => "wrong host",
                Meaning::NotFound => "not found",
                Meaning::NotImplemented => "not supported by this server",
                Meaning::Other => &status.canonical_reason().unwrap_or("unexpected status").to_lowercase(),
            };
            format!("{words} ({})", status.as_u16())
        }
        Fault::InvalidResponse(_) => "unexpected response".to_owned(),
        Fault::DeadlineExceeded(_) => "timed out".to_owned(),
    };
    format!("{doing}: {reason}")
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

/// Advice for a connection problem.
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

fn of_status(status: StatusCode, service_error: &ServiceError) -> Code {
    match service_error.means {
        Meaning::TokenInvalid | Meaning::TokenExpired => return Code::NotAuthenticated,
        Meaning::AddressBlocked
        | Meaning::RightMissing
        | Meaning::NotInPlan
        | Meaning::Unpaid
        | Meaning::OtherAccount => return Code::NotAllowed,
        Meaning::WrongHost => return Code::UnexpectedResponse,
        Meaning::NotFound => return Code::NotFound,
        Meaning::NotImplemented => return Code::Failed,
        Meaning::Other => {}
    }
    match status.as_u16() {
        429 => Code::RateLimited,
        408 | 425 | 500 | 502 | 503 | 504 => Code::Unavailable,
        300..=399 => Code::UnexpectedResponse,
        _ => Code::Failed,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::http::Net;

    #[test]
    fn only_where_the_command_has_the_flag_more_time_is_advised() {
        for (limit, advises) in
            [(Limit::Timeout(Duration::from_mins(10)), true), (Limit::Own(Duration::from_mins(5)), false)]
        {
            let error = HttpError {
                service: "Databricks",
                operation: "jobs/get",
                origin: "https://x".to_owned(),
                fault: Fault::Lost(Net::new(NetKind::Timeout, "no time was left")),
                attempts: 1,
                request_id: None,
                exceeded: Some(limit),
            };
            for failure in [of_dbt("cannot look", &error), of_databricks("cannot look", &error)] {
                let advice = failure.hints.iter().any(|hint| hint.to_string().contains("--timeout"));
                assert_eq!((failure.code, advice, failure.hints.len()), (Code::StillRunning, advises, 1), "{limit:?}");
            }
        }
    }
}
