//! Digests in ownership marks.

use sha2::{Digest as _, Sha256};

use crate::text::hex;

/// The first hex digits of the text's SHA-256: tags allow few other characters.
pub(crate) fn digest(text: &str, digits: usize) -> String {
    let mut hex = hex(Sha256::digest(text));
    hex.truncate(digits);
    hex
}
