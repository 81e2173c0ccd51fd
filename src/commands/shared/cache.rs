//! Files in the cache folder: data that can be lost at any time, for completions and to guess what a workspace contains.

use std::io::{self, Write as _};
use std::path::PathBuf;

use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};

use crate::context::Environment;
use crate::text::hex;

/// A file of the cache folder.
pub(crate) struct CacheFile(Option<PathBuf>);

impl CacheFile {
    /// `kind`: the beginning of the file name; `key`: what tells files of a kind apart.
    pub(crate) fn new(kind: &str, key: &str, environment: &Environment) -> CacheFile {
        let name = format!("{kind}-{}.json", &hex(Sha256::digest(key))[..16]);
        CacheFile(environment.cache_folder().map(|folder| folder.join(name)))
    }

    /// The content, if there is a readable file.
    pub(crate) fn load<T: DeserializeOwned>(&self) -> Option<T> {
        serde_json::from_slice(&std::fs::read(self.0.as_ref()?).ok()?).ok()
    }

    /// Replaces the content, if possible.
    pub(crate) fn store<T: Serialize>(&self, content: &T) {
        // Without the file, the next command asks the service.
        let _ = self.replace(content);
    }

    fn replace<T: Serialize>(&self, content: &T) -> io::Result<()> {
        let Some((file, folder)) = self.0.as_ref().and_then(|file| Some((file, file.parent()?))) else { return Ok(()) };
        std::fs::create_dir_all(folder)?;
        // Replaced atomically, so that concurrent readers see a complete file.
        let mut whole = tempfile::NamedTempFile::new_in(folder)?;
        whole.write_all(&serde_json::to_vec(content)?)?;
        whole.persist(file)?;
        Ok(())
    }
}
