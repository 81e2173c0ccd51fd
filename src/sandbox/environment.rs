//! The environment variables that point a client at the sandbox.

use std::io::{self, Write as _};
use std::path::Path;

use super::Seed;

/// The only dbt account in the world.
const ACCOUNT_ID: &str = "51234";

/// Names and values, in the order they are printed.
pub type Variables = Vec<(&'static str, String)>;

/// Returns the variables for `origin`. `authority` is the CA certificate file to trust when the origin is https.
pub(super) fn variables(origin: &str, authority: Option<&Path>, seed: &Seed) -> Variables {
    // dbt's clients accept only a bare host and prepend https://.
    let dbt_host = origin.strip_prefix("https://").unwrap_or(origin);
    let mut variables = vec![
        ("DATABRICKS_HOST", origin.to_owned()),
        ("DATABRICKS_TOKEN", seed.databricks_token.clone()),
        ("DBT_CLOUD_HOST", dbt_host.to_owned()),
        ("DBT_CLOUD_ACCOUNT_ID", ACCOUNT_ID.to_owned()),
        ("DBT_CLOUD_TOKEN", seed.dbt_token.clone()),
    ];
    if let Some(authority) = authority {
        // Python's `requests` reads REQUESTS_CA_BUNDLE; nearly every other client reads SSL_CERT_FILE.
        variables.push(("SSL_CERT_FILE", authority.display().to_string()));
        variables.push(("REQUESTS_CA_BUNDLE", authority.display().to_string()));
    }
    variables
}

/// Writes `NAME=value` lines atomically; the file has mode 0600, the default for temporary files.
pub(super) fn write(path: &Path, variables: &[(&'static str, String)]) -> io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        Some(_) | None => Path::new("."),
    };
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    for (name, value) in variables {
        writeln!(file, "{name}={value}")?;
    }
    file.as_file().sync_all()?;
    file.persist(path).map_err(|failure| failure.error)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::write;

    #[test]
    fn the_env_file_is_replaced_whole_and_is_for_its_owner_only() {
        let folder = tempfile::tempdir().expect("works");
        let path = folder.path().join("sandbox.env");
        std::fs::write(&path, "OLD=1\n").expect("works");
        let variables = [("A", "1".to_owned()), ("B", "2".to_owned())];
        write(&path, &variables).expect("works");
        assert_eq!(std::fs::read_to_string(&path).expect("works"), "A=1\nB=2\n");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = std::fs::metadata(&path).expect("works").permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        assert_eq!(std::fs::read_dir(folder.path()).expect("works").count(), 1);
    }
}
