//! Durations as arguments.

use std::time::Duration;

use crate::commands::durations;

/// Parses a duration of whole seconds, at least one: dbt reads 0 as no limit (dbt-cloud-api §3.1).
pub(super) fn whole_seconds(text: &str) -> Result<Duration, String> {
    let duration = durations::parse(text)?;
    if duration.as_secs() == 0 || duration.subsec_millis() != 0 {
        return Err(format!("\"{text}\" is not a whole number of seconds, at least 1"));
    }
    Ok(duration)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_for_dbt_has_whole_seconds() {
        assert_eq!(whole_seconds("10m"), Ok(Duration::from_mins(10)));
        for text in ["0s", "500ms", "1500ms", "soon"] {
            assert!(whole_seconds(text).is_err(), "{text}");
        }
    }
}
