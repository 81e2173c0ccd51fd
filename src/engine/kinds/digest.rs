//! Digests in ownership marks.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

/// The first hex digits of the text's SHA-256: tags allow few other characters (databricks-api §5.1).
pub(crate) fn digest(text: &str, digits: usize) -> String {
    let mut hex = String::new();
    for byte in Sha256::digest(text.as_bytes()) {
        let _ = write!(hex, "{byte:02x}");
    }
    hex.truncate(digits);
    hex
}
