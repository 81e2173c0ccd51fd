//! Every environment variable that means something to the program: `docs/reference/environment.md` is made from this.

/// A heading, and its variables: each with what it says.
pub(crate) type Group = (&'static str, &'static [(&'static str, &'static str)]);

/// By subject. A variable that is not here cannot be read: see `Environment::get`.
pub(crate) const VARIABLES: [Group; 7] = [
    (
        "Databricks",
        &[
            ("DATABRICKS_HOST", "Address of the workspace"),
            ("DATABRICKS_WORKSPACE_ID", "Id of the workspace, where the host serves several"),
            ("DATABRICKS_TOKEN", "Personal access token"),
            ("DATABRICKS_CLIENT_ID", "Application id of a service principal"),
            ("DATABRICKS_CLIENT_SECRET", "OAuth secret of the service principal"),
            (
                "DATABRICKS_AUTH_TYPE",
                "The one way to sign in that is used: pat, oauth-m2m, github-oidc or databricks-cli",
            ),
            ("DATABRICKS_TOKEN_AUDIENCE", "Audience of the token that GitHub Actions is asked for"),
            ("DATABRICKS_CLI_PATH", "The program `databricks` whose login is used"),
            ("DATABRICKS_CONFIG_PROFILE", "Profile of the configuration file; -p goes before it"),
            ("DATABRICKS_CONFIG_FILE", "The configuration file, instead of ~/.databrickscfg"),
        ],
    ),
    (
        "dbt Cloud",
        &[
            ("DBT_CLOUD_HOST", "Host of the account, as in the browser's address bar"),
            ("DBT_CLOUD_HOST_URL", "The same, if DBT_CLOUD_HOST is not set"),
            ("DBT_CLOUD_ACCOUNT_ID", "Id of the account"),
            ("DBT_CLOUD_TOKEN", "API token, and the key that init-secrets stores"),
            ("DBT_CLOUD_API_KEY", "The same, if those above are not set"),
            ("DBT_CLOUD_API_TOKEN", "The same, if those above are not set"),
            ("DBT_CLOUD_SERVICE_TOKEN", "The same, if those above are not set"),
        ],
    ),
    (
        "Output",
        &[
            ("NO_COLOR", "Set to anything: no colour, unless --color asks for it"),
            ("CLICOLOR_FORCE", "Set to anything but 0: colour without a terminal too"),
            ("TERM", "`dumb`: no colour"),
        ],
    ),
    (
        "Folders and programs",
        &[
            ("HOME", "Where ~ is"),
            ("USERPROFILE", "The same on Windows"),
            ("XDG_STATE_HOME", "Where the journal of starts is kept, instead of ~/.local/state"),
            ("XDG_CACHE_HOME", "Where the sandbox's Python packages are kept, instead of ~/.cache"),
            ("LOCALAPPDATA", "Where both are kept on Windows"),
            ("DBTRIGGER_NO_KEYRING", "Set to anything: the keyring is never opened"),
            ("PATH", "Where `databricks` and, for the sandbox, Python are looked for"),
        ],
    ),
    (
        "Set by CI services",
        &[
            (
                "CI",
                "Set to anything but `false` and 0: nothing is asked, as with --no-input, and the keyring is not opened",
            ),
            ("ACTIONS_ID_TOKEN_REQUEST_URL", "Where GitHub Actions gives tokens, with `permissions: id-token: write`"),
            ("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "What GitHub Actions wants to see for one"),
            ("GITHUB_ACTIONS", "`true`: a `run` that does not end well is annotated; said in the User-Agent"),
            ("GITHUB_OUTPUT", "File to which `run` appends run_id, run_url, status and exit_code, or runs"),
            ("GITHUB_STEP_SUMMARY", "File to which `run` appends a table of the runs in Markdown"),
            ("GITLAB_CI", "Said in the User-Agent"),
            ("TF_BUILD", "Said in the User-Agent"),
            ("GITHUB_REPOSITORY", "Said in the cause of a run, if --cause is not given"),
            ("GITHUB_RUN_ID", "Said in the cause of a run, if --cause is not given"),
            ("CI_PROJECT_PATH", "Said in the cause of a run, if --cause is not given"),
            ("CI_PIPELINE_ID", "Said in the cause of a run, if --cause is not given"),
            ("BUILD_DEFINITIONNAME", "Said in the cause of a run, if --cause is not given"),
            ("BUILD_BUILDID", "Said in the cause of a run, if --cause is not given"),
        ],
    ),
    (
        "Of other tools: never used, named where something is missing",
        &[
            ("DBT_TOKEN", "DBT_CLOUD_TOKEN is meant here"),
            ("DBT_API_KEY", "DBT_CLOUD_TOKEN is meant here"),
            ("DBT_HOST", "DBT_CLOUD_HOST is meant here"),
            ("DBT_BASE_URL", "DBT_CLOUD_HOST is meant here"),
            ("DBT_ACCOUNT_ID", "DBT_CLOUD_ACCOUNT_ID is meant here"),
            ("DBT_CLOUD_JOB_ID", "The job is given as an argument here"),
            ("DATABRICKS_PASSWORD", "A way to sign in that is not there"),
            ("ARM_CLIENT_SECRET", "A way to sign in that is not there"),
            ("ARM_USE_MSI", "A way to sign in that is not there"),
            ("DATABRICKS_METADATA_SERVICE_URL", "A way to sign in that is not there"),
            ("GOOGLE_CREDENTIALS", "A way to sign in that is not there"),
            ("DATABRICKS_OIDC_TOKEN", "A way to sign in that is not there"),
        ],
    ),
    BY_LIBRARIES,
];

/// What no code of ours asks for.
pub(crate) const BY_LIBRARIES: Group = (
    "Connections and width",
    &[
        ("HTTPS_PROXY", "Proxy for https; never used for addresses of this machine"),
        ("ALL_PROXY", "Proxy, if HTTPS_PROXY is not set"),
        ("NO_PROXY", "Hosts that are reached without a proxy"),
        ("SSL_CERT_FILE", "File with the certificate authorities to trust, instead of the system's"),
        ("SSL_CERT_DIR", "Folders with them"),
        ("DBUS_SESSION_BUS_ADDRESS", "Where the keyring of a Linux desktop is reached"),
        ("COLUMNS", "Width of the help where there is no terminal"),
    ],
);
