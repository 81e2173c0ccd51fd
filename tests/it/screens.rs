//! What the user sees, screen by screen, in `docs/screens/`. `UPDATE_REFERENCE=1 cargo test --test it screens`
//! updates it.

use std::fmt::Write as _;
use std::path::Path;

use base64::Engine as _;

use crate::harness::{DATABRICKS_TOKEN, DBT_TOKEN, Site};
use crate::pty::Pty;
use crate::reference::updating;

/// Enough rows for everything that one command prints.
const ROWS: u16 = 300;

const NONE_SET: [&str; 5] =
    ["DATABRICKS_HOST", "DATABRICKS_TOKEN", "DBT_CLOUD_HOST", "DBT_CLOUD_ACCOUNT_ID", "DBT_CLOUD_TOKEN"];

/// What the user does at a question.
#[derive(Clone)]
enum Does {
    /// Types a line at the last question that begins like this.
    Types(&'static str, String),
    /// The same where the input is hidden.
    Hidden(&'static str, &'static str),
    /// Waits for this text.
    Sees(&'static str),
    Presses(&'static str, &'static str),
}

use Does::{Hidden, Presses, Sees, Types};

/// One page: commands with their screens.
struct Page {
    site: Site,
    columns: u16,
    text: String,
    /// Variables of the commands that follow.
    variables: Vec<(&'static str, String)>,
}

impl Page {
    fn new(site: Site, columns: u16) -> Page {
        Page { site, columns, text: String::new(), variables: Vec::new() }
    }

    /// Sets a variable for the next commands.
    fn with(&mut self, name: &'static str, value: impl Into<String>) -> &mut Page {
        self.variables.push((name, value.into()));
        self
    }

    /// Takes all of them back.
    fn without(&mut self) -> &mut Page {
        self.variables.clear();
        self
    }

    /// Runs a command at a terminal and adds the final screen, with the number of lines and keys that were typed.
    #[track_caller]
    fn shows(&mut self, title: &str, arguments: &[&str], unset: &[&str], does: &[Does], exit: i32) -> &mut Page {
        let mut command = self.site.command(arguments);
        for name in unset {
            command.env_remove(name);
        }
        // A zone that never changes its clocks, so that columns keep their width.
        command.env("TZ", "Asia/Kolkata");
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        let mut pty = Pty::start(&command, ROWS, self.columns);
        let mut asked = Vec::new();
        for step in does {
            if let Types(question, _) | Presses(question, _) = step {
                asked.push(*question);
                // The same question may be on the screen already, with its answer.
                pty.sees_times(question, asked.iter().filter(|asked| *asked == question).count());
            }
            match step {
                Types(question, answer) => pty.answers(question, answer),
                Hidden(question, answer) => pty.answers_hidden(question, answer),
                Sees(text) => pty.sees(text),
                Presses(_, keys) => pty.keys(keys),
            }
        }
        let left = pty.ends(exit);
        let lines = does.iter().filter(|step| matches!(step, Types(..) | Hidden(..))).count();
        let keys: usize = does.iter().map(|step| if let Presses(_, keys) = step { keys.len() } else { 0 }).sum();
        let typed = if does.is_empty() { String::new() } else { format!("; lines typed: {lines}, keys: {keys}") };
        let shown: Vec<String> = arguments
            .iter()
            .map(|word| if word.contains([' ', '?', '*']) { format!("'{word}'") } else { (*word).to_owned() })
            .collect();
        let (line, screen) = (self.stable(&shown.join(" ")), self.stable(&left.screen));
        write!(
            self.text,
            "# {title}\n\n$ dbtrigger {}\n{}\n[exit {exit}{typed}]\n\n",
            line.trim_end(),
            screen.trim_end()
        )
        .unwrap();
        self
    }

    /// Replaces what differs between test runs: port, home, times, and which states a poll happens to see.
    fn stable(&self, screen: &str) -> String {
        const PORT: &str = "54321";
        let port = self.site.sandbox.origin().rsplit(':').next().unwrap().to_owned();
        assert_eq!(port.len(), PORT.len(), "a port of another length moves what stands behind it");
        let mut text = screen.replace(&port, PORT).replace(self.site.home.path().to_str().unwrap(), "~");
        // The terminal may have wrapped the line within it.
        for at in 1..PORT.len() {
            let broken = |port: &str| format!("{}\n{}", &port[..at], &port[at..]);
            text = text.replace(&broken(&port), &broken(PORT));
        }
        let passing = [
            "PENDING",
            "RUNNING",
            "QUEUED",
            "TERMINATING",
            "task ",
            "DbtJobRunStatus.QUEUED",
            "DbtJobRunStatus.STARTING",
            "DbtJobRunStatus.RUNNING",
        ];
        let mut stable = String::new();
        // The terminal shows Ctrl-C wherever the cursor is at that moment.
        let lines = text.lines().filter(|line| *line != "^C").map(|line| line.strip_prefix("^C").unwrap_or(line));
        for line in lines.filter(|line| !passing.iter().any(|state| line.starts_with(state))) {
            let mut words: Vec<&str> = line.split(' ').map(without_times).collect();
            words.dedup_by(|word, before| word == before && *word == DURATION);
            stable.push_str(words.join(" ").trim_end());
            stable.push('\n');
        }
        stable
    }

    /// Compares the page with the existing one, or writes it.
    #[track_caller]
    fn is(&self, name: &str) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/screens").join(format!("{name}.txt"));
        if updating() {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, &self.text).unwrap();
            return;
        }
        let there = std::fs::read_to_string(&path).unwrap_or_default();
        let differs = there.lines().zip(self.text.lines()).find(|(there, now)| there != now);
        assert!(
            there == self.text,
            "docs/screens/{name}.txt is not what is seen: {differs:#?}\nrun: UPDATE_REFERENCE=1 cargo test --test it screens\n{}",
            self.text
        );
    }
}

const DURATION: &str = "30s";

/// Times and durations depend on the day and on the speed of the machine.
fn without_times(word: &str) -> &str {
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let numbers = |text: &str, between: char| text.split(between).filter(|part| digits(part)).count();
    match word {
        "CEST" => "CET",
        "Mon" | "Tue" | "Wed" | "Thu" | "Fri" | "Sat" | "Sun" => "Mon",
        word if word.len() == 22 && word.ends_with("Z)") && word[11..].starts_with('T') => "(2026-11-02T05:00:00Z)",
        word if numbers(word, '-') == 3 => "2026-11-02",
        word if numbers(word, ':') == 3 => "06:00:00",
        word if word.len() == 5 && numbers(word, ':') == 2 => "06:00",
        // A generated key.
        word if word.len() == 26 && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()) => {
            "KEY"
        }
        word if word.strip_suffix(['h', 'm', 's']).is_some_and(digits) => DURATION,
        word if word.strip_suffix("s;").is_some_and(digits) => "30s;",
        word => word,
    }
}

