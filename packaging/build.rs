//! Build script: passes the commit and the target to the program.

#![expect(clippy::disallowed_methods, reason = "Cargo hands a build script its inputs as variables")]

use std::process::Command;

fn main() {
    // Set for builds without git history, such as a source distribution.
    println!("cargo::rerun-if-env-changed=DBTRIGGER_COMMIT");
    println!("cargo::rerun-if-changed=packaging/build.rs");
    if let Some(log) =
        git(&["rev-parse", "--git-path", "logs/HEAD"]).filter(|path| std::fs::exists(path).is_ok_and(|is| is))
    {
        println!("cargo::rerun-if-changed={log}");
    }
    let commit = std::env::var("DBTRIGGER_COMMIT").ok().or_else(|| git(&["rev-parse", "--short=9", "HEAD"]));
    println!("cargo::rustc-env=DBTRIGGER_COMMIT={}", commit.as_deref().unwrap_or("unknown"));
    println!("cargo::rustc-env=DBTRIGGER_TARGET={}", std::env::var("TARGET").unwrap_or_default());
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned()).filter(|text| !text.is_empty())
}
