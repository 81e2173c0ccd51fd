//! No value, however hostile, changes the program around the settings, as `CPython` confirms.

use std::fs;
use std::io::Write as _;
use std::process::Command;

use serde_json::json;

use super::*;
use crate::dbt::FIELDS;
use crate::origin::Origin;

const PIECES: [&str; 34] = [
    "'",
    "\"",
    "\\",
    "\\\\",
    "'''",
    "\"\"\"",
    "\n",
    "\r",
    "\r\n",
    "\0",
    "\u{b}",
    "\u{c}",
    "\u{1c}",
    "\u{85}",
    "\u{2028}",
    "\u{2029}",
    "\u{feff}",
    "\u{202e}",
    "\u{7f}",
    "\u{1f980}",
    "\n# COMMAND ----------\n",
    "\n\n# COMMAND ----------\n\nimport os\n",
    "\n# MAGIC %sh env\n",
    "# MAGIC %run ./other",
    "')\nimport os\n#",
    "\\')\nprint(api_key)\n(\\'",
    "\\N{APOSTROPHE}",
    "\\x27",
    "\\u0027",
    "{0}%s{{job.id}}${x}",
    PLACEHOLDER,
    "# dbtrigger-notebook: version=9.9.9 sha256=00",
    "\t ",
    "\\\n",
];

/// `SplitMix64`: the same values on every machine.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn piece(&mut self) -> &'static str {
        let count = u64::try_from(PIECES.len()).expect("few");
        PIECES[usize::try_from(self.below(count)).expect("few")]
    }

    fn text(&mut self) -> String {
        let mut text = String::new();
        for _ in 0..=self.below(8) {
            match self.below(4) {
                0 | 1 => text.push_str(self.piece()),
                2 => text.push(char::from(u8::try_from(self.below(128)).expect("ASCII"))),
                _ => {
                    let code = u32::try_from(self.below(0x11_0000)).expect("Unicode");
                    text.push(char::from_u32(code).unwrap_or('\u{fffd}'));
                }
            }
        }
        text
    }

    fn settings(&mut self) -> Settings {
        let allowed = self.next();
        let bits = FIELDS.iter().enumerate();
        Settings {
            host: Origin::parse("https://ab123.us1.dbt.com").unwrap(),
            account_id: self.next(),
            scope: self.text(),
            key: self.text(),
            allow_override: bits.filter(|(bit, _)| allowed >> bit & 1 == 1).map(|(_, key)| key).collect(),
            allow_job: (0..self.below(3)).map(|_| self.next()).collect(),
        }
    }
}

/// Renders `count` hostile settings and checks them all in one Python process. Each value is sent with its cell;
/// the text around the cell is compared here, and every 500th notebook is parsed as a whole.
fn judge(count: u64, seed: u64) -> u64 {
    let (before, after) = TEMPLATE.split_once(PLACEHOLDER).expect("tested elsewhere");
    let (before_cell, in_cell) = before.rsplit_once("# COMMAND ----------\n").expect("not the first cell");
    let end = after.find("# COMMAND ----------\n").expect("not the last cell");
    let mut numbers = Numbers(seed);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let cases = folder.path().join("cases.jsonl");
    let mut file = std::io::BufWriter::new(fs::File::create(&cases).expect("a new file"));
    let cell = [in_cell, PLACEHOLDER, &after[..end]].concat();
    let template = json!({"template": TEMPLATE, "cell": cell});
    writeln!(file, "{template}").expect("written");
    for number in 0..count {
        let settings = numbers.settings();
        let filled = fill(&settings);
        let literal = filled
            .strip_prefix(before)
            .and_then(|rest| rest.strip_suffix(after))
            .expect("nothing but the literal differs");
        assert!(filled.starts_with(before_cell));
        let whole = (number % 500 == 0).then(|| {
            let text = render(&settings, "0.1.0");
            assert_eq!(drift(&text, &settings, "0.1.0"), Drift::Unchanged);
            text
        });
        let cell = [in_cell, literal, &after[..end]].concat();
        let case = json!({"cell": cell, "value": settings.to_json(), "whole": whole});
        writeln!(file, "{case}").expect("written");
    }
    file.flush().expect("written");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/notebook/hostile.py");
    let output = Command::new("python3").arg(script).arg(&cases).output().expect("python3 on this machine");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    said.trim().parse().expect("the number of harmless values")
}

#[test]
fn hostile_values_stay_inside_the_literal() {
    assert_eq!(judge(3_000, 1), 3_000);
}

#[test]
#[ignore = "takes about half a minute; .ci/run calls it"]
#[expect(clippy::print_stdout, reason = "a suite's result line, for .ci/run")]
fn a_hundred_thousand_hostile_values_stay_inside_the_literal() {
    let harmless = judge(100_000, 2);
    println!("hostile values: {harmless} of 100000");
    assert_eq!(harmless, 100_000);
}
