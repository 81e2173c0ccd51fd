//! `explain`: describes error codes and exit codes, offline.

use crate::document::{Data, document};
use crate::failure::{Code, Ended, Explanation, Failure, Report};
use crate::line::Line;
use crate::nearest::nearest_names;

/// Explain an error code or exit code
///
/// Every error ends its first line with its code in brackets; in JSON it is error.code. Shows what the code means, why
/// it happens, and what to do. Without CODE, lists all codes. Works offline.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  dbtrigger explain
  dbtrigger explain outcome-unknown
  dbtrigger explain 7 -o json")]
pub(crate) struct Args {
    /// Error code, such as not-found, or exit code, such as 6
    #[arg(value_name = "CODE")]
    code: Option<String>,
}

/// Meaning of exit code 0.
const DONE: &str = "success, including the run that was followed";

pub(crate) fn run(args: Args) -> Ended<Box<dyn Report>> {
    let Args { code } = args;
    match code.as_deref().map(read).transpose() {
        Ok(named) => Ended::well(Box::new(Explained(named))),
        Err(failure) => failure.into(),
    }
}

/// The code to explain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Named {
    Code(Code),
    Exit(u8),
}

fn read(text: &str) -> Result<Named, Failure> {
    let unknown = |what: String| Failure::new(Code::InvalidInput, what).run("list all codes", "dbtrigger explain");
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return match text.parse() {
            // Shells report 128 plus the signal's number.
            Ok(exit @ 129..=192) => Ok(Named::Code(Code::Interrupted(exit - 128))),
            Ok(exit) if exit == 0 || Code::ALL.iter().any(|code| code.exit() == exit) => Ok(Named::Exit(exit)),
            Ok(_) | Err(_) => Err(unknown(format!("dbtrigger never exits with code {text}"))
                .advise("an exit code that is not listed comes from the shell or another program")),
        };
    }
    // As printed in an error, with or without brackets.
    let name = text.trim_matches(['[', ']', ' ']).to_lowercase().replace(['_', ' '], "-");
    match Code::ALL.into_iter().find(|code| code.name() == name) {
        Some(code) => Ok(Named::Code(code)),
        None => Err(unknown(format!("\"{text}\" is not an error code or exit code"))
            .meant(&nearest_names(&name, Code::ALL.map(Code::name)))),
    }
}

/// All codes, or one.
struct Explained(Option<Named>);

impl Explained {
    fn codes(&self) -> Vec<Code> {
        match self.0 {
            None => Code::ALL.to_vec(),
            Some(Named::Code(code)) => vec![code],
            Some(Named::Exit(exit)) => Code::ALL.into_iter().filter(|code| code.exit() == exit).collect(),
        }
    }

    /// The exit codes and their meanings.
    fn exits(&self) -> Vec<(u8, &'static str)> {
        let mut exits: Vec<(u8, &str)> =
            self.codes().into_iter().map(|code| (code.exit(), code.exit_means())).collect();
        if matches!(self.0, None | Some(Named::Exit(0))) {
            exits.insert(0, (0, DONE));
        }
        exits.dedup();
        exits
    }
}

/// Words for the exit code; each signal has its own.
fn exit_words(code: Code) -> String {
    if let Code::Interrupted(_) = code {
        return format!("exit code 128 and the signal's number, {} here", code.exit());
    }
    format!("exit code {}", code.exit())
}

fn page(code: Code) -> Vec<Line> {
    let Explanation { means, why, what_to_do, example: (typed, comes) } = code.explanation();
    let list = |lines: &[&str]| lines.iter().map(|line| Line::Item(2, format!("• {line}"))).collect::<Vec<_>>();
    let mut page = vec![format!("{} ({})\n\n{means}\n\nWhy it happens:", code.name(), exit_words(code)).into()];
    page.extend(list(why));
    page.push("\nWhat to do:".into());
    page.extend(list(what_to_do));
    page.push(format!("\nFor example:\n  $ {typed}").into());
    page.extend(comes.lines().map(|line| format!("  {line}").into()));
    page
}

