//! Which identity is found, the source of each value, and every refusal.

use std::fmt::Write as _;
use std::fs;

use super::*;
use crate::failure::Code;

const FILE: &str = "
[__settings__]
default_profile = work

[DEFAULT]
host = https://default.cloud.databricks.com
token = dapi-of-default-1

[work]
host = https://work.cloud.databricks.com
token = dapi-of#work-1 ; mine

[sp]
host = https://sp.azuredatabricks.net
client_id = 0f6c1e2a-5b77-4c0d-9c55-3c8f1f0a7d11
client_secret = dose-secret#1

[both]
host = https://work.cloud.databricks.com
token = dapi-of-both-1
client_id = 0f6c1e2a-5b77-4c0d-9c55-3c8f1f0a7d11
client_secret = dose-secret-1

[bare]
token = dapi-of-bare-1

[strange]
host = https://dbx.example.com

[login]
host = https://work.cloud.databricks.com
auth_type = databricks-cli

[empty]
";

/// A home directory with a profile file, and an environment that points to it.
struct Home {
    folder: tempfile::TempDir,
    environment: Environment,
}

impl Home {
    fn with(text: Option<&str>) -> Home {
        let folder = tempfile::tempdir().unwrap();
        if let Some(text) = text {
            fs::write(folder.path().join(".databrickscfg"), text).unwrap();
        }
        let environment = Environment::of([("HOME", folder.path().to_str().unwrap())]);
        Home { folder, environment }
    }

    fn new() -> Home {
        Home::with(Some(FILE))
    }

    fn set(mut self, name: &str, value: &str) -> Home {
        self.environment = self.environment.with([(name.to_owned(), value.to_owned())]);
        self
    }

    fn choose(mut self, profile: &str) -> Home {
        self.environment = self.environment.with_profile(Some(profile));
        self
    }

    fn find(&self) -> Result<Databricks, Failure> {
        let mut errors = InputErrors::default();
        let found = databricks(&self.environment, &Vault::default(), &mut errors);
        errors.settle().map(|()| found.unwrap())
    }

    /// Host, auth method, and the owner of the credential, without the path of the temporary directory.
    fn found(&self) -> (String, &'static str, String) {
        let Databricks { origin, host_from: _, workspace: _, auth_method, tried: _, remark: _ } = self.find().unwrap();
        let folder = self.folder.path().display().to_string();
        (origin.host().to_owned(), auth_method.name(), auth_method.known_as().replace(&folder, "~"))
    }

    fn refused(&self) -> (Code, String) {
        let failure = self.find().unwrap_err();
        (failure.code, failure.json().to_string())
    }
}

fn token(identity: &Databricks) -> &str {
    let AuthMethod::Token(token) = &identity.auth_method else { panic!("{:?}", identity.auth_method) };
    token.value.reveal()
}

