//! What an error response means, from its status, error code and known wording, for both services.

use http::{HeaderMap, StatusCode};

/// The service that responded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Service {
    Databricks,
    Dbt,
}

/// What an error response means. All advice and all decisions about errors depend on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// IP address not allowed.
    AddressBlocked,
    /// The token is invalid, revoked, or for another host.
    TokenInvalid,
    /// The token has expired.
    TokenExpired,
    /// The identity lacks a permission.
    RightMissing,
    /// The workspace's plan does not include this, mostly access control lists.
    NotInPlan,
    /// The dbt account is unpaid.
    Unpaid,
    /// The token belongs to another dbt account.
    OtherAccount,
    /// Not the service, or a host of several workspaces that needs a workspace ID.
    WrongHost,
    /// Not found, or not visible to this identity.
    NotFound,
    /// The server does not have this endpoint.
    NotImplemented,
    /// Nothing more specific than the status.
    #[default]
    Other,
}

/// What a known phrase means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phrase {
    /// The meaning of an error response.
    Refusal(Meaning),
    /// The object already exists.
    AlreadyExists,
    /// The workspace has no serverless compute, so the task needs a cluster.
    ServerlessOff,
    /// Without the Premium plan a new secret scope is readable by all users.
    PremiumOnly,
    /// The `run_as` identity is the problem.
    RunAs,
    /// In a task's error: the notebook cannot be read.
    NotebookUnreadable,
    /// In the message of a canceled dbt run: dbt's time limit was reached.
    TimedOut,
}

/// Known phrases, in lower case. Response text is searched nowhere else. The first matching row decides, so errors that
/// block everything come first.
const WORDS: &[(Service, &str, Phrase)] = &[
    // databricks-api §2.3; wording not confirmed.
    (Service::Databricks, "ip acl", Phrase::Refusal(Meaning::AddressBlocked)),
    (Service::Databricks, "ip access list", Phrase::Refusal(Meaning::AddressBlocked)),
    // databricks-api §2.2b: azure-databricks-operator#99, ucx#557, migrate#63.
    (Service::Databricks, "acl is not supported", Phrase::Refusal(Meaning::NotInPlan)),
    (Service::Databricks, "acls for", Phrase::Refusal(Meaning::NotInPlan)),
    (Service::Databricks, "not available in this tier", Phrase::Refusal(Meaning::NotInPlan)),
    (Service::Databricks, "feature_disabled", Phrase::Refusal(Meaning::NotInPlan)),
    // databricks-api §2.2b: migrate#284. Before "access token", because permissions may be about tokens.
    (Service::Databricks, "does not have permission", Phrase::Refusal(Meaning::RightMissing)),
    (Service::Databricks, "is not authorized to", Phrase::Refusal(Meaning::RightMissing)),
    // databricks-api §1.6: databricks-vscode#583.
    (Service::Databricks, "token expired", Phrase::Refusal(Meaning::TokenExpired)),
    (Service::Databricks, "token is expired", Phrase::Refusal(Meaning::TokenExpired)),
    (Service::Databricks, "token has expired", Phrase::Refusal(Meaning::TokenExpired)),
    (Service::Databricks, "token is expiring", Phrase::Refusal(Meaning::TokenExpired)),
    // databricks-api §2.2a: sdk-go#917, terraform#66, cli#4768.
    (Service::Databricks, "access token", Phrase::Refusal(Meaning::TokenInvalid)),
    (Service::Databricks, "invalid token", Phrase::Refusal(Meaning::TokenInvalid)),
    // databricks-api §1.4: a host of several workspaces without a workspace ID.
    (Service::Databricks, "unable to load oauth config", Phrase::Refusal(Meaning::WrongHost)),
    // databricks-api §2.2: often the only sign that something does not exist, with 400.
    (Service::Databricks, "does not exist", Phrase::Refusal(Meaning::NotFound)),
    (Service::Databricks, "doesn't exist", Phrase::Refusal(Meaning::NotFound)),
    // databricks-api §3.3, for responses without a code.
    (Service::Databricks, "already exists", Phrase::AlreadyExists),
    // databricks-api §6.3.
    (Service::Databricks, "serverless", Phrase::ServerlessOff),
    (Service::Databricks, "existing_cluster_id must be specified", Phrase::ServerlessOff),
    // databricks-api §3.3, §2.2b: azure-devops-docs PR#9089.
    (Service::Databricks, "initial_manage_principal", Phrase::PremiumOnly),
    (Service::Databricks, "premium", Phrase::PremiumOnly),
    // databricks-api §5.5: the field name.
    (Service::Databricks, "run_as", Phrase::RunAs),
    // databricks-api §4.3.
    (Service::Databricks, "unable to access the notebook", Phrase::NotebookUnreadable),
    // dbt-cloud-api §2.5.
    (Service::Dbt, "forbidden: access denied", Phrase::Refusal(Meaning::AddressBlocked)),
    (Service::Dbt, "not accessible to unpaid accounts", Phrase::Refusal(Meaning::Unpaid)),
    (Service::Dbt, "not scoped to account", Phrase::Refusal(Meaning::OtherAccount)),
    (Service::Dbt, "token has expired", Phrase::Refusal(Meaning::TokenExpired)),
    (Service::Dbt, "token is expired", Phrase::Refusal(Meaning::TokenExpired)),
    (Service::Dbt, "invalid token", Phrase::Refusal(Meaning::TokenInvalid)),
    // dbt-cloud-api §4.2.
    (Service::Dbt, "timed out", Phrase::TimedOut),
];

