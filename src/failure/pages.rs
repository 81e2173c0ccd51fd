//! What each code means, why it happens and what to do: the pages of `explain`, and of `docs/reference/errors.md`.

use super::Code;

/// All that is said of one code.
pub(crate) struct Page {
    pub(crate) means: &'static str,
    /// Whole sentences, the commonest first.
    pub(crate) why: &'static [&'static str],
    /// What to do, the commonest first. What stands in backticks can be typed.
    pub(crate) what_to_do: &'static [&'static str],
    /// What is typed, and what comes.
    pub(crate) example: (&'static str, &'static str),
}

impl Code {
    /// Every code, in the order of the exit codes.
    pub(crate) const ALL: [Code; 22] = [
        Code::Failed,
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
        Code::Nonsense,
        Code::RunCancelled,
        Code::Bug,
        Code::RateLimited,
        Code::Unavailable,
        Code::Interrupted(2),
    ];

    /// What a script may conclude from the exit code alone.
    pub(crate) fn exit_means(self) -> &'static str {
        match self {
            Code::Failed => "failed for a reason without a code of its own",
            Code::Usage | Code::MissingInput | Code::InvalidInput | Code::Contradiction => {
                "wrong usage, or missing, invalid or contradicting input"
            }
            Code::RunFailed => "the run ended in error",
            Code::NotAuthenticated | Code::NotAllowed => "not authenticated, or not allowed",
            Code::NotFound | Code::RunGone => "not found, or not visible to you",
            Code::Refused | Code::ChangedMeanwhile => {
                "refused: not ours, changed by hand, open to others, or changed meanwhile"
            }
            Code::StillRunning => "waited long enough; the run goes on",
            Code::OutcomeUnknown => "it is unknown whether the run was started; nothing was sent again",
            Code::Network | Code::Tls => "network, TLS or proxy",
            Code::Nonsense => "the service answered nonsense",
            Code::RunCancelled => "the run was cancelled",
            Code::Bug => "a bug of ours",
            Code::RateLimited | Code::Unavailable => "rate limited or unavailable after all retries; try later",
            Code::Interrupted(_) => "ended by the signal of this number less 128",
        }
    }

    /// The page of this code.
    #[expect(clippy::too_many_lines, reason = "one page for each code, in one exhaustive match")]
    pub(crate) fn page(self) -> Page {
        match self {
            Code::Failed => Page {
                means: "Something failed that has no code of its own.",
                why: &[
                    "A service refused a request with a status that says nothing more.",
                    "This machine refused something: a folder that cannot be written, a port in use, a disk that is full.",
                ],
                what_to_do: &[
                    "Read the lines that begin with `because`: the service's or the system's own words stand there.",
                    "Run the same command again with `-vv` to see what was asked and answered.",
                ],
                example: ("dbtrigger sandbox --port 8080", "error: port 8080 on 127.0.0.1 cannot be used. [failed]"),
            },
            Code::Usage => Page {
                means: "A flag, an argument or a command does not exist, or flags do not go together.",
                why: &[
                    "A name is mistyped; the nearest one is named.",
                    "Two flags are given of which one takes the place of the other.",
                    "A flag is given that has nothing to be about, such as --timezone without a schedule.",
                ],
                what_to_do: &["Read the help of the command: `dbtrigger run --help`."],
                example: ("dbtrigger jobs --projekt Finance", "error: unexpected argument '--projekt' found"),
            },
            Code::MissingInput => Page {
                means: "Values are missing, and nobody can be asked. All of them are named at once.",
                why: &[
                    "No variable is set in this shell or pipeline, or it is set and empty.",
                    "The variables of another tool are set instead; they are named.",
                ],
                what_to_do: &[
                    "Give each value by one of the flags or variables named beside it.",
                    "Try everything without an account first: `dbtrigger demo`.",
                ],
                example: ("dbtrigger jobs", "error: 3 values are missing. [missing-input]"),
            },
            Code::InvalidInput => Page {
                means: "A value is not of its form, or names several things at once.",
                why: &[
                    "An address was cut off while it was copied, or is the address of something else.",
                    "A token has blanks, quotes or a line break in it.",
                    "Two jobs or workflows have the name that was given.",
                    "A profile is named that the file does not have.",
                ],
                what_to_do: &[
                    "Compare the value with the form that the message shows.",
                    "Where a name is not unique, give the id: `dbtrigger jobs` lists those of dbt jobs.",
                ],
                example: (
                    "dbtrigger run 0",
                    "error: \"0\" cannot be used as a dbt job: it is no id of a dbt job. [invalid-input]",
                ),
            },
            Code::Contradiction => Page {
                means: "Two sources say different things, and neither of them is plainly meant.",
                why: &[
                    "A pasted address is of another host or account than the variables.",
                    "Two variables for the same value are set to different values.",
                    "A notebook was deployed for another dbt account than that of the job.",
                    "A credential comes from one place, and only another one, such as a pasted address or a file, names a host that is neither dbt's nor Databricks'.",
                ],
                what_to_do: &[
                    "Take one of the two away: the message names both and where each came from.",
                    "Name the profile that is meant: -p goes before the environment.",
                ],
                example: (
                    "dbtrigger run https://ab123.us1.dbt.com/deploy/99/projects/111111/jobs/222222",
                    "error: Two dbt accounts are named: 1234 and 99. [contradiction]",
                ),
            },
            Code::RunFailed => Page {
                means: "The run was started and ended in error. The program itself did all it was asked for.",
                why: &[
                    "A model or a test failed: the failing ones are listed with their messages.",
                    "A step before dbt failed, such as the checkout of the repository.",
                    "A workflow ended as FAILED or TIMEDOUT, or was skipped because another run of it was active.",
                ],
                what_to_do: &[
                    "Open the link of the run: the logs of every step are there.",
                    "Show the run again later, from any machine: `dbtrigger watch 70471805314449`.",
                ],
                example: ("dbtrigger run 222223", "DbtJobRunStatus.ERROR   in 2m 30s"),
            },
            Code::NotAuthenticated => Page {
                means: "The service does not accept the token, or there is none for it.",
                why: &[
                    "The token has expired, was revoked, or was copied in part.",
                    "The host is not that of your account: dbt answers in the same way to a good token at the wrong host.",
                    "No way to sign in to Databricks applies; each is named with its reason.",
                ],
                what_to_do: &[
                    "dbt: compare DBT_CLOUD_HOST with the address bar of your browser; make a new token under Account settings > API tokens.",
                    "Databricks: make a new token under Settings > Developer > Access tokens, or sign in with `databricks auth login`.",
                    "A key in a secret scope that has expired is replaced by `dbtrigger init-secrets --rotate`.",
                ],
                example: ("dbtrigger jobs", "error: Cannot list the projects of the account. [not-authenticated]"),
            },
            Code::NotAllowed => Page {
                means: "The identity is known and may not do this.",
                why: &[
                    "The dbt token lacks the permission set Job Admin (or Job Runner) on the project, or is of another account.",
                    "The Databricks identity lacks a permission on the scope, the notebook or the job.",
                    "The dbt account restricts IP addresses.",
                ],
                what_to_do: &[
                    "Ask whoever manages the thing for the right; the message names the thing and the identity.",
                    "Give others the right to read the key: `dbtrigger init-secrets --grant data-engineers:READ`.",
                    "Compare DBT_CLOUD_ACCOUNT_ID with the number behind /deploy/ in the addresses of dbt.",
                ],
                example: (
                    "dbtrigger create-workflow --job 222222",
                    "error: Cannot read the secret scope dbt-cloud as ana@example.com. [not-allowed]",
                ),
            },
            Code::NotFound => Page {
                means: "It does not exist, or is not visible to this identity: the services do not tell the two apart.",
                why: &[
                    "A name or an id is mistyped; the nearest names are suggested where they can be listed.",
                    "It was deleted or renamed since.",
                    "The token may not see it.",
                    "An earlier step of the guide is missing, such as the notebook.",
                ],
                what_to_do: &[
                    "List what there is: `dbtrigger jobs`, `dbtrigger runs`.",
                    "Compare the ids with the address in the browser.",
                    "Do the missing step: `dbtrigger init-secrets`, then `dbtrigger deploy-notebook`.",
                ],
                example: (
                    "dbtrigger run 'nightly build'",
                    "error: No dbt job is named \"nightly build\", or this token cannot see it. [not-found]\nnext: did you mean \"Nightly build\" (222222)?",
                ),
            },
            Code::RunGone => Page {
                means: "The run was there, and is not any more.",
                why: &[
                    "Somebody deleted the run, or its job, while it was followed or cancelled.",
                    "The right to see it was taken away meanwhile: the services do not tell the two apart.",
                ],
                what_to_do: &["Look at the other runs: `dbtrigger runs`.", "Start a new run: `dbtrigger run 222222`."],
                example: (
                    "dbtrigger watch 70471805314449",
                    "error: dbt run 70471805314449 is gone: it was deleted, or cannot be seen any more. [run-gone]",
                ),
            },
            Code::Refused => Page {
                means: "Nothing was written, because it could harm: the thing is not ours, was changed by hand, or is open to others.",
                why: &[
                    "A notebook or job of that name was made by somebody else.",
                    "It was edited by hand since it was written; the difference is shown.",
                    "Others than those named by --grant could read the key.",
                    "An idempotency key belongs to a run that was started with other parameters.",
                ],
                what_to_do: &[
                    "Look at the difference; then either choose another name, or add the flag that the message names.",
                    "See what would happen without writing anything: `dbtrigger deploy-notebook --dry-run`.",
                ],
                example: (
                    "dbtrigger deploy-notebook",
                    "error: Nothing was written: 1 of 1 changes is refused. [refused]",
                ),
            },
            Code::ChangedMeanwhile => Page {
                means: "Something changed while the command ran, after it was compared and before it was written. The change stays.",
                why: &[
                    "A colleague edits the same workflow or notebook, or a pipeline runs the same command at the same time.",
                    "A bundle or Terraform deploys at the same moment.",
                ],
                what_to_do: &[
                    "Run the same command again: it compares with what is there now, and refuses or writes anew.",
                    "See what would be written with `--dry-run`.",
                ],
                example: (
                    "dbtrigger create-workflow --job 222222 --schedule '0 0 6 * * ?'",
                    "error: The workflow \"dbt: Nightly build (222222)\" was not written: what is there has changed since it was compared. [changed-meanwhile]",
                ),
            },
            Code::StillRunning => Page {
                means: "The waiting was long enough, and the run goes on, or none was started before the time was over: the message says which. Nothing was cancelled.",
                why: &[
                    "--timeout counts the time in the queue too.",
                    "The run waits behind other runs of the job or the environment.",
                    "No place among --max-parallel, or no answer of the service, came in time to start the run.",
                ],
                what_to_do: &[
                    "Pick the run up again, from any machine: `dbtrigger watch 70471805314449`.",
                    "Stop it: `dbtrigger cancel 70471805314449`.",
                    "Give more time with --timeout.",
                ],
                example: (
                    "dbtrigger run 222225 --timeout 10m",
                    "error: Waited 10m for dbt run 70471805314449; it goes on. [still-running]",
                ),
            },
            Code::OutcomeUnknown => Page {
                means: "The start was sent, no clear answer came, and no run has shown so far. Nothing was sent a second time.",
                why: &[
                    "The connection broke after the request had been sent, and looking for the run failed too.",
                    "--at-most-once was given, and no run showed in the time that --settle allows.",
                ],
                what_to_do: &[
                    "Run the command that the message names: it carries the key of this start and looks for the run before it starts anything.",
                    "Look at the page of the job in dbt; see the newest runs here: `dbtrigger runs`.",
                ],
                example: (
                    "dbtrigger run 222222 --at-most-once",
                    "error: It is unknown whether a run of dbt job 222222 was started; nothing was sent again. [outcome-unknown]",
                ),
            },
            Code::Network => Page {
                means: "The service could not be reached: name, connection or proxy.",
                why: &[
                    "The host name is mistyped.",
                    "This machine reaches the outside only through a proxy, or the proxy refused.",
                    "A firewall drops the connection.",
                ],
                what_to_do: &[
                    "Check the host, the network, HTTPS_PROXY and NO_PROXY.",
                    "Run the same command again with `-v`: each request is shown.",
                ],
                example: ("dbtrigger jobs", "error: Cannot list the projects of the account. [network]"),
            },
            Code::Tls => Page {
                means: "The connection was made, and its certificate or the handshake was not accepted.",
                why: &[
                    "A proxy of your company opens TLS connections, and its certificate authority is not known here.",
                    "The clock of this machine is wrong.",
                ],
                what_to_do: &[
                    "Set SSL_CERT_FILE to a file with the proxy's certificate authority. Certificate checks cannot be switched off.",
                ],
                example: ("dbtrigger jobs", "error: Cannot list the projects of the account. [tls]"),
            },
            Code::Nonsense => Page {
                means: "The service answered something that makes no sense as an answer.",
                why: &[
                    "The host is wrong: a web page or a login page answers there.",
                    "A proxy put its own page in between.",
                    "The host redirects to another one; redirects are not followed with a token.",
                ],
                what_to_do: &[
                    "Open the host in a browser, and compare it with the one that your account uses.",
                    "Run the same command again with `-vv` to see the answer.",
                ],
                example: ("dbtrigger jobs", "error: Cannot list the projects of the account. [nonsense]"),
            },
            Code::RunCancelled => Page {
                means: "The run was cancelled before it ended.",
                why: &[
                    "Somebody cancelled it in dbt or in Databricks, or with the command cancel.",
                    "dbt ended it at the job's own time limit; `reason` in the JSON document says so.",
                ],
                what_to_do: &[
                    "Ask who cancelled it: the page of the run says it.",
                    "Start a new run: `dbtrigger run 222222`.",
                ],
                example: ("dbtrigger run 222224", "DbtJobRunStatus.CANCELLED   in 1m 12s"),
            },
            Code::Bug => Page {
                means: "The program came to a place that it should not be able to reach.",
                why: &["This is a fault of dbtrigger, not of yours."],
                what_to_do: &[
                    "Report it with the command, the whole output and what `dbtrigger --version` prints. Output has no secrets in it.",
                ],
                example: ("dbtrigger run 222222", "error: A value is missing, and nothing said so. [bug]"),
            },
            Code::RateLimited => Page {
                means: "The service asks for fewer requests, and still did so after all retries.",
                why: &["Other tools use the same token or account at the same time."],
                what_to_do: &["Run the same command again in a few minutes: it goes on where it was."],
                example: ("dbtrigger jobs", "error: Cannot list the jobs of the account. [rate-limited]"),
            },
            Code::Unavailable => Page {
                means: "The service is not available, and still was not after all retries.",
                why: &[
                    "The service has an outage or is being maintained.",
                    "The time that --timeout gives was over before the service answered.",
                ],
                what_to_do: &[
                    "Run the same command again in a few minutes.",
                    "Look at the status page of the service.",
                ],
                example: ("dbtrigger jobs", "error: Cannot list the jobs of the account. [unavailable]"),
            },
            Code::Interrupted(_) => Page {
                means: "The program was ended by a signal. The exit code is 128 and the signal's number.",
                why: &[
                    "Somebody pressed Ctrl-C (130), or the pipeline stopped the step (143) or lost its terminal (129).",
                    "Whoever read the output closed it, as `head` does (141); nothing is said then.",
                ],
                what_to_do: &[
                    "A run that was started goes on; the last lines say how to pick it up again.",
                    "A command that was writing is run again: it compares, and writes only what is missing.",
                ],
                example: (
                    "dbtrigger run 222222",
                    "^C\nerror: Interrupted by SIGINT. [interrupted]\nnext: run `dbtrigger watch 70471805314449`",
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
        // Each code has one line in the match that names it.
        let source = include_str!("mod.rs");
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
            let Page { means, why, what_to_do, example: (typed, comes) } = code.page();
            assert!(!why.is_empty() && !what_to_do.is_empty() && typed.starts_with("dbtrigger "), "{code:?}");
            for text in why.iter().chain(what_to_do).chain([&means]) {
                assert!(text.ends_with('.') && !text.contains('\n'), "{code:?}: {text}");
            }
            let named = comes.split('[').nth(1).and_then(|rest| rest.split(']').next());
            assert!(named.is_none_or(|name| name == code.name()), "{code:?}: {comes}");
        }
    }
}
