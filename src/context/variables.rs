//! Every environment variable that the program uses; `docs/reference/environment.md` is generated from this.

/// A heading, and its variables with their descriptions.
pub(crate) type Group = (&'static str, &'static [(&'static str, &'static str)]);

/// Variables by subject. Others cannot be read: see `Environment::get`.
pub(crate) const VARIABLES: [Group; 8] = [
    (
        "Databricks",
        &[
            ("DATABRICKS_HOST", "URL of the workspace"),
            ("DATABRICKS_WORKSPACE_ID", "Workspace ID, if the host serves several"),
            ("DATABRICKS_TOKEN", "Personal access token"),
            ("DATABRICKS_CLIENT_ID", "Application ID of a service principal"),
            ("DATABRICKS_CLIENT_SECRET", "OAuth secret of the service principal"),
            ("DATABRICKS_AUTH_TYPE", "Authentication type to use: pat, oauth-m2m, github-oidc, or databricks-cli"),
            ("DATABRICKS_TOKEN_AUDIENCE", "Audience of the GitHub Actions ID token"),
            ("DATABRICKS_CLI_PATH", "Path of the `databricks` CLI whose login is used"),
            ("DATABRICKS_CONFIG_PROFILE", "Profile in the configuration file; -p takes precedence"),
            ("DATABRICKS_CONFIG_FILE", "Configuration file, instead of ~/.databrickscfg"),
        ],
    ),
    (
        "dbt platform (dbt Cloud)",
        &[
            ("DBT_CLOUD_HOST", "Host of the account, as in the browser's address bar"),
            ("DBT_CLOUD_HOST_URL", "Alias of DBT_CLOUD_HOST"),
            ("DBT_CLOUD_ACCOUNT_ID", "Account ID"),
            ("DBT_CLOUD_TOKEN", "API token, and the key that init-secrets stores"),
            ("DBT_CLOUD_API_KEY", "Alias of DBT_CLOUD_TOKEN"),
            ("DBT_CLOUD_API_TOKEN", "Alias of DBT_CLOUD_TOKEN"),
            ("DBT_CLOUD_SERVICE_TOKEN", "Alias of DBT_CLOUD_TOKEN"),
        ],
    ),
    (
        "Output",
        &[
            ("NO_COLOR", "Any value: no color, unless --color is given"),
            ("CLICOLOR_FORCE", "Any value but 0: color without a terminal too"),
            ("TERM", "`dumb`: no color"),
            ("RUST_BACKTRACE", "Any value but 0: a backtrace if dbtrigger crashes"),
        ],
    ),
    (
        "Directories and programs",
        &[
            ("HOME", "Home directory"),
            ("USERPROFILE", "Home directory on Windows"),
            ("XDG_STATE_HOME", "Directory of the journal of starts, instead of ~/.local/state"),
            (
                "XDG_CACHE_HOME",
                "Directory of the sandbox's Python packages, of job names for completions, and of guesses that save requests, instead of ~/.cache",
            ),
            ("LOCALAPPDATA", "Directory of both on Windows"),
            ("DBTRIGGER_NO_KEYRING", "Any value: never open the keyring"),
            ("PATH", "Search path for `databricks` and, for the sandbox, Python"),
        ],
    ),
    (
        "Set by completion scripts",
        &[
            ("DBTRIGGER_COMPLETE", "Shell that requests completions"),
            ("_CLAP_COMPLETE_INDEX", "Index of the word to complete"),
        ],
    ),
    (
        "Set by CI services",
        &[
            ("CI", "Any value but `false` and 0: never prompt, as with --no-input, and do not open the keyring"),
            (
                "ACTIONS_ID_TOKEN_REQUEST_URL",
                "ID token endpoint of GitHub Actions, with `permissions: id-token: write`",
            ),
            ("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "Credential for that endpoint"),
            ("GITHUB_ACTIONS", "`true`: annotate a failed `run`; included in the User-Agent"),
            ("GITHUB_OUTPUT", "File to which `run` appends run_id, run_url, status, and exit_code, or runs"),
            ("GITHUB_STEP_SUMMARY", "File to which `run` appends a Markdown table of the runs"),
            ("GITLAB_CI", "Included in the User-Agent"),
            ("TF_BUILD", "Included in the User-Agent"),
            ("GITHUB_REPOSITORY", "Included in the cause of a run without --cause"),
            ("GITHUB_RUN_ID", "Included in the cause of a run without --cause"),
            ("CI_PROJECT_PATH", "Included in the cause of a run without --cause"),
            ("CI_PIPELINE_ID", "Included in the cause of a run without --cause"),
            ("BUILD_DEFINITIONNAME", "Included in the cause of a run without --cause"),
            ("BUILD_BUILDID", "Included in the cause of a run without --cause"),
        ],
    ),
    (
        "Other tools' variables: never used, but mentioned when something is missing",
        &[
            ("DBT_TOKEN", "Use DBT_CLOUD_TOKEN"),
            ("DBT_API_KEY", "Use DBT_CLOUD_TOKEN"),
            ("DBT_HOST", "Use DBT_CLOUD_HOST"),
            ("DBT_BASE_URL", "Use DBT_CLOUD_HOST"),
            ("DBT_ACCOUNT_ID", "Use DBT_CLOUD_ACCOUNT_ID"),
            ("DBT_CLOUD_JOB_ID", "Pass the job as an argument"),
            ("DATABRICKS_PASSWORD", "Unsupported authentication type"),
            ("ARM_CLIENT_SECRET", "Unsupported authentication type"),
            ("ARM_USE_MSI", "Unsupported authentication type"),
            ("DATABRICKS_METADATA_SERVICE_URL", "Unsupported authentication type"),
            ("GOOGLE_CREDENTIALS", "Unsupported authentication type"),
            ("DATABRICKS_OIDC_TOKEN", "Unsupported authentication type"),
        ],
    ),
    BY_LIBRARIES,
];

/// Variables read only by libraries.
pub(crate) const BY_LIBRARIES: Group = (
    "Connections, width, and time zone",
    &[
        ("HTTPS_PROXY", "Proxy for HTTPS; never used for loopback addresses"),
        ("ALL_PROXY", "Proxy, if HTTPS_PROXY is not set"),
        ("NO_PROXY", "Hosts to reach without a proxy"),
        ("SSL_CERT_FILE", "File with trusted CA certificates, instead of the system's"),
        ("SSL_CERT_DIR", "Directories with trusted CA certificates"),
        ("DBUS_SESSION_BUS_ADDRESS", "Bus of the keyring on a Linux desktop"),
        ("COLUMNS", "Width of help without a terminal"),
        ("TZ", "Time zone of printed times, instead of the system's"),
    ],
);
