//! Unified diffs, fit for a terminal and a CI log.

use std::time::Duration;

use similar::TextDiff;

use crate::secret::MASK;

/// Longest diff shown, in lines.
const MOST_LINES: usize = 200;

/// Prefixes of Databricks and dbt tokens. A notebook edited by hand may contain one.
const TOKENS: [&str; 5] = ["dbtc_", "dbtu_", "dbts_", "dapi", "dose"];

/// What would change in the workspace: `-` is there now, `+` would be written.
pub(super) fn unified(there: &str, wanted: &str) -> String {
    let (there, wanted) = (format!("{there}\n"), format!("{wanted}\n"));
    let mut config = TextDiff::configure();
    // For two large texts, an approximate diff will do.
    config.timeout(Duration::from_secs(2));
    let diff = config.diff_lines(there.as_str(), wanted.as_str());
    let text = diff.unified_diff().context_radius(2).header("in the workspace", "new").to_string();
    let mut lines: Vec<String> = text.lines().map(mask_tokens).collect();
    let more = lines.len().saturating_sub(MOST_LINES);
    if more > 0 {
        lines.truncate(MOST_LINES);
        lines.push(format!("({more} more lines; see the whole new text with `dbtrigger deploy-notebook --print`)"));
    }
    lines.join("\n") + "\n"
}

/// Returns the line with everything that looks like a token masked.
fn mask_tokens(line: &str) -> String {
    let mut masked = String::new();
    let mut rest = line;
    while let Some((start, prefix)) =
        TOKENS.iter().filter_map(|prefix| Some((rest.find(prefix)?, prefix))).min_by_key(|(start, _)| *start)
    {
        let (before, token) = rest.split_at(start);
        let body = &token[prefix.len()..];
        let end =
            body.find(|sign: char| !(sign.is_ascii_alphanumeric() || "-_=+/.".contains(sign))).unwrap_or(body.len());
        masked.push_str(before);
        masked.push_str(prefix);
        masked.push_str(if end >= 12 { MASK } else { &body[..end] });
        rest = &body[end..];
    }
    masked + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_looks_like_a_token_is_not_shown() {
        let line = r#"- headers = {"Authorization": "Token dbtc_aB3xyz0123456789==", "x": "dapi0123456789abcdef"}"#;
        let shown = format!(r#"- headers = {{"Authorization": "Token dbtc_{MASK}", "x": "dapi{MASK}"}}"#);
        assert_eq!(mask_tokens(line), shown);
        assert_eq!(mask_tokens("a dose of dbtc_ and dapi"), "a dose of dbtc_ and dapi");
    }

    #[test]
    fn a_long_difference_is_cut_and_says_so() {
        let long = (0..1000).map(|line| line.to_string()).collect::<Vec<_>>().join("\n");
        let text = unified(&long, "x");
        assert_eq!(text.lines().count(), MOST_LINES + 1);
        assert!(text.contains("more lines"));
        assert!(unified("a\nb", "a\nc").contains("-b\n+c\n"));
    }
}