/// One line per exit code, followed by its error codes.
fn overview(exits: &[(u8, &str)]) -> Vec<Line> {
    let width = Code::ALL.iter().map(|code| code.name().len()).max().unwrap_or_default();
    let mut lines = Vec::new();
    for (exit, means) in exits {
        let shown = if *exit > 128 { "128+n".to_owned() } else { exit.to_string() };
        lines.push(format!("{shown:<5}  {means}").into());
        let codes = Code::ALL.into_iter().filter(|code| code.exit() == *exit);
        let line = |code: Code| Line::Item(9, format!("{:<width$}  {}", code.name(), code.explanation().means));
        lines.extend(codes.map(line));
    }
    lines
}

impl Report for Explained {
    fn text(&self) -> Vec<Line> {
        match self.0 {
            Some(Named::Code(code)) => page(code),
            Some(Named::Exit(_)) => {
                let heads = self.exits().into_iter().map(|(exit, means)| format!("Exit code {exit}: {means}.").into());
                let pages = self.codes().into_iter().flat_map(|code| std::iter::once("".into()).chain(page(code)));
                heads.chain(pages).collect()
            }
            None => overview(&self.exits()),
        }
    }

    fn json(&self) -> Data {
        let codes: Vec<Data> = self
            .codes()
            .into_iter()
            .map(|code| {
                let Explanation { means, why, what_to_do, example: (typed, comes) } = code.explanation();
                let example = document!({ "typed": typed, "comes": comes });
                document!({
                    "code": code.name(), "exit_code": code.exit(), "means": means, "why": why, "what_to_do": what_to_do,
                    "example": example,
                })
            })
            .collect();
        let exits: Vec<Data> =
            self.exits().into_iter().map(|(exit, means)| document!({ "exit_code": exit, "means": means })).collect();
        document!({ "codes": codes, "exit_codes": exits })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::line::plain;

    fn explained(code: Option<&str>) -> (String, Data) {
        let report = run(Args { code: code.map(ToOwned::to_owned) }).report.expect("explained");
        (plain(&report.text()), report.json())
    }

    #[test]
    fn a_code_is_explained_however_it_is_copied_and_an_exit_code_with_all_of_its_codes() {
        let (page, data) = explained(Some("not-found"));
        for part in ["not-found (exit code 6)", "Why it happens:", "What to do:", "$ dbtrigger run 'nightly build'"] {
            assert!(page.contains(part), "{page}");
        }
        assert_eq!((&data["codes"][0]["exit_code"], data["codes"].as_array().unwrap().len()), (&6.into(), 1));
        for text in ["[not-found]", "NOT_FOUND", "not found"] {
            assert_eq!(explained(Some(text)).0, page, "{text}");
        }
        let (page, data) = explained(Some("2"));
        for name in ["Exit code 2: ", "usage (", "missing-input (", "invalid-input (", "contradiction ("] {
            assert!(page.contains(name), "{page}");
        }
        assert_eq!((data["codes"].as_array().unwrap().len(), &data["exit_codes"][0]["exit_code"]), (4, &2.into()));
        assert_eq!(explained(Some("0")).0, format!("Exit code 0: {DONE}."));
        assert!(explained(Some("143")).0.starts_with("interrupted (exit code 128 and the signal's number, 143 here)"));
    }

    #[test]
    fn without_a_code_all_are_listed_with_their_exit_codes() {
        let (text, data) = explained(None);
        for code in Code::ALL {
            assert!(text.lines().any(|line| line.trim_start().starts_with(code.name())), "{text}");
        }
        assert!(text.starts_with("0      success") && text.contains("\n128+n  "), "{text}");
        assert_eq!(data["codes"].as_array().unwrap().len(), Code::ALL.len());
        assert_eq!(data["exit_codes"].as_array().unwrap().len(), 15);
    }

    #[test]
    fn what_is_no_code_is_refused_with_the_nearest() {
        for (text, says) in [
            ("not-fuond", "did you mean \"not-found\"?"),
            ("timeout", "dbtrigger explain"),
            ("5", "never exits with code 5"),
            ("256", "never exits"),
            ("", "not an error code"),
        ] {
            let failure = run(Args { code: Some(text.to_owned()) }).failure.expect(text);
            let said = failure.json().to_string().replace("\\\"", "\"");
            assert!(failure.code == Code::InvalidInput && said.contains(says), "{text}: {said}");
        }
    }
}
