//! The error codes: names, exit codes and explanations, for `explain` and `docs/reference/errors.md`.

/// The stable error codes. Names and exit codes are a public interface (`docs/reference/exit-codes.md`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    /// A failure without a code of its own.
    Failed,
    /// Unknown or conflicting flags or arguments.
    Usage,
    /// Values are missing and there is no terminal to prompt on.
    MissingInput,
    /// A value is malformed.
    InvalidInput,
    /// Two sources disagree.
    Contradiction,
    /// The run failed.
    RunFailed,
    /// The token is missing, invalid or expired.
    NotAuthenticated,
    /// The identity lacks a permission.
    NotAllowed,
    /// Not found, or not visible to the identity.
    NotFound,
    /// The run existed before and no longer does.
    RunGone,
    /// Not ours, edited by hand, open to others, or lacking something that a plan needs.
    Refused,
    /// Another process or user changed the object while the command ran. Their change is kept.
    ChangedMeanwhile,
    /// Timed out; the run is still active.
    StillRunning,
    /// Unknown whether the run was started. Nothing was sent again.
    OutcomeUnknown,
    /// DNS, connection or proxy.
    Network,
    /// Certificate or handshake.
    Tls,
    /// The service's response could not be understood.
    UnexpectedResponse,
    /// The run was canceled.
    RunCancelled,
    /// The user answered no, or left a question; with the signal of Ctrl-C.
    Cancelled(Option<u8>),
    /// A bug in dbtrigger.
    Bug,
    /// Still rate limited after all retries.
    RateLimited,
    /// Still unavailable after all retries.
    Unavailable,
    /// Ended by a signal, with its number.
    Interrupted(u8),
}

/// The explanation of one code.
pub(crate) struct Explanation {
    pub(crate) means: &'static str,
    /// Full sentences, most common first.
    pub(crate) why: &'static [&'static str],
    /// Full sentences, most common first. Commands are in backticks and can be typed.
    pub(crate) what_to_do: &'static [&'static str],
    /// A command line and its output.
    pub(crate) example: (&'static str, &'static str),
}