fn fast() -> Site {
    Site::with(|options| options.speed = 300.0)
}

fn address(site: &Site, job: &str) -> String {
    format!("{}/deploy/51234/projects/4101/jobs/{job}", site.sandbox.origin())
}

/// The answers of a user with nothing set.
fn from_nothing(site: &Site) -> Vec<Does> {
    vec![
        Types("Databricks host", site.sandbox.origin().to_owned()),
        Hidden("personal access token", DATABRICKS_TOKEN),
        Types("URL of your dbt job", address(site, "222222")),
        Hidden("dbt API key", DBT_TOKEN),
    ]
}

fn profile(site: &Site) {
    let text = format!("[dev]\nhost = {}\ntoken = {DATABRICKS_TOKEN}\n", site.sandbox.origin());
    std::fs::write(site.home.path().join(".databrickscfg"), text).unwrap();
}

/// Adds a line to the deployed notebook.
fn edit_notebook(site: &Site) {
    let text = site.run(&["deploy-notebook", "--print"]).ends(0).stdout + "print(\"mine\")\n";
    let body = serde_json::json!({
        "path": "/Users/ana@example.com/dbtrigger/run_dbt_job_51234",
        "format": "SOURCE", "language": "PYTHON", "overwrite": true,
        "content": base64::prelude::BASE64_STANDARD.encode(text),
    });
    site.post("/api/2.0/workspace/import", &body);
}