/// Whether this text contains a phrase with this meaning.
pub(crate) fn says(service: Service, words: &str, phrase: Phrase) -> bool {
    let words = words.to_lowercase();
    WORDS.iter().any(|(whose, known, says)| *whose == service && *says == phrase && words.contains(known))
}

/// Databricks error codes that mean the same with any status (databricks-api §2.2).
const CODES: &[(&str, Meaning)] = &[
    ("FEATURE_DISABLED", Meaning::NotInPlan),
    ("NOT_IMPLEMENTED", Meaning::NotImplemented),
    ("ENDPOINT_NOT_FOUND", Meaning::NotImplemented),
    ("RESOURCE_DOES_NOT_EXIST", Meaning::NotFound),
    ("NOT_FOUND", Meaning::NotFound),
    ("PERMISSION_DENIED", Meaning::RightMissing),
    ("UNAUTHENTICATED", Meaning::TokenInvalid),
];

/// Returns the meaning of an error response. `page` says that it was a web page.
pub(crate) fn meaning(
    service: Service,
    status: StatusCode,
    headers: &HeaderMap,
    code: Option<&str>,
    message: &str,
    page: bool,
) -> Meaning {
    let status = status.as_u16();
    if matches!(status, 408 | 425 | 429) {
        return Meaning::Other;
    }
    // databricks-api §2.2a: old endpoints report the reason only in this header.
    let phrase = headers.get("x-databricks-reason-phrase").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let said = format!("{} {message} {phrase}", code.unwrap_or_default()).to_lowercase();
    // 5xx and other 4xx responses may quote any text. For them, only "not in plan" counts, and "not found" with 400.
    let decides = |meaning: Meaning| match meaning {
        Meaning::NotInPlan => true,
        Meaning::NotFound => status == 400,
        Meaning::AddressBlocked
        | Meaning::TokenInvalid
        | Meaning::TokenExpired
        | Meaning::RightMissing
        | Meaning::Unpaid
        | Meaning::OtherAccount
        | Meaning::WrongHost
        | Meaning::NotImplemented
        | Meaning::Other => matches!(status, 401 | 403 | 404),
    };
    let known = WORDS.iter().find_map(|(whose, words, says)| match says {
        Phrase::Refusal(means) if *whose == service && decides(*means) && said.contains(words) => Some(*means),
        Phrase::Refusal(_)
        | Phrase::AlreadyExists
        | Phrase::ServerlessOff
        | Phrase::PremiumOnly
        | Phrase::RunAs
        | Phrase::NotebookUnreadable
        | Phrase::TimedOut => None,
    });
    let of_code = || CODES.iter().find(|(known, _)| service == Service::Databricks && code == Some(known));
    if let Some(means) = known.or_else(|| of_code().map(|(_, means)| *means)) {
        return means;
    }
    match status {
        // databricks-api §1.4: the response of a host of several workspaces without a workspace ID.
        300..=399 if service == Service::Databricks && leads_to_login(headers) => Meaning::WrongHost,
        401 => Meaning::TokenInvalid,
        403 | 404 if page => Meaning::WrongHost,
        403 => Meaning::RightMissing,
        404 => Meaning::NotFound,
        501 => Meaning::NotImplemented,
        _ => Meaning::Other,
    }
}

fn leads_to_login(headers: &HeaderMap) -> bool {
    let location = headers.get(http::header::LOCATION).and_then(|value| value.to_str().ok());
    location.is_some_and(|location| location.contains("/login"))
}