impl Code {
    /// The name in JSON output.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Code::Failed => "failed",
            Code::Usage => "usage",
            Code::MissingInput => "missing-input",
            Code::InvalidInput => "invalid-input",
            Code::Contradiction => "contradiction",
            Code::RunFailed => "run-failed",
            Code::NotAuthenticated => "not-authenticated",
            Code::NotAllowed => "not-allowed",
            Code::NotFound => "not-found",
            Code::RunGone => "run-gone",
            Code::Refused => "refused",
            Code::ChangedMeanwhile => "changed-meanwhile",
            Code::StillRunning => "still-running",
            Code::OutcomeUnknown => "outcome-unknown",
            Code::Network => "network",
            Code::Tls => "tls",
            Code::UnexpectedResponse => "unexpected-response",
            Code::RunCancelled => "run-cancelled",
            Code::Cancelled(_) => "cancelled",
            Code::Bug => "bug",
            Code::RateLimited => "rate-limited",
            Code::Unavailable => "unavailable",
            Code::Interrupted(_) => "interrupted",
        }
    }

    /// The process exit code.
    pub(crate) fn exit(self) -> u8 {
        match self {
            Code::Failed | Code::Cancelled(None) => 1,
            Code::Usage | Code::MissingInput | Code::InvalidInput | Code::Contradiction => 2,
            Code::RunFailed => 3,
            Code::NotAuthenticated | Code::NotAllowed => 4,
            Code::NotFound | Code::RunGone => 6,
            Code::Refused | Code::ChangedMeanwhile => 7,
            Code::StillRunning => 8,
            Code::OutcomeUnknown => 9,
            Code::Network | Code::Tls => 12,
            Code::UnexpectedResponse => 13,
            Code::RunCancelled => 20,
            Code::Bug => 70,
            Code::RateLimited | Code::Unavailable => 75,
            Code::Interrupted(signal) | Code::Cancelled(Some(signal)) => 128 + signal,
        }
    }

    /// Every code, in the order of the exit codes.
    pub(crate) const ALL: [Code; 23] = [
        Code::Failed,
        Code::Cancelled(None),
        Code::Usage,
        Code::MissingInput,
        Code::InvalidInput,
        Code::Contradiction,
        Code::RunFailed,
        Code::NotAuthenticated,
        Code::NotAllowed,
        Code::NotFound,
        Code::RunGone,
        Code::Refused,
        Code::ChangedMeanwhile,
        Code::StillRunning,
        Code::OutcomeUnknown,
        Code::Network,
        Code::Tls,
        Code::UnexpectedResponse,
        Code::RunCancelled,
        Code::Bug,
        Code::RateLimited,
        Code::Unavailable,
        Code::Interrupted(2),
    ];

    /// What a script can conclude from the exit code alone.
    pub(crate) fn exit_means(self) -> &'static str {
        match self {
            Code::Failed | Code::Cancelled(None) => "failed without a more specific code, or you answered no",
            Code::Usage | Code::MissingInput | Code::InvalidInput | Code::Contradiction => {
                "wrong usage, or missing, invalid, or conflicting input"
            }
            Code::RunFailed => "the run failed",
            Code::NotAuthenticated | Code::NotAllowed => "not authenticated, or not allowed",
            Code::NotFound | Code::RunGone => "not found, or not visible to you",
            Code::Refused | Code::ChangedMeanwhile => {
                "refused: not created by dbtrigger, edited by hand, open to others, something is missing, or changed meanwhile"
            }
            Code::StillRunning => "timed out, and the run is still active",
            Code::OutcomeUnknown => "unknown whether the run was started; nothing was sent again",
            Code::Network | Code::Tls => "network, TLS, or proxy",
            Code::UnexpectedResponse => "unexpected response",
            Code::RunCancelled => "the run was canceled",
            Code::Bug => "a bug in dbtrigger",
            Code::RateLimited | Code::Unavailable => "rate limited or unavailable after all retries; try later",
            Code::Interrupted(_) | Code::Cancelled(Some(_)) => "ended by a signal: 128 plus its number",
        }
    }

    /// The explanation of this code.
    #[expect(clippy::too_many_lines, reason = "one page for each code, in one exhaustive match")]
    pub(crate) fn explanation(self) -> Explanation {
        match self {
            Code::Failed => Explanation {
                means: "Something failed that has no code of its own.",
                why: &[
                    "A service rejected a request with a status that gives no reason.",
                    "The system rejected something: a directory that is not writable, a port in use, a full disk.",
                    "`doctor` found something broken.",
                ],
                what_to_do: &[
                    "Read the lines that start with `cause:`, which quote the service or the system.",
                    "Run the same command again with `-vv` to see requests and responses.",
                ],
                example: ("dbtrigger sandbox --port 8080", "error: port 8080 on 127.0.0.1 cannot be used [failed]"),
            },
            Code::Cancelled(_) => Explanation {
                means: "You answered no, or left a question. The last line says what was not done.",
                why: &["You answered no (1).", "You pressed Esc or Ctrl-C at a question (130)."],
                what_to_do: &["Run the command again, or the one after `next:`, which contains your answers."],
                example: ("dbtrigger setup", "^C\nCanceled. Nothing was written."),
            },
            Code::Usage => Explanation {
                means: "A flag, argument, or command does not exist, or flags conflict.",
                why: &[
                    "A name is mistyped; the error suggests the nearest one.",
                    "Two flags exclude each other.",
                    "A flag needs another one, such as --timezone without --schedule.",
                ],
                what_to_do: &["Read the command's help: `dbtrigger run --help`."],
                example: ("dbtrigger jobs --projekt Finance", "error: unexpected argument '--projekt' found [usage]"),
            },
            Code::MissingInput => Explanation {
                means: "Values are missing, and there is no terminal to prompt for them. The error lists all of them.",
                why: &[
                    "A variable is not set in this shell or pipeline, or is empty.",
                    "Another tool's variables are set instead; the error names them.",
                ],
                what_to_do: &[
                    "Run a command that a `next:` line names, or set the variables named there.",
                    "Try dbtrigger without an account first: `dbtrigger demo`.",
                ],
                example: (
                    "dbtrigger jobs",
                    "error: not signed in to dbt [missing-input]\nnext: run `dbtrigger auth login`, or set DBT_CLOUD_HOST and DBT_CLOUD_ACCOUNT_ID (or pass --dbt-url URL), and DBT_CLOUD_TOKEN",
                ),
            },
            Code::InvalidInput => Explanation {
                means: "A value is malformed, or matches several things.",
                why: &[
                    "A URL was truncated when it was copied, or is for something else.",
                    "A token contains spaces, quotes, or a line break.",
                    "Two jobs or workflows have the given name.",
                    "The profile does not exist in the file.",
                ],
                what_to_do: &[
                    "Compare the value with the format in the message.",
                    "If a name is not unique, use the ID: `dbtrigger jobs` lists dbt job IDs.",
                ],
                example: (
                    "dbtrigger run 0",
                    "error: invalid dbt job \"0\": a job ID is a positive number [invalid-input]",
                ),
            },
            Code::Contradiction => Explanation {
                means: "Two sources conflict, and neither takes precedence.",
                why: &[
                    "A pasted URL is for a different host or account than the variables.",
                    "Two variables for the same value differ.",
                    "A credential comes from one source, but only another source, such as a pasted URL or a file, names a host that is not a dbt or Databricks host.",
                ],
                what_to_do: &[
                    "Remove one of them: the message names both and their sources.",
                    "Pick the profile with -p, which overrides the environment.",
                ],
                example: (
                    "dbtrigger run https://ab123.us1.dbt.com/deploy/99/projects/111111/jobs/222222",
                    "error: two different dbt account IDs: DBT_CLOUD_ACCOUNT_ID is 1234, 99 in the URL https://ab123.us1.dbt.com/deploy/99/projects/111111/jobs/222222 [contradiction]\nnext: to use the URL https://ab123.us1.dbt.com/deploy/99/projects/111111/jobs/222222: `unset DBT_CLOUD_ACCOUNT_ID`",
                ),
            },
            Code::RunFailed => Explanation {
                means: "The run was started and failed. dbtrigger itself did its job.",
                why: &[
                    "A model or test failed: the output lists failures with their messages.",
                    "A step before dbt failed, such as cloning the repository.",
                    "A workflow ended with FAILED or TIMEDOUT, or was skipped because another run was active.",
                ],
                what_to_do: &[
                    "Open the run's URL to see the logs of every step.",
                    "Show the run again later, from any machine: `dbtrigger watch 70471805314449`.",
                ],
                example: ("dbtrigger run 222223", "error: dbt run 70471805314449 of job 222223 failed [run-failed]"),
            },
            Code::NotAuthenticated => Explanation {
                means: "The service rejects the token. A token that is missing is `missing-input` (exit code 2), except in `auth status`.",
                why: &[
                    "The token is expired, revoked, or incomplete.",
                    "The host is not that of your account: dbt rejects a valid token at the wrong host.",
                    "No method of signing in to Databricks is configured; the error lists why.",
                ],
                what_to_do: &[
                    "Check both services: `dbtrigger auth status`.",
                    "dbt: compare DBT_CLOUD_HOST with the address bar of your browser; create a new token under Account settings > API tokens.",
                    "Databricks: create a new token under Settings > Developer > Access tokens, or sign in with `databricks auth login`.",
                    "Replace an expired key in a secret scope with `dbtrigger init-secrets --rotate`.",
                ],
                example: (
                    "dbtrigger jobs",
                    "error: cannot list the projects of the account: token rejected (401) [not-authenticated]",
                ),
            },
            Code::NotAllowed => Explanation {
                means: "The identity is known but lacks a permission.",
                why: &[
                    "The dbt token lacks the permission set Job Admin (or Job Runner) on the project, or is for another account.",
                    "The Databricks identity lacks a permission on the scope, notebook, or job.",
                    "The dbt account restricts IP addresses.",
                ],
                what_to_do: &[
                    "Ask the owner of the object for access; the message names the object and the identity.",
                    "Let others read the key: `dbtrigger init-secrets --grant data-engineers`.",
                    "Compare DBT_CLOUD_ACCOUNT_ID with the number after /deploy/ in your dbt URLs.",
                ],
                example: (
                    "dbtrigger create-workflow --job 222222",
                    "error: cannot read the secret scope dbt-cloud as ana@example.com: permission denied (403) [not-allowed]",
                ),
            },
            Code::NotFound => Explanation {
                means: "It does not exist, or this identity cannot see it: the services do not distinguish the two.",
                why: &[
                    "A name or ID is mistyped; the error suggests the nearest names where it can list them.",
                    "It was deleted or renamed.",
                    "The token cannot see it.",
                ],
                what_to_do: &[
                    "List what exists: `dbtrigger jobs`, `dbtrigger runs`.",
                    "Compare the IDs with the URL in your browser.",
                ],
                example: (
                    "dbtrigger run 'nightly build'",
                    "error: no dbt job is named \"nightly build\", or this token cannot see it [not-found]\nnext: did you mean \"Nightly build\" (222222)?",
                ),
            },
            Code::RunGone => Explanation {
                means: "The run no longer exists, or this identity can no longer see it.",
                why: &[
                    "The run or its job was deleted while dbtrigger followed or canceled the run.",
                    "Permission to see it was revoked meanwhile: the services do not distinguish the two.",
                ],
                what_to_do: &["List the other runs: `dbtrigger runs`.", "Start a new run: `dbtrigger run 222222`."],
                example: (
                    "dbtrigger watch 70471805314449",
                    "error: dbt run 70471805314449 is gone: it was deleted, or is no longer visible [run-gone]",
                ),
            },
            Code::Refused => Explanation {
                means: "Nothing was written: an object was not created by dbtrigger, was edited by hand, or is open to others, or something that the plan needs is missing.",
                why: &[
                    "Someone else created a notebook or job with that name.",
                    "It was edited by hand; the error shows the difference.",
                    "People other than those named with --grant could read the key.",
                    "Something that the plan needs is missing: a notebook, a key, a cluster, or access for the run-as identity.",
                    "An idempotency key belongs to a run that was started with other parameters.",
                ],
                what_to_do: &[
                    "Review the difference; then use another name, or add the flag that the message names.",
                    "Run the missing step: `dbtrigger init-secrets`, then `dbtrigger deploy-notebook`.",
                    "See the plan without writing anything: `dbtrigger deploy-notebook --dry-run`.",
                ],
                example: (
                    "dbtrigger deploy-notebook",
                    "error: notebook /Users/ana@example.com/dbtrigger/run_dbt_job_51234 was edited by hand since dbtrigger 0.1.0 wrote it [refused]",
                ),
            },
            Code::ChangedMeanwhile => Explanation {
                means: "Something was changed after dbtrigger compared it and before it wrote. That change was kept.",
                why: &[
                    "A colleague edits the same workflow or notebook, or a pipeline runs the same command at the same time.",
                    "A bundle or Terraform deploys at the same moment.",
                ],
                what_to_do: &[
                    "Run the same command again: it compares with the current state.",
                    "See the plan with `--dry-run`.",
                ],
                example: (
                    "dbtrigger create-workflow --job 222222 --schedule '0 0 6 * * ?'",
                    "error: the workflow \"dbt: Nightly build (222222)\" was not written: it has changed since it was compared [changed-meanwhile]",
                ),
            },
            Code::StillRunning => Explanation {
                means: "The wait timed out. The run is still active, or was never started: the message says which. The timeout cancels nothing.",
                why: &[
                    "--timeout includes time in the queue.",
                    "The run waits for other runs of the job or environment.",
                    "--max-parallel or a slow service left no time to start the run.",
                ],
                what_to_do: &[
                    "Follow the run again, from any machine: `dbtrigger watch 70471805314449`.",
                    "Cancel it: `dbtrigger cancel 70471805314449`.",
                    "Increase --timeout.",
                ],
                example: (
                    "dbtrigger run 222225 --timeout 10m",
                    "error: timed out after 10m; dbt run 70471805314449 is still running [still-running]",
                ),
            },
            Code::OutcomeUnknown => Explanation {
                means: "The start request got no clear response, and no run was found so far. It was not sent again.",
                why: &[
                    "The connection broke after the request was sent, and looking for the run failed too.",
                    "--at-most-once was given, and no run appeared within --settle.",
                ],
                what_to_do: &[
                    "Run the command that the message names: it has the key of this start, and looks for the run before starting anything.",
                    "Look at the job in dbt, or list the latest runs: `dbtrigger runs`.",
                ],
                example: (
                    "dbtrigger run 222222 --at-most-once",
                    "error: it is unknown whether a run of dbt job 222222 was started; nothing was sent again [outcome-unknown]",
                ),
            },
            Code::Network => Explanation {
                means: "The service could not be reached: DNS, connection, or proxy.",
                why: &[
                    "The host name is mistyped.",
                    "This machine needs a proxy, or the proxy refused.",
                    "A firewall drops the connection.",
                ],
                what_to_do: &[
                    "Check the host, the network, HTTPS_PROXY, and NO_PROXY.",
                    "Run the same command again with `-v` to see each request.",
                ],
                example: (
                    "dbtrigger jobs",
                    "error: cannot list the projects of the account: connection refused [network]",
                ),
            },
            Code::Tls => Explanation {
                means: "The connection was made, but the certificate or handshake was rejected.",
                why: &[
                    "A TLS-inspecting proxy is in use, and its CA is not trusted here.",
                    "This machine's clock is wrong.",
                ],
                what_to_do: &[
                    "Pass the proxy's CA certificate with --ca-bundle or SSL_CERT_FILE. Certificate checks cannot be disabled.",
                ],
                example: (
                    "dbtrigger jobs",
                    "error: cannot list the projects of the account: the certificate is not trusted [tls]",
                ),
            },
            Code::UnexpectedResponse => Explanation {
                means: "The service sent an unexpected response.",
                why: &[
                    "The host is wrong: a web page or sign-in page answers there.",
                    "A proxy returned its own page.",
                    "The host redirects to another one; redirects are not followed with a token.",
                ],
                what_to_do: &[
                    "Open the host in a browser, and compare it with your account's.",
                    "Run the same command again with `-vv` to see the response.",
                ],
                example: (
                    "dbtrigger jobs",
                    "error: cannot list the projects of the account: unexpected response [unexpected-response]",
                ),
            },
            Code::RunCancelled => Explanation {
                means: "The run was canceled before it ended.",
                why: &[
                    "Someone canceled it in dbt, in Databricks, or with the command cancel.",
                    "dbt ended it at the job's time limit; `reason` in the JSON document says so.",
                ],
                what_to_do: &["See who canceled it on the run's page.", "Start a new run: `dbtrigger run 222222`."],
                example: (
                    "dbtrigger run 222224",
                    "error: dbt run 70471805314449 of job 222224 was canceled [run-cancelled]",
                ),
            },
            Code::Bug => Explanation {
                means: "dbtrigger reached a state that should be impossible.",
                why: &["This is a bug in dbtrigger."],
                what_to_do: &[
                    "Report it with the command, the whole output, and the line that `dbtrigger --version` prints. Output contains no secrets.",
                ],
                example: ("dbtrigger run 222222", "error: a value is missing without an error [bug]"),
            },
            Code::RateLimited => Explanation {
                means: "The service still limits requests after all retries.",
                why: &["Other tools use the same token or account at the same time."],
                what_to_do: &["Run the same command again in a few minutes: it continues where it stopped."],
                example: (
                    "dbtrigger jobs",
                    "error: cannot list the jobs of the account: too many requests (429) [rate-limited]",
                ),
            },
            Code::Unavailable => Explanation {
                means: "The service is still unavailable after all retries.",
                why: &["The service has an outage or maintenance.", "--timeout expired before the service responded."],
                what_to_do: &["Run the same command again in a few minutes.", "Check the service's status page."],
                example: (
                    "dbtrigger jobs",
                    "error: cannot list the jobs of the account: service unavailable (503) [unavailable]",
                ),
            },
            Code::Interrupted(_) => Explanation {
                means: "A signal ended the program. The exit code is 128 plus its number.",
                why: &[
                    "Ctrl-C was pressed (130), the pipeline stopped the step (143), or the terminal was closed (129).",
                    "The reader of the output closed it, as `head` does (141); nothing is printed then.",
                ],
                what_to_do: &[
                    "A run that was started is still active; the last lines show how to follow it.",
                    "Run an interrupted setup command again: it writes only what is missing.",
                ],
                example: (
                    "dbtrigger run 222222",
                    "^C\nerror: interrupted by SIGINT [interrupted]\nnext: dbtrigger watch 70471805314449",
                ),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_codes_are_listed_once_and_those_of_one_exit_code_say_the_same_of_it() {
        // In `name()`, each code has exactly one match arm.
        let source = include_str!("code.rs");
        let names = source.split("fn name(self)").nth(1).unwrap().split("fn exit(self)").next().unwrap();
        assert_eq!(names.matches("=> \"").count(), Code::ALL.len());
        let mut seen = std::collections::BTreeSet::new();
        assert!(Code::ALL.iter().all(|code| seen.insert(code.name())), "{seen:?}");
        for pair in Code::ALL.windows(2) {
            assert!(pair[0].exit() <= pair[1].exit(), "{pair:?}");
            assert_eq!(pair[0].exit() == pair[1].exit(), pair[0].exit_means() == pair[1].exit_means(), "{pair:?}");
        }
    }

    #[test]
    fn each_page_says_all_of_it_and_in_sentences() {
        for code in Code::ALL {
            let Explanation { means, why, what_to_do, example: (typed, comes) } = code.explanation();
            assert!(!why.is_empty() && !what_to_do.is_empty() && typed.starts_with("dbtrigger "), "{code:?}");
            for text in why.iter().chain(what_to_do).chain([&means]) {
                assert!(text.ends_with('.') && !text.contains('\n'), "{code:?}: {text}");
            }
            let named = comes.split('[').nth(1).and_then(|rest| rest.split(']').next());
            assert!(named.is_none_or(|name| name == code.name()), "{code:?}: {comes}");
        }
    }
}
