//! Suggestions for mistyped names.

/// Maximum number of suggestions.
const SUGGESTIONS: usize = 3;

/// The values in `known` whose name is near what was typed, nearest first, ignoring case.
pub(crate) fn nearest<T>(typed: &str, known: impl IntoIterator<Item = T>, name: impl Fn(&T) -> &str) -> Vec<T> {
    let typed = typed.to_lowercase();
    let letters = typed.chars().count();
    let mut near: Vec<(usize, T)> = known
        .into_iter()
        .filter_map(|one| {
            let other = name(&one).to_lowercase();
            // A part of the name counts as near: people omit prefixes.
            let far = if letters > 2 && other != typed && other.contains(&typed) {
                1
            } else {
                strsim::osa_distance(&typed, &other)
            };
            (letters > 0 && far <= (letters / 3).max(1)).then_some((far, one))
        })
        .collect();
    near.sort_by(|(far, one), (further, other)| far.cmp(further).then_with(|| name(one).cmp(name(other))));
    near.into_iter().take(SUGGESTIONS).map(|(_, one)| one).collect()
}

/// The same for plain names, each in quotes.
pub(crate) fn nearest_names<'a>(typed: &str, known: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    nearest(typed, known, |name| name).iter().map(|name| format!("\"{name}\"")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_capitals_and_parts_are_near_and_other_names_are_not() {
        let known = ["work", "Nightly build", "Weekly build", "prod", "dbt: Nightly build (222222)"];
        for (typed, near) in [
            ("wrok", &["\"work\""][..]),
            ("WORK", &["\"work\""]),
            ("pord", &["\"prod\""]),
            ("nightly build", &["\"Nightly build\"", "\"dbt: Nightly build (222222)\""]),
            ("Nightly", &["\"Nightly build\"", "\"dbt: Nightly build (222222)\""]),
            ("finance", &[]),
            ("", &[]),
            ("d", &[]),
        ] {
            assert_eq!(nearest_names(typed, known), near, "{typed}");
        }
    }
}