fn is_at(found: &(String, &'static str, String), host: &str, way: &str, source: &str) {
    assert_eq!((found.0.as_str(), found.1, found.2.as_str()), (host, way, source));
}

#[test]
fn the_files_own_default_counts_when_the_environment_names_nothing() {
    let home = Home::new();
    let source = "token of profile work in ~/.databrickscfg";
    is_at(&home.found(), "work.cloud.databricks.com", "pat", source);
    assert_eq!(token(&home.find().unwrap()), "dapi-of#work-1");
    let plain = Home::with(Some("[DEFAULT]\nhost = https://d.cloud.databricks.com\ntoken = dapi-of-default-1\n"));
    is_at(&plain.found(), "d.cloud.databricks.com", "pat", "token of profile DEFAULT in ~/.databrickscfg");
}

#[test]
fn the_environment_beats_the_default_profile_as_a_whole() {
    let home = Home::new().set("DATABRICKS_HOST", "https://env.example.com").set("DATABRICKS_TOKEN", "dapi-of-env-1");
    is_at(&home.found(), "env.example.com", "pat", "DATABRICKS_TOKEN");
    // A host alone does not pick the token of another host from the file.
    let (code, said) = Home::new().set("DATABRICKS_HOST", "https://env.example.com").refused();
    assert_eq!(code, Code::MissingInput);
    assert!(said.contains("not read, since DATABRICKS_HOST is set"), "{said}");
}

#[test]
fn the_profile_of_the_flag_is_the_whole_identity_and_beats_the_environment() {
    let home = Home::new()
        .set("DATABRICKS_HOST", "https://env.example.com")
        .set("DATABRICKS_TOKEN", "dapi-of-env-1")
        .set("DATABRICKS_AUTH_TYPE", "oauth-m2m")
        .set("DATABRICKS_CONFIG_PROFILE", "sp")
        .choose("work");
    is_at(&home.found(), "work.cloud.databricks.com", "pat", "token of profile work in ~/.databrickscfg");
    // Missing values of a profile do not come from the environment or from DEFAULT.
    let (code, said) = Home::new().set("DATABRICKS_HOST", "https://env.example.com").choose("bare").refused();
    assert_eq!(code, Code::MissingInput);
    assert!(said.contains("no Databricks host given"), "{said}");
    let (code, said) = Home::new().set("DATABRICKS_TOKEN", "dapi-of-env-1").choose("strange").refused();
    assert_eq!(code, Code::MissingInput);
    assert!(
        said.contains("tried pat")
            && said.contains("no token in profile strange")
            && !said.contains("DATABRICKS_TOKEN"),
        "{said}"
    );
}

#[test]
fn the_profile_of_the_variable_fills_what_the_environment_leaves_open() {
    let home = Home::new().set("DATABRICKS_CONFIG_PROFILE", "sp");
    let source =
        "service principal 0f6c1e2a-5b77-4c0d-9c55-3c8f1f0a7d11 (of client_id of profile sp in ~/.databrickscfg)";
    is_at(&home.found(), "sp.azuredatabricks.net", "oauth-m2m", source);
    let home = Home::new().set("DATABRICKS_CONFIG_PROFILE", "work").set("DATABRICKS_TOKEN", "dapi-of-env-1");
    is_at(&home.found(), "work.cloud.databricks.com", "pat", "DATABRICKS_TOKEN");
}

#[test]
fn a_token_does_not_go_to_another_host_than_its_own() {
    let (code, said) =
        Home::new().set("DATABRICKS_CONFIG_PROFILE", "work").set("DATABRICKS_HOST", "https://x.example.com").refused();
    assert_eq!((code, code.exit()), (Code::Contradiction, 2));
    assert!(said.contains("DATABRICKS_HOST is https://x.example.com"), "{said}");
    assert!(said.contains("host of profile work in") && said.contains("https://work.cloud.databricks.com"), "{said}");
    let strange = Home::new().set("DATABRICKS_CONFIG_PROFILE", "strange").set("DATABRICKS_TOKEN", "dapi-of-env-1");
    let (code, said) = strange.refused();
    assert_eq!(code, Code::Contradiction);
    assert!(said.contains("DATABRICKS_TOKEN is not sent to https://dbx.example.com"), "{said}");
    assert!(strange.set("DATABRICKS_HOST", "https://dbx.example.com").find().is_ok());
}

#[test]
fn a_profile_that_is_not_there_is_refused_with_the_file_and_the_profiles_in_it() {
    for home in [Home::new().choose("prod"), Home::new().set("DATABRICKS_CONFIG_PROFILE", "prod")] {
        let (code, said) = home.refused();
        assert_eq!((code, code.exit()), (Code::InvalidInput, 2));
        for part in ["profile prod", ".databrickscfg", "DEFAULT, work, sp, both, bare, strange, login"] {
            assert!(said.contains(part), "{part}: {said}");
        }
    }
    for (home, part) in [
        (Home::with(None).choose("prod"), "there is no file"),
        (Home::new().choose("empty"), "is empty in"),
        (Home::new().choose("__settings__"), "holds settings"),
        (Home::with(Some("[__settings__]\ndefault_profile = gone\n[a]\nhost=x\n")), "default_profile in"),
        (Home::with(Some("[a]\ndapi-secret-alone\n")), "line 2 is neither"),
    ] {
        let (code, said) = home.refused();
        assert_eq!(code, Code::InvalidInput, "{said}");
        assert!(said.contains(part) && !said.contains("dapi-"), "{part}: {said}");
    }
}

#[test]
fn another_file_can_be_named() {
    let home = Home::new();
    fs::write(
        home.folder.path().join("other"),
        "[DEFAULT]\nhost = https://o.cloud.databricks.com\ntoken = dapi-of-o-1\n",
    )
    .unwrap();
    let home = home.set("DATABRICKS_CONFIG_FILE", "~/other");
    is_at(&home.found(), "o.cloud.databricks.com", "pat", "token of profile DEFAULT in ~/other");
}

#[test]
fn two_ways_at_once_contradict_each_other_unless_one_is_named() {
    let host = ("DATABRICKS_HOST", "https://w.cloud.databricks.com");
    let both = || {
        Home::new()
            .set(host.0, host.1)
            .set("DATABRICKS_TOKEN", "dapi-of-env-1")
            .set("DATABRICKS_CLIENT_ID", "0f6c1e2a")
            .set("DATABRICKS_CLIENT_SECRET", "dose-secret-1")
    };
    let (code, said) = both().refused();
    assert_eq!((code, code.exit()), (Code::Contradiction, 2));
    assert!(said.contains("DATABRICKS_TOKEN and DATABRICKS_CLIENT_SECRET"), "{said}");
    assert_eq!(Home::new().choose("both").refused().0, Code::Contradiction);
    assert_eq!(both().set("DATABRICKS_AUTH_TYPE", "pat").found().1, "pat");
    assert_eq!(both().set("DATABRICKS_AUTH_TYPE", "oauth-m2m").found().1, "oauth-m2m");
    let (code, said) = both().set("DATABRICKS_AUTH_TYPE", "azure-cli").refused();
    assert_eq!(code, Code::InvalidInput);
    assert!(
        said.contains("azure-cli") && said.contains("use pat, oauth-m2m, github-oidc, or databricks-cli"),
        "{said}"
    );
    let (code, said) = both().set("DATABRICKS_AUTH_TYPE", "github-oidc").refused();
    assert_eq!(code, Code::InvalidInput);
    assert!(said.contains("ACTIONS_ID_TOKEN_REQUEST_URL"), "{said}");
}

#[test]
fn if_no_way_applies_each_is_named_with_its_reason() {
    let home = Home::with(None)
        .set("DATABRICKS_HOST", "https://w.cloud.databricks.com")
        .set("DATABRICKS_CLIENT_ID", "0f6c1e2a")
        .set("ARM_CLIENT_SECRET", "azure-secret-1");
    let failure = home.find().unwrap_err();
    assert_eq!(failure.code, Code::MissingInput);
    let rows: Vec<&str> =
        failure.causes.iter().map(String::as_str).filter(|cause| cause.starts_with("tried ")).collect();
    assert_eq!(
        rows,
        [
            "tried profile: not read, since DATABRICKS_HOST is set",
            "tried pat: DATABRICKS_TOKEN is not set",
            "tried oauth-m2m: DATABRICKS_CLIENT_SECRET is not set",
            "tried github-oidc: ACTIONS_ID_TOKEN_REQUEST_URL is not set: not a GitHub Actions job with `permissions: id-token: write`",
            "tried keyring: the keyring is not used: A_TEST is set",
            "tried databricks-cli: no `databricks` CLI in an absolute directory of PATH",
            "tried azure-client-secret: ARM_CLIENT_SECRET is set, but this authentication type is not supported",
        ]
    );
}

#[test]
fn values_that_cannot_be_used_are_refused_with_their_source() {
    for (home, part) in [
        (Home::with(Some("[DEFAULT]\nhost = http://x.example\ntoken = t-123456\n")), "host of profile DEFAULT in"),
        (Home::with(Some("[DEFAULT]\nhost = https://x.example\ntoken = a b\n")), "token of profile DEFAULT in"),
        (
            Home::with(Some("[DEFAULT]\nhost = https://accounts.cloud.databricks.com\ntoken = t-123456\n")),
            "\" is an account console, not a workspace",
        ),
        (
            Home::with(Some("[DEFAULT]\nhost = https://x.example\nclient_id = a:b\nclient_secret = s-123456\n")),
            "\" is not an application ID",
        ),
        (
            Home::with(Some("[DEFAULT]\nhost = https://x.example\ndatabricks_cli_path = ./databricks\n")),
            "\" is not the absolute path of a program",
        ),
    ] {
        let (code, said) = home.refused();
        assert_eq!(code, Code::InvalidInput, "{said}");
        assert!(said.contains(part), "{part}: {said}");
    }
}

#[test]
fn a_job_of_github_uses_its_id_token() {
    let home = Home::with(None)
        .set("DATABRICKS_HOST", "https://w.cloud.databricks.com")
        .set("DATABRICKS_CLIENT_ID", "0f6c1e2a")
        .set("ACTIONS_ID_TOKEN_REQUEST_URL", "https://github.example/token?api-version=2")
        .set("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "request-token-1");
    assert_eq!(home.found().1, "github-oidc");
    let plain = home.set("ACTIONS_ID_TOKEN_REQUEST_URL", "http://github.example/token");
    assert_eq!(plain.refused().0, Code::InvalidInput);
}

#[cfg(unix)]
#[test]
fn the_program_databricks_is_found_on_the_path_but_never_in_the_current_folder() {
    use std::os::unix::fs::PermissionsExt as _;
    let home = Home::new().choose("login");
    let program = home.folder.path().join("databricks");
    fs::write(&program, "#!/bin/sh\n").unwrap();
    let folder = home.folder.path().to_str().unwrap().to_owned();
    let home = home.set("PATH", &folder);
    assert_eq!(home.refused().0, Code::InvalidInput, "it cannot be executed yet");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(home.found().2, "the `databricks` CLI login for profile login");
    let found = home.find().unwrap().auth_method;
    let AuthMethod::Cli { program: found, profile } = found else { panic!("{found:?}") };
    assert_eq!((found, profile.map(|profile| profile.name).as_deref()), (program, Some("login")));
    for path in [".", "", "bin:."] {
        assert_eq!(super::super::cli::on_path(path), None, "{path:?}");
    }
}

#[test]
fn which_workspace_of_a_host_is_said_by_a_variable_a_profile_or_the_hosts_address() {
    let file = "[one]\nhost = https://x.cloud.databricks.com/?o=12\ntoken = t-123456\n\
                [two]\nhost = https://x.cloud.databricks.com\nworkspace_id = 13\ntoken = t-123456\n\
                [odd]\nhost = https://x.cloud.databricks.com/?o=12\nworkspace_id = 13\ntoken = t-123456\n\
                [bad]\nhost = https://x.cloud.databricks.com\nworkspace_id = 1 3\ntoken = t-123456\n";
    let profile = |name: &str| Home::with(Some(file)).set("DATABRICKS_CONFIG_PROFILE", name);
    let id = |home: &Home| home.find().unwrap().workspace.map(|id| id.value);
    assert_eq!(id(&profile("one")).as_deref(), Some("12"));
    assert_eq!(id(&profile("two")).as_deref(), Some("13"));
    assert_eq!(id(&profile("two").set("DATABRICKS_WORKSPACE_ID", "13")).as_deref(), Some("13"));
    // The profile named by the flag is the whole identity.
    assert_eq!(id(&profile("two").set("DATABRICKS_WORKSPACE_ID", "14").choose("one")).as_deref(), Some("12"));
    for (home, code, names) in [
        (
            profile("odd"),
            Code::Contradiction,
            &["workspace_id of profile odd", "is 13", "host of profile odd", "is 12"],
        ),
        (
            profile("two").set("DATABRICKS_WORKSPACE_ID", "14"),
            Code::Contradiction,
            &["DATABRICKS_WORKSPACE_ID is 14", "workspace_id of profile two", "is 13", "-p"],
        ),
        (
            profile("bad"),
            Code::InvalidInput,
            &["workspace_id of profile bad", "1 3", "\" is not a workspace ID", "`o=`"],
        ),
        (
            profile("one").set("DATABRICKS_WORKSPACE_ID", "1/2"),
            Code::InvalidInput,
            &["DATABRICKS_WORKSPACE_ID", "1/2", "\" is not a workspace ID", "`o=`"],
        ),
    ] {
        let (found, said) = home.refused();
        assert_eq!(found, code, "{said}");
        for name in names {
            assert!(said.contains(name), "{name}: {said}");
        }
    }
}

/// The source of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HostFrom {
    Variable,
    /// A profile in the home directory's file, named by the variable.
    Profile,
    /// A profile in the home directory's file, named by `-p`.
    ProfileOfFlag,
    /// A profile in the file that `DATABRICKS_CONFIG_FILE` names, such as one from a repository.
    OtherFile,
    OtherFileOfFlag,
    Keyring,
}

/// The source of one part of a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PartFrom {
    Variable,
    /// The profile in use.
    Profile,
    Keyring,
    /// Found on PATH.
    Found,
}