#[test]
fn setup_at_a_terminal() {
    for columns in [100, 60] {
        let mut page = Page::new(fast(), columns);
        let whole =
            [from_nothing(&page.site), vec![Presses("Apply?", "y"), Presses("Run the workflow now?", "n")]].concat();
        let left = [from_nothing(&page.site), vec![Presses("Apply?", "n")]].concat();
        page.shows("Left at the plan", &["setup"], &NONE_SET, &left, 1);
        let interrupted = [from_nothing(&page.site), vec![Presses("Apply?", "\u{3}")]].concat();
        page.shows("Left with Ctrl-C at the plan", &["setup"], &NONE_SET, &interrupted, 130);
        let begun = [from_nothing(&page.site)[..3].to_vec(), vec![Presses("dbt API key", "\u{3}")]].concat();
        page.shows("Left with Ctrl-C at the key", &["setup"], &NONE_SET, &begun, 130);
        let origin = page.site.sandbox.origin().to_owned();
        let resumed = ["setup", "--dbt-host", &origin, "--dbt-account", "51234", "--job", "222222"];
        let asked_again =
            [Hidden("(hidden):", DATABRICKS_TOKEN), Hidden("dbt API key", DBT_TOKEN), Presses("Apply?", "n")];
        page.with("DATABRICKS_HOST", origin.clone());
        page.shows("Continued as it says: only secrets are asked for", &resumed, &NONE_SET, &asked_again, 1);
        page.without();
        page.shows("The first time, with nothing set", &["setup"], &NONE_SET, &whole, 0);
        profile(&page.site);
        let address = from_nothing(&page.site)[2].clone();
        let again = [address, Presses("Run the workflow now?", "n")];
        page.shows("Again, with a profile: a stored key is not asked for", &["setup"], &NONE_SET, &again, 0);
        let rotate = [from_nothing(&page.site)[2..].to_vec(), vec![Presses("Run the workflow now?", "n")]].concat();
        page.shows("The same key once more", &["setup", "--rotate"], &NONE_SET, &rotate, 0);
        page.shows("Removing it, with a no", &["remove", "--all"], &[], &[Presses("Apply?", "n")], 1);
        // The leak suite searches the home folder for tokens.
        std::fs::remove_file(page.site.home.path().join(".databrickscfg")).unwrap();
        page.is(&format!("setup-{columns}"));
    }
}

#[test]
fn setup_with_mistakes() {
    for columns in [100, 60] {
        let mut page = Page::new(fast(), columns);
        let origin = page.site.sandbox.origin().to_owned();
        let does = [
            Types("Databricks host (", "nightly".to_owned()),
            Types("Databricks host (", origin.clone()),
            Hidden("(hidden):", "dapi0wrong0wrong0wrong"),
            Sees("scim/me"),
            Hidden("(hidden):", DATABRICKS_TOKEN),
            Types("URL of your dbt job", "login.dbt.com".to_owned()),
            Types("URL of your dbt job", format!("{origin}/deploy/7/projects/4101/jobs/999")),
            Hidden("(hidden):", "dbtc_wrong0wrong0wrong0"),
            Sees("accounts/list"),
            Hidden("(hidden):", DBT_TOKEN),
            Presses("Use that account?", "y"),
            Presses("dbt job: arrow keys", "222222\r"),
            Presses("Apply?", "e"),
            Presses("Edit: arrow keys", "schedule\r"),
            Types("Schedule:", "0 6 * * *".to_owned()),
            Types("Schedule:", "0 0 6 * * ?".to_owned()),
            Presses("Apply?", "y"),
            Presses("Run the workflow now?", "n"),
        ];
        page.shows("Each answer wrong at first", &["setup"], &NONE_SET, &does, 0);
        let named = [
            Types("URL of your dbt job", "Nightly biuld".to_owned()),
            Types("dbt host", origin.clone()),
            Hidden("dbt API key", DBT_TOKEN),
            Presses("dbt job: arrow keys", "222223\r"),
            Presses("Apply?", "n"),
        ];
        page.shows("A job by a wrong name", &["setup", "--rotate"], &NONE_SET[2..], &named, 1);
        page.is(&format!("setup-mistakes-{columns}"));
    }
}

#[test]
fn help() {
    for columns in [100, 60] {
        let mut page = Page::new(fast(), columns);
        page.shows("Nothing typed", &[], &[], &[], 2);
        page.shows("A command in short", &["run", "-h"], &[], &[], 0);
        page.shows("A command", &["help", "create-workflow"], &[], &[], 0);
        page.shows("A wrong flag", &["run", "--jbo", "222222"], &[], &[], 2);
        page.shows("A code", &["explain", "cancelled"], &[], &[], 0);
        page.is(&format!("help-{columns}"));
    }
}

