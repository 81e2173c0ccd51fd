//! Notebooks and folders of the workspace.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::done;
use crate::http::{BodyProblem, Call, Idempotent, Path, Read, parse_json};

/// Longest export response, in bytes: a notebook has at most 10 MB, and base64 adds a third.
const LARGEST_EXPORT: usize = 16 << 20;

/// The absolute path of a notebook, without `.py` and without the prefix `/Workspace`, which names the same object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub(crate) struct NotebookPath(String);

/// Why a path is not valid for a notebook.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadPath {
    #[error("a workspace path starts with `/`, such as /Users/ana@example.com/run_dbt_job")]
    Relative,
    #[error("it is a directory; add the notebook's name")]
    NoName,
    #[error("`.` and `..` are not resolved in the workspace: write the full path")]
    Dots,
    #[error("a notebook has no file extension: Databricks would keep `.py` in its name, and jobs would not find it")]
    Extension,
    #[error("it contains a line break or another control character")]
    Control,
}

impl FromStr for NotebookPath {
    type Err = BadPath;

    fn from_str(text: &str) -> Result<NotebookPath, BadPath> {
        if text.chars().any(char::is_control) {
            return Err(BadPath::Control);
        }
        if !text.starts_with('/') {
            return Err(BadPath::Relative);
        }
        if text.ends_with('/') {
            return Err(BadPath::NoName);
        }
        // Double slashes collapse.
        let mut parts: Vec<&str> = text.split('/').filter(|part| !part.is_empty()).collect();
        // Strip every leading `/Workspace`: the service ignores a remaining one, but our path checks would not.
        while parts.first() == Some(&"Workspace") {
            parts.remove(0);
        }
        if parts.iter().any(|part| matches!(*part, "." | "..")) {
            return Err(BadPath::Dots);
        }
        let Some(name) = parts.last() else { return Err(BadPath::NoName) };
        if name.to_ascii_lowercase().ends_with(".py") {
            return Err(BadPath::Extension);
        }
        Ok(NotebookPath(format!("/{}", parts.join("/"))))
    }
}

impl NotebookPath {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// The parent folder; `/` at the top level.
    pub(crate) fn folder(&self) -> &str {
        match self.0.rfind('/') {
            Some(0) | None => "/",
            Some(end) => &self.0[..end],
        }
    }

    /// The parent folder; `None` at the top level.
    pub(crate) fn above(&self) -> Option<NotebookPath> {
        let folder = self.folder();
        (folder != "/").then(|| NotebookPath(folder.to_owned()))
    }

    /// Whether all users of the workspace can edit objects there. Case-insensitive: if the
    /// service is not, an unneeded consent is better than an API key open to all.
    pub(crate) fn is_shared(&self) -> bool {
        self.0.split('/').nth(1).is_some_and(|top| top.eq_ignore_ascii_case("Shared"))
    }
}

impl fmt::Display for NotebookPath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// An object in the workspace.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct ObjectInfo {
    pub(crate) object_id: Option<u64>,
    /// Such as `NOTEBOOK`, `DIRECTORY`, `FILE`, `REPO`.
    pub(crate) object_type: Option<String>,
    /// Such as `PYTHON`, `SQL`. Notebooks only.
    pub(crate) language: Option<String>,
}

/// `workspace/get-status`. Also "not found" if the object is not visible to the identity.
pub(crate) fn get_status(path: &NotebookPath) -> Read<ObjectInfo> {
    Read::json(Call::get("workspace/get-status", Path::new("/api/2.0/workspace/get-status")).query("path", path))
}

/// `workspace/export`: a notebook's source.
pub(crate) fn export(path: &NotebookPath) -> Read<String> {
    #[derive(Deserialize)]
    struct Body {
        content: String,
    }
    let call = Call::get("workspace/export", Path::new("/api/2.0/workspace/export"));
    Read::new(call.query("path", path).query("format", "SOURCE").cap(LARGEST_EXPORT), |answer| {
        let Body { content } = parse_json(answer)?;
        let bytes =
            STANDARD.decode(content).map_err(|_| BodyProblem::Unreadable("the content is not base64".to_owned()))?;
        // Our notebooks are ASCII; others are only shown in a diff.
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    })
}

/// An object in a folder.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Listed {
    /// Absolute, with or without `/Workspace`.
    pub(crate) path: String,
    pub(crate) object_type: Option<String>,
}