/// Key, variable, value and source.
type Part = (&'static str, &'static str, String, PartFrom);

/// Each auth method with every combination of sources.
fn credentials(program: &str) -> Vec<(&'static str, Vec<Part>)> {
    use PartFrom::{Found, Keyring, Profile, Variable};
    let id = |from| ("client_id", "DATABRICKS_CLIENT_ID", "0f6c1e2a".to_owned(), from);
    let token = |from| ("token", "DATABRICKS_TOKEN", "dapi-of-table-1".to_owned(), from);
    let secret = |from| ("client_secret", "DATABRICKS_CLIENT_SECRET", "dose-of-table-1".to_owned(), from);
    let audience = |from| ("audience", "DATABRICKS_TOKEN_AUDIENCE", "https://w.example".to_owned(), from);
    let cli = |from| ("databricks_cli_path", "DATABRICKS_CLI_PATH", program.to_owned(), from);
    let mut all = vec![("pat", vec![token(Variable)]), ("pat", vec![token(Profile)]), ("pat", vec![token(Keyring)])];
    for first in [Variable, Profile] {
        for second in [Variable, Profile] {
            all.push(("oauth-m2m", vec![id(first), secret(second)]));
            all.push(("github-oidc", vec![id(first), audience(second)]));
        }
        all.push(("github-oidc", vec![id(first)]));
        all.push(("databricks-cli", vec![cli(first)]));
    }
    all.push(("github-oidc", vec![]));
    all.push(("databricks-cli", vec![cli(Found)]));
    all
}