#[test]
fn provisioning() {
    for columns in [100, 60] {
        let mut page = Page::new(fast(), columns);
        page.shows("A plan", &["setup", "--job", "222222", "--dry-run"], &[], &[], 0);
        page.shows("Nothing can be asked", &["setup", "--no-input"], &NONE_SET, &[], 2);
        page.shows("The key", &["init-secrets"], &[], &[], 0);
        page.shows("The notebook", &["deploy-notebook"], &[], &[], 0);
        page.shows("The workflow", &["create-workflow", "--job", "222222"], &[], &[], 0);
        let change = ["create-workflow", "--job", "222222", "--schedule", "0 0 6 * * ?", "--timezone", "Europe/Berlin"];
        page.shows("A change", &change, &[], &[], 0);
        let planned = [&change[..3], &["--schedule", "0 30 6 * * ?", "--dry-run"]].concat();
        page.shows("A plan with a change", &planned, &[], &[], 0);
        page.site.make_workflow("dbt: Hourly (300001)");
        let refused = ["create-workflow", "--job", "300001", "--name", "dbt: Hourly (300001)"];
        page.shows("Not ours", &refused, &[], &[], 7);
        page.shows("A plan with a refusal", &[&refused[..], &["--dry-run"]].concat(), &[], &[], 0);
        edit_notebook(&page.site);
        page.shows("A notebook edited by hand", &["deploy-notebook"], &[], &[], 7);
        page.shows("The same in setup", &["setup", "--job", "222222"], &[], &[], 7);
        page.site.fault("databricks:secrets/scopes/create=status=403");
        page.shows("No right to create a scope", &["init-secrets", "--scope", "team"], &[], &[], 4);
        page.shows("Not signed in", &["init-secrets", "--no-input"], &NONE_SET, &[], 2);
        page.shows("No such job", &["create-workflow", "--job", "Nightly biuld"], &[], &[], 6);
        page.is(&format!("provisioning-{columns}"));
    }
}

#[test]
fn runs() {
    let draws = |columns| {
        let mut page = Page::new(fast(), columns);
        page.shows("No runs", &["runs", "--job", "300007"], &[], &[], 0);
        page.shows("The last runs", &["runs", "--limit", "3"], &[], &[], 0);
        page.shows("A list that is left", &["watch"], &[], &[Presses("Run: arrow keys", "\u{1b}")], 130);
        page.shows("A run that succeeds", &["run", "222222"], &[], &[], 0);
        page.shows("A run that takes too long", &["run", "222225", "--timeout", "1s"], &[], &[], 8);
        let interrupted = [Presses("job_run_id", "\u{3}")];
        page.shows("A run that is interrupted", &["run", "222225"], &[], &interrupted, 130);
        page.shows("A run that is not followed", &["run", "222225", "--no-wait"], &[], &[], 0);
        page.shows("A run that ends in error", &["run", "222223"], &[], &[], 3);
        page.shows("A run that is cancelled", &["run", "222224"], &[], &[], 20);
        page.shows("A workflow that does not exist", &["run", "--workflow", "Nightly"], &[], &[], 6);
        let _ = page.site.run(&["setup", "--job", "222222", "-y"]).ends(0);
        page.shows("The workflows", &["workflows"], &[], &[], 0);
        let rotate = ["init-secrets", "--rotate", "--no-validate", "--token-stdin"];
        let _ = page.site.run_with_input(&rotate, "dbtc_wrong0wrong0wrong0").ends(0);
        let workflow = ["run", "--workflow", "dbt: Nightly build (222222)"];
        page.shows("A workflow whose key dbt rejects", &workflow, &[], &[], 3);
        page.is(&format!("runs-{columns}"));
    };
    std::thread::scope(|scope| {
        for columns in [100, 60] {
            scope.spawn(move || draws(columns));
        }
    });
}

#[test]
fn doctor() {
    for columns in [100, 60] {
        let mut page = Page::new(fast(), columns);
        page.shows("Nothing set up", &["doctor"], &[], &[], 1);
        let _ = page.site.run(&["setup", "--job", "222222", "-y"]).ends(0);
        page.shows("All well", &["doctor"], &[], &[], 0);
        page.shows("Not signed in", &["doctor"], &NONE_SET[1..2], &[], 1);
        page.with("DBT_CLOUD_TOKEN", "dbtc_wrong0wrong0wrong0");
        page.shows("A token that dbt rejects", &["doctor"], &[], &[], 1).without();
        page.with("DBT_CLOUD_HOST", "http://127.0.0.1:1");
        page.shows("A host that cannot be reached", &["doctor"], &[], &[], 1).without();
        let rotate = ["init-secrets", "--rotate", "--no-validate", "--token-stdin"];
        let _ = page.site.run_with_input(&rotate, "dbtc_wrong0wrong0wrong0").ends(0);
        let _ = page.site.run(&["run", "--workflow", "dbt: Nightly build (222222)"]).ends(3);
        page.shows("The last run failed", &["doctor"], &[], &[], 1);
        let key = serde_json::json!({ "scope": "dbt-cloud", "key": "api-key" });
        page.site.post("/api/2.0/secrets/delete", &key);
        page.shows("The key is gone", &["doctor"], &[], &[], 1);
        page.is(&format!("doctor-{columns}"));
    }
}