impl Meaning {
    /// Whether the identity or its address is rejected, so that the next request will be too.
    pub(crate) fn rejects_identity(self) -> bool {
        match self {
            Meaning::AddressBlocked
            | Meaning::TokenInvalid
            | Meaning::TokenExpired
            | Meaning::RightMissing
            | Meaning::NotInPlan
            | Meaning::Unpaid
            | Meaning::OtherAccount => true,
            // May be temporary, such as a proxy.
            Meaning::WrongHost | Meaning::NotFound | Meaning::NotImplemented | Meaning::Other => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Error responses from user reports, with their expected meaning.
    const KNOWN: &[(Service, u16, &str, &str, Meaning)] = &[
        (Service::Databricks, 403, "403", "Invalid access token.", Meaning::TokenInvalid),
        (Service::Databricks, 403, "PERMISSION_DENIED", "Invalid access token.", Meaning::TokenInvalid),
        (Service::Databricks, 403, "", "Error 403 Invalid access token.", Meaning::TokenInvalid),
        (Service::Databricks, 403, "", "Invalid Token", Meaning::TokenInvalid),
        (Service::Databricks, 401, "", "Credential was not sent or was of an unsupported type", Meaning::TokenInvalid),
        (Service::Databricks, 401, "UNAUTHENTICATED", "", Meaning::TokenInvalid),
        (Service::Databricks, 403, "", "Token is expiring within 30 seconds. (token expired)", Meaning::TokenExpired),
        (Service::Databricks, 403, "", "Access token has expired", Meaning::TokenExpired),
        (
            Service::Databricks,
            403,
            "PERMISSION_DENIED",
            "User ana does not have READ permission on scope s to perform this action.",
            Meaning::RightMissing,
        ),
        (
            Service::Databricks,
            403,
            "PERMISSION_DENIED",
            "ana does not have permission to use access tokens",
            Meaning::RightMissing,
        ),
        (Service::Databricks, 403, "", "", Meaning::RightMissing),
        (
            Service::Databricks,
            403,
            "PERMISSION_DENIED",
            "Source IP address: 1.2.3.4 is blocked by Databricks IP ACL for workspace: 7, access token ok",
            Meaning::AddressBlocked,
        ),
        (Service::Databricks, 403, "PERMISSION_DENIED", "ACL is not supported in your workspace.", Meaning::NotInPlan),
        (
            Service::Databricks,
            404,
            "FEATURE_DISABLED",
            "ACLs for passwords are disabled or not available in this tier",
            Meaning::NotInPlan,
        ),
        (
            Service::Databricks,
            500,
            "INTERNAL_ERROR",
            "FEATURE_DISABLED: ACLs for cluster are disabled or not available in this tier",
            Meaning::NotInPlan,
        ),
        (Service::Databricks, 403, "FEATURE_DISABLED", "", Meaning::NotInPlan),
        (Service::Databricks, 501, "", "", Meaning::NotImplemented),
        (Service::Databricks, 404, "ENDPOINT_NOT_FOUND", "No API found", Meaning::NotImplemented),
        (Service::Databricks, 404, "RESOURCE_DOES_NOT_EXIST", "gone", Meaning::NotFound),
        (Service::Databricks, 400, "INVALID_PARAMETER_VALUE", "Run 5 does not exist.", Meaning::NotFound),
        (Service::Databricks, 400, "INVALID_PARAMETER_VALUE", "Run: 5 in job: 3 doesn't exist.", Meaning::NotFound),
        (Service::Databricks, 400, "INVALID_PARAMETER_VALUE", "access token is no number", Meaning::Other),
        (Service::Databricks, 429, "", "Invalid access token: too many requests", Meaning::Other),
        (Service::Databricks, 503, "", "IP ACL is loading", Meaning::Other),
        (Service::Databricks, 403, "", "Unable to load OAuth Config", Meaning::WrongHost),
        (Service::Dbt, 401, "", "Invalid token.", Meaning::TokenInvalid),
        (Service::Dbt, 403, "", "Invalid token.", Meaning::TokenInvalid),
        (Service::Dbt, 401, "", "Token has expired", Meaning::TokenExpired),
        (Service::Dbt, 401, "", "The API is not accessible to unpaid accounts.", Meaning::Unpaid),
        (Service::Dbt, 403, "", "Access denied: Token is not scoped to account.", Meaning::OtherAccount),
        (Service::Dbt, 403, "", "Forbidden: Access denied", Meaning::AddressBlocked),
        (Service::Dbt, 403, "", "Access denied", Meaning::RightMissing),
        (Service::Dbt, 404, "", "The requested resource was not found.", Meaning::NotFound),
        (Service::Dbt, 405, "", "Method not allowed", Meaning::Other),
        (Service::Dbt, 400, "", "job 7 does not exist", Meaning::Other),
        (Service::Dbt, 429, "", "", Meaning::Other),
    ];

    /// Phrases other than refusals, and near misses.
    const SAID: &[(Service, &str, Phrase, bool)] = &[
        (Service::Databricks, "Scope s already exists!", Phrase::AlreadyExists, true),
        (Service::Databricks, "Scope s does not exist", Phrase::AlreadyExists, false),
        (Service::Databricks, "Serverless compute is not enabled here.", Phrase::ServerlessOff, true),
        (
            Service::Databricks,
            "One of job_cluster_key, new_cluster, or existing_cluster_id must be specified.",
            Phrase::ServerlessOff,
            true,
        ),
        (Service::Databricks, "The timeout is too long.", Phrase::ServerlessOff, false),
        (Service::Databricks, "Premium Tier is disabled in this workspace.", Phrase::PremiumOnly, true),
        (
            Service::Databricks,
            "Secret scopes can only be created with initial_manage_principal \"users\".",
            Phrase::PremiumOnly,
            true,
        ),
        (Service::Databricks, "The field run_as names nobody.", Phrase::RunAs, true),
        (Service::Databricks, "Unable to access the notebook \"/x\".", Phrase::NotebookUnreadable, true),
        (Service::Dbt, "This run timed out after running for 1 day", Phrase::TimedOut, true),
        (Service::Dbt, "Cancelled by user.", Phrase::TimedOut, false),
        (Service::Dbt, "Scope s already exists!", Phrase::AlreadyExists, false),
        (Service::Databricks, "Token expired", Phrase::TimedOut, false),
    ];

    #[expect(clippy::print_stdout, reason = "the figure")]
    #[test]
    fn known_words_are_each_said_with_their_source_and_found_in_what_services_say() {
        for (service, words, phrase, expected) in SAID {
            assert_eq!(says(*service, words, *phrase), *expected, "{service:?} {words}");
        }
        let source = include_str!("refusal.rs");
        let table = source.split("const WORDS").nth(1).and_then(|rest| rest.split("];").next()).unwrap();
        let (mut cited, mut rows) = (0, 0);
        let mut comment = "";
        for line in table.lines().map(str::trim) {
            if line.starts_with("//") {
                comment = line;
            } else if line.starts_with("(Service::") {
                rows += 1;
                cited += usize::from(comment.contains("-api §"));
            }
        }
        println!("words of services with their source: {cited} of {rows}");
        assert!(cited == rows && rows == WORDS.len(), "{cited} of {rows} of {}", WORDS.len());
    }

    #[expect(clippy::print_stdout, reason = "the figure")]
    #[test]
    fn every_known_refusal_means_what_the_service_means_by_it() {
        let mut held = 0;
        for (service, status, code, message, expected) in KNOWN {
            let status = StatusCode::from_u16(*status).unwrap();
            let code = Some(*code).filter(|code| !code.is_empty());
            let found = meaning(*service, status, &HeaderMap::new(), code, message, false);
            assert_eq!(found, *expected, "{service:?} {status} {code:?} {message}");
            held += 1;
        }
        let mut headers = HeaderMap::new();
        headers.insert("x-databricks-reason-phrase", "Invalid access token.".parse().unwrap());
        let phrase = meaning(Service::Databricks, StatusCode::FORBIDDEN, &headers, None, "", true);
        assert_eq!(phrase, Meaning::TokenInvalid);
        headers.clear();
        headers.insert("location", "https://x/login.html?next=/api".parse().unwrap());
        let login = |service| meaning(service, StatusCode::FOUND, &headers, None, "", false);
        assert_eq!([login(Service::Databricks), login(Service::Dbt)], [Meaning::WrongHost, Meaning::Other]);
        for service in [Service::Databricks, Service::Dbt] {
            let page = meaning(service, StatusCode::NOT_FOUND, &HeaderMap::new(), None, "Not Found", true);
            assert_eq!(page, Meaning::WrongHost, "{service:?}");
        }
        println!("meanings of refusals: {held} of {}", KNOWN.len());
        assert_eq!(held, KNOWN.len());
    }
}