#[cfg(unix)]
#[test]
#[expect(clippy::print_stdout, reason = "the line is what the test is for")]
fn each_part_of_a_credential_goes_only_to_a_host_that_it_belongs_to_or_that_somebody_named() {
    use std::os::unix::fs::PermissionsExt as _;
    let program = tempfile::tempdir().unwrap();
    let path = program.path().join("databricks");
    fs::write(&path, "#!/bin/sh\n").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    let (mut count, mut wrong) = (0, Vec::new());
    for host in [
        HostFrom::Variable,
        HostFrom::Profile,
        HostFrom::ProfileOfFlag,
        HostFrom::OtherFile,
        HostFrom::OtherFileOfFlag,
        HostFrom::Keyring,
    ] {
        for (way, parts) in credentials(path.to_str().unwrap()) {
            for address in ["https://w.cloud.databricks.com", "https://dbx.example.com"] {
                count += 1;
                if let Err(why) = row_of_mixtures(host, way, &parts, address, program.path().to_str().unwrap()) {
                    wrong.push(format!("{host:?} {address} {way} {parts:?}: {why}"));
                }
            }
        }
    }
    println!("credentials and hosts: {} of {count}", count - wrong.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[cfg(unix)]
fn row_of_mixtures(host: HostFrom, way: &str, parts: &[Part], address: &str, programs: &str) -> Result<(), String> {
    use crate::keyring::{Owner, double::Double};
    let in_other_file = matches!(host, HostFrom::OtherFile | HostFrom::OtherFileOfFlag);
    let by_flag = matches!(host, HostFrom::ProfileOfFlag | HostFrom::OtherFileOfFlag);
    let mut profile = format!("[p]\nauth_type = {way}\n");
    if !matches!(host, HostFrom::Variable | HostFrom::Keyring) {
        let _ = writeln!(profile, "host = {address}");
    }
    for (key, _, value, _) in parts.iter().filter(|part| part.3 == PartFrom::Profile) {
        let _ = writeln!(profile, "{key} = {value}");
    }
    let mut home = Home::with((!in_other_file).then_some(profile.as_str())).set("PATH", programs);
    if in_other_file {
        let file = home.folder.path().join("of-the-repository");
        fs::write(&file, &profile).unwrap();
        home = home.set("DATABRICKS_CONFIG_FILE", file.to_str().unwrap());
    }
    home = if by_flag { home.choose("p") } else { home.set("DATABRICKS_CONFIG_PROFILE", "p") };
    if host == HostFrom::Variable {
        home = home.set("DATABRICKS_HOST", address);
    }
    if way == "github-oidc" {
        home = home
            .set("ACTIONS_ID_TOKEN_REQUEST_URL", "https://github.example/token?api-version=2")
            .set("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "request-token-1");
    }
    for (_, variable, value, _) in parts.iter().filter(|part| part.3 == PartFrom::Variable) {
        home = home.set(variable, value);
    }
    let kept = parts.iter().any(|part| part.3 == PartFrom::Keyring);
    if kept || host == HostFrom::Keyring {
        let owner = Owner::Databricks { host: address.to_owned(), workspace: None };
        home.environment = home.environment.with_keyring(Double::holding(&[(owner, "dapi-of-keyring-1")]).keyring());
    }
    // With `-p`, values missing in the profile are not looked for elsewhere.
    let lacking = by_flag
        && parts.iter().any(|part| match part.3 {
            PartFrom::Variable => matches!(part.0, "token" | "client_id" | "client_secret") && way != "github-oidc",
            PartFrom::Keyring => true,
            PartFrom::Profile | PartFrom::Found => false,
        });
    let of_the_file = |from: PartFrom| from == PartFrom::Profile;
    let named = host == HostFrom::Variable || address.ends_with(".databricks.com");
    // Whether the secret is stored together with the host.
    let together = match way {
        "pat" => kept || of_the_file(parts[0].3) && host != HostFrom::Keyring,
        "oauth-m2m" => of_the_file(parts[1].3) && host != HostFrom::Keyring,
        // GitHub's token is always in the environment.
        "github-oidc" => false,
        // `databricks` finds a login by profile name or by host.
        _ => !in_other_file,
    };
    let foreign_program =
        in_other_file && parts.iter().any(|part| part.0 == "databricks_cli_path" && of_the_file(part.3));
    let sent = !lacking && !foreign_program && (named || together);
    let found = home.find();
    match (&found, sent) {
        (Ok(found), true) if found.origin.to_string() == address && found.auth_method.name() == way => Ok(()),
        (Err(failure), false) if failure.code.exit() == 2 => {
            let said = failure.json().to_string();
            let door = match way {
                _ if lacking => return Ok(()),
                "pat" => parts[0].clone(),
                "oauth-m2m" => parts[1].clone(),
                "databricks-cli" if foreign_program => {
                    return said.contains("databricks_cli_path of profile p").then_some(()).ok_or(said);
                }
                "databricks-cli" => ("the `databricks` CLI login for profile", "", String::new(), PartFrom::Profile),
                _ => ("", "ACTIONS_ID_TOKEN_REQUEST_TOKEN", String::new(), PartFrom::Variable),
            };
            let names_it = said.contains(if of_the_file(door.3) { door.0 } else { door.1 });
            let names_host =
                said.contains(if host == HostFrom::Keyring { "in the keyring" } else { "host of profile p" });
            if names_it && names_host && said.contains(address) { Ok(()) } else { Err(format!("says {said}")) }
        }
        (found, true) => Err(format!("is to be sent: {found:?}")),
        (found, false) => Err(format!("is to be refused: {found:?}")),
    }
}

#[test]
#[expect(clippy::print_stdout, reason = "the line is what the test is for")]
fn a_value_that_nothing_expanded_is_refused_with_its_name_wherever_it_stands() {
    use crate::credentials::{AccountFlags, TOKEN_VARIABLES, account, api_token};
    let (mut count, mut wrong) = (0, Vec::new());
    let mut row = |place: String, found: Result<(), Failure>, name: &str| {
        count += 1;
        match found {
            Err(failure) if failure.code.exit() == 2 => {
                let said = failure.json().to_string();
                if !said.contains(name) || !said.contains("unexpanded") {
                    wrong.push(format!("{place}: {said}"));
                }
            }
            other => wrong.push(format!("{place}: {other:?}")),
        }
    };
    for text in ["$(NAME)", "${NAME}", "$NAME", "%NAME%", "{{ secrets.NAME }}", "${{ secrets.NAME }}"] {
        let whole = || {
            Home::with(None)
                .set("DATABRICKS_HOST", "https://w.cloud.databricks.com")
                .set("DATABRICKS_TOKEN", "dapi-of-env-1")
        };
        let named = ["DATABRICKS_CONFIG_FILE", "DATABRICKS_CONFIG_PROFILE"];
        for variable in ATTRIBUTES.map(|(_, variable)| variable).into_iter().chain(named) {
            row(format!("{variable}={text}"), whole().set(variable, text).find().map(drop), variable);
        }
        for (key, _) in ATTRIBUTES {
            let mut keys =
                std::collections::BTreeMap::from([("host", "https://w.cloud.databricks.com"), ("token", "t-1")]);
            keys.insert(key, text);
            let file = keys.iter().fold("[p]\n".to_owned(), |file, (key, value)| format!("{file}{key} = {value}\n"));
            let found = Home::with(Some(&file)).choose("p").find().map(drop);
            row(format!("{key} = {text}"), found, &format!("{key} of profile p"));
        }
        let github = Home::with(None)
            .set("DATABRICKS_HOST", "https://w.cloud.databricks.com")
            .set("DATABRICKS_CLIENT_ID", "0f6c1e2a")
            .set("ACTIONS_ID_TOKEN_REQUEST_URL", "https://github.example/token?a=2")
            .set("ACTIONS_ID_TOKEN_REQUEST_TOKEN", text);
        row(format!("id token {text}"), github.find().map(drop), "ACTIONS_ID_TOKEN_REQUEST_TOKEN");
        let dbt = |flags: AccountFlags, variable: &str, value: &str| {
            let known = [
                ("DBT_CLOUD_HOST", "ab123.us1.dbt.com"),
                ("DBT_CLOUD_ACCOUNT_ID", "1"),
                ("DBT_CLOUD_TOKEN", "dbtc_of-env-1"),
            ];
            let of_token = TOKEN_VARIABLES.contains(&variable);
            let known = known.into_iter().filter(|(name, _)| !of_token || *name != "DBT_CLOUD_TOKEN");
            let all = known.chain([(variable, value)]).map(|(name, value)| (name.to_owned(), value.to_owned()));
            let environment = Environment::default().with(all);
            let mut errors = InputErrors::default();
            account(&flags, &[], &environment, &mut errors);
            let token = api_token(&flags, &[], &environment, &Vault::default(), &mut errors);
            errors.optional(token);
            errors.settle()
        };
        let variables = ["DBT_CLOUD_HOST", "DBT_CLOUD_HOST_URL", "DBT_CLOUD_ACCOUNT_ID"];
        for variable in variables.into_iter().chain(TOKEN_VARIABLES) {
            row(format!("{variable}={text}"), dbt(AccountFlags::default(), variable, text), variable);
        }
        let text = Some(text.to_owned());
        for (name, flags) in [
            ("--dbt-host", AccountFlags { dbt_host: text.clone(), ..AccountFlags::default() }),
            ("--dbt-url", AccountFlags { dbt_url: text.clone(), ..AccountFlags::default() }),
            ("--dbt-account", AccountFlags { dbt_account: text.clone(), ..AccountFlags::default() }),
        ] {
            row(format!("{name} {text:?}"), dbt(flags, "DBT_CLOUD_HOST_URL", "ab123.us1.dbt.com"), name);
        }
    }
    println!("values that nothing expanded: {} of {count}", count - wrong.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn where_a_credential_is_missing_the_profiles_that_are_there_are_named() {
    let file = "[DEFAULT]\n[prod]\nhost = https://w.cloud.databricks.com\ntoken = t-1\n\
                [admin]\nhost = w.cloud.databricks.com/\n[dev]\nhost = https://x.cloud.databricks.com\n";
    for (host, profiles) in [
        ("", "with -p: prod, admin, dev"),
        ("https://w.cloud.databricks.com", "with -p: prod, admin"),
        ("https://y.cloud.databricks.com", "with -p: prod, admin, dev"),
    ] {
        let failure = Home::with(Some(file)).set("DATABRICKS_HOST", host).find().unwrap_err();
        assert_eq!(failure.code, Code::MissingInput);
        let said = failure.json().to_string();
        assert!(said.contains(&format!("{profiles}.")) || said.contains(&format!("{profiles}\"")), "{said}");
    }
    // With `-p`, no other profile is suggested.
    let hints = Home::with(Some(file)).choose("dev").find().unwrap_err().hints;
    assert!(!hints.iter().any(|hint| hint.to_string().contains("prod")), "{hints:?}");
}