/// `workspace/list`: the direct children of a folder. Of any other object, the object itself.
pub(crate) fn list(folder: &NotebookPath) -> Read<Vec<Listed>> {
    #[derive(Deserialize)]
    struct Body {
        objects: Option<Vec<Listed>>,
    }
    let call = Call::get("workspace/list", Path::new("/api/2.0/workspace/list")).query("path", folder);
    // The field is absent if there are none.
    Read::new(call, |answer| Ok(parse_json::<Body>(answer)?.objects.unwrap_or_default()))
}

/// `workspace/delete` of a notebook or empty folder. A folder that is not empty is an error.
pub(crate) fn delete(path: &NotebookPath) -> Idempotent<()> {
    let call = Call::post("workspace/delete", Path::new("/api/2.0/workspace/delete"));
    Idempotent::new(call.json(&json!({ "path": path.as_str(), "recursive": false })), done)
}

/// `workspace/mkdirs`: creates a folder and its parents, if they do not exist.
pub(crate) fn mkdirs(folder: &str) -> Idempotent<()> {
    let call = Call::post("workspace/mkdirs", Path::new("/api/2.0/workspace/mkdirs"));
    Idempotent::new(call.json(&json!({ "path": folder })), done)
}

/// `workspace/import` of a Python notebook from its source. The language is required: without it, the service expects a
/// zip archive.
pub(crate) fn import(path: &NotebookPath, source: &str, overwrite: bool) -> Idempotent<()> {
    let call = Call::post("workspace/import", Path::new("/api/2.0/workspace/import"));
    let body = json!({
        "path": path.as_str(),
        "format": "SOURCE",
        "language": "PYTHON",
        "content": STANDARD.encode(source),
        "overwrite": overwrite,
    });
    Idempotent::new(call.json(&body), done)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::Response;

    use super::*;

    #[test]
    fn both_spellings_of_a_path_are_one_and_odd_ones_are_refused_with_the_reason() {
        for (text, path) in [
            ("/Users/ana@example.com/x", Ok("/Users/ana@example.com/x")),
            ("/Workspace/Users/ana@example.com//x", Ok("/Users/ana@example.com/x")),
            ("/x", Ok("/x")),
            ("/Users/a/run me", Ok("/Users/a/run me")),
            ("Users/a/x", Err(BadPath::Relative)),
            ("", Err(BadPath::Relative)),
            ("/", Err(BadPath::NoName)),
            ("/Workspace", Err(BadPath::NoName)),
            ("/Users/a/", Err(BadPath::NoName)),
            ("/Users/../Shared/x", Err(BadPath::Dots)),
            ("/Users/a/x.py", Err(BadPath::Extension)),
            ("/Users/a/x.PY", Err(BadPath::Extension)),
            ("/Users/a\n/x", Err(BadPath::Control)),
        ] {
            let parsed = text.parse::<NotebookPath>().map(|path| path.to_string());
            assert_eq!(parsed.as_deref(), path.as_ref().copied(), "{text:?}");
        }
    }

    #[test]
    fn below_shared_is_shared_in_either_spelling() {
        for (text, shared) in [
            ("/Shared/x", true),
            ("/Workspace/Shared/team/x", true),
            ("/Workspace/Workspace//Shared/x", true),
            ("/shared/x", true),
            ("/Users/Shared/x", false),
            ("/SharedStuff/x", false),
        ] {
            assert_eq!(text.parse::<NotebookPath>().unwrap().is_shared(), shared, "{text}");
        }
    }

    #[test]
    fn a_folder_is_what_stands_before_the_name() {
        assert_eq!("/Users/a/x".parse::<NotebookPath>().unwrap().folder(), "/Users/a");
        assert_eq!("/x".parse::<NotebookPath>().unwrap().folder(), "/");
    }

    #[test]
    fn a_notebook_goes_out_as_source_in_python_and_comes_back_as_text() {
        let path: NotebookPath = "/Users/a/x".parse().unwrap();
        let Idempotent { call, parse: _ } = import(&path, "print('é')\n", true);
        let body: serde_json::Value = serde_json::from_slice(&call.body.unwrap()).unwrap();
        assert_eq!((body["format"].as_str(), body["language"].as_str()), (Some("SOURCE"), Some("PYTHON")));
        let content = body["content"].as_str().unwrap();
        let Read { call, parse } = export(&path);
        assert_eq!(call.target(), "/api/2.0/workspace/export?path=%2FUsers%2Fa%2Fx&format=SOURCE");
        let answer = Response::new(Bytes::from(format!(r#"{{"content":"{content}","file_type":"py"}}"#)));
        assert_eq!(parse(&answer).unwrap(), "print('é')\n");
        assert!(parse(&Response::new(Bytes::from("{}"))).is_err());
    }
}
