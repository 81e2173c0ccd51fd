//! Notebooks, files and folders of the workspace.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::World;
use super::answers::{HandlerResult, HttpResponse, ServiceError, databricks_data, plain};
use super::call::Call;
use super::databricks::WorkspaceState;
use super::workspace_objects::{Kind, Language, Object, canonical};
use super::{answers, people, permissions};

const LARGEST: usize = 10 * 1024 * 1024;

/// Normalizes a path: with and without `/Workspace` it names the same object, and double slashes collapse.
pub(super) fn normal_path(path: &str) -> Result<String, ServiceError> {
    let what = format!("Path ({path}) must be an absolute path, i.e. it must start with '/'.");
    ServiceError::ensure(path.starts_with('/'), what)?;
    let mut parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    if parts.first() == Some(&"Workspace") {
        parts.remove(0);
    }
    Ok(format!("/{}", parts.join("/")))
}

fn parent(path: &str) -> &str {
    match path.rfind('/') {
        Some(0) | None => "/",
        Some(end) => &path[..end],
    }
}

fn key_of(path: &str) -> String {
    format!("path:{path}")
}

impl World {
    pub(super) fn make_directory(&mut self, path: &str) {
        let object =
            Object { id: self.ids.next_id(), kind: Kind::Directory, created: self.now.0, modified: self.now.0 };
        self.databricks.objects.insert(path.to_owned(), object);
    }

    /// Returns the notebook at a path if `who` may read it. A hidden one looks like a missing one.
    pub(super) fn notebook_for(&self, who: &str, path: &str) -> Option<String> {
        let path = normal_path(path).ok()?;
        let object = self.databricks.objects.get(&path)?;
        self.rights_on(&self.databricks, &path, object, who)?;
        match &object.kind {
            Kind::Notebook { language, source } => Some(canonical(*language, source)),
            Kind::Directory | Kind::File(_) => None,
        }
    }

    fn visible<'a>(&self, state: &'a WorkspaceState, call: &Call, path: &str) -> Result<&'a Object, ServiceError> {
        state
            .objects
            .get(path)
            .filter(|object| self.rights_on(state, path, object, &call.caller).is_some())
            .ok_or_else(|| ServiceError::not_found(format!("Path ({path}) doesn't exist.")))
    }
}

pub(super) fn status(world: &mut World, call: &Call) -> HandlerResult {
    let path = normal_path(call.required_param("path")?)?;
    let object = world.visible(world.state_for_read(&key_of(&path)), call, &path)?;
    Ok(databricks_data(&shown(&path, object)))
}

fn shown(path: &str, object: &Object) -> Value {
    let mut body = json!({ "object_type": object.kind.name(), "path": path, "object_id": object.id, "resource_id": object.id.to_string() });
    if let Kind::Notebook { language, source: _ } = &object.kind {
        body["language"] = json!(language.name());
    }
    if !matches!(object.kind, Kind::Directory) {
        body["size"] = json!(object.kind.size());
        body["created_at"] = json!(object.created);
        body["modified_at"] = json!(object.modified);
    }
    body
}

/// Lists the objects directly in a folder, or the object itself if it is not a folder. Without any, there is no
/// `objects` field.
pub(super) fn list(world: &mut World, call: &Call) -> HandlerResult {
    let path = normal_path(call.required_param("path")?)?;
    let since = call.number("notebooks_modified_after")?;
    let state = world.state_for_read(&key_of(&path));
    let object = world.visible(state, call, &path)?;
    let rows: Vec<Value> = if matches!(object.kind, Kind::Directory) {
        let inside = state.objects.iter().filter(|(below, object)| {
            *below != "/"
                && parent(below) == path
                && world.rights_on(state, below, object, &call.caller).is_some()
                && since.is_none_or(|since| !matches!(object.kind, Kind::Notebook { .. }) || object.modified > since)
        });
        inside.map(|(below, object)| shown(below, object)).collect()
    } else {
        vec![shown(&path, object)]
    };
    Ok(answers::rows("objects", &rows))
}

/// A non-empty folder is deleted only with `recursive`; nothing goes to the trash.
pub(super) fn delete(world: &mut World, call: &Call) -> HandlerResult {
    let fields = call.fields()?;
    let path = normal_path(&fields.required_text("path")?)?;
    let object = world.visible(&world.databricks, call, &path)?;
    permissions::check_managed(world, call, &path, object)?;
    let inside = format!("{path}/");
    let below: Vec<String> =
        world.databricks.objects.keys().filter(|other| other.starts_with(&inside)).cloned().collect();
    if !below.is_empty() && !fields.flag("recursive")? {
        return Err(ServiceError::databricks(
            400,
            "DIRECTORY_NOT_EMPTY",
            format!("Folder ({path}) is not empty. Use recursive to delete it with everything in it."),
        ));
    }
    for gone in below.into_iter().chain([path.clone()]) {
        if let Some(object) = world.databricks.objects.remove(&gone) {
            permissions::forget(world, &object);
        }
        world.mark_changed(key_of(&gone));
    }
    world.mark_changed(key_of(parent(&path)));
    Ok(databricks_data(&json!({})))
}

pub(super) fn make_directories(world: &mut World, call: &Call) -> HandlerResult {
    let path = normal_path(&call.fields()?.required_text("path")?)?;
    let mut beginnings: Vec<&str> = path.match_indices('/').skip(1).map(|(end, _)| &path[..end]).collect();
    beginnings.push(&path);
    for beginning in &beginnings {
        if let Some(object) = world.databricks.objects.get(*beginning)
            && !matches!(object.kind, Kind::Directory)
        {
            let what = format!("Path ({beginning}) already exists and is not a directory.");
            return Err(ServiceError::already_exists(what));
        }
    }
    may_write_below(world, call, &path)?;
    for beginning in beginnings {
        if !world.databricks.objects.contains_key(beginning) {
            world.make_directory(beginning);
            world.mark_changed(key_of(beginning));
        }
    }
    Ok(databricks_data(&json!({})))
}

/// Checks for edit rights on the nearest existing folder.
fn may_write_below(world: &World, call: &Call, path: &str) -> Result<(), ServiceError> {
    let mut folder = path;
    while !world.databricks.objects.contains_key(folder) && folder != "/" {
        folder = parent(folder);
    }
    let object = world.databricks.objects.get(folder);
    let rights = object.and_then(|object| world.rights_on(&world.databricks, folder, object, &call.caller));
    if rights.is_some_and(permissions::may_edit) {
        return Ok(());
    }
    Err(ServiceError::permission_denied(format!("{} does not have Edit permissions on {folder}", call.caller)))
}

pub(super) fn import(world: &mut World, call: &Call) -> HandlerResult {
    let fields = call.fields()?;
    let path = normal_path(&fields.required_text("path")?)?;
    let language = fields
        .text("language")?
        .map(|text| Language::parse(&text).ok_or_else(|| ServiceError::invalid(format!("Invalid language {text}"))));
    let content = STANDARD
        .decode(fields.text("content")?.unwrap_or_default())
        .map_err(|_| ServiceError::malformed("Could not parse request object: content is not base64"))?;
    let (path, kind) = match (fields.text("format")?.as_deref(), language.transpose()?) {
        (None | Some("SOURCE"), Some(language)) => (path, notebook(language, &content)?),
        // Without a language, the content is read as a zip archive.
        (None | Some("SOURCE"), None) => {
            return Err(ServiceError::invalid("The zip file may not be valid or may be an unsupported version."));
        }
        (Some("AUTO"), _) => by_name_and_header(path, content)?,
        (Some("JUPYTER" | "HTML" | "DBC" | "R_MARKDOWN" | "RAW"), _) => {
            return Err(ServiceError::unsupported("import in formats other than SOURCE and AUTO"));
        }
        (Some(other), _) => return Err(ServiceError::invalid(format!("Invalid format {other}"))),
    };
    store(world, call, path, kind, fields.flag("overwrite")?)
}

/// `POST workspace-files/import-file/{path}?overwrite=true`: the body is the file, whatever its content type.
pub(super) fn import_file(world: &mut World, call: &Call) -> HandlerResult {
    let path = call.path_params.first().map(String::as_str).unwrap_or_default();
    // Clients omit the leading slash.
    let path = normal_path(&format!("/{path}"))?;
    let (path, kind) = by_name_and_header(path, call.body().to_vec())?;
    store(world, call, path, kind, call.query_flag("overwrite"))
}

/// A source file that begins with its language's header becomes a notebook without the extension.
fn by_name_and_header(path: String, content: Vec<u8>) -> Result<(String, Kind), ServiceError> {
    let Some((bare, extension)) = path.rsplit_once('.') else {
        return Ok((path, Kind::File(content)));
    };
    if extension == "ipynb" {
        return Err(ServiceError::unsupported("Jupyter notebooks"));
    }
    let language = Language::ALL.into_iter().find(|language| extension.eq_ignore_ascii_case(language.extension()));
    match language.filter(|language| content.starts_with(language.header().as_bytes())) {
        Some(language) => Ok((bare.to_owned(), notebook(language, &content)?)),
        None => Ok((path, Kind::File(content))),
    }
}

fn store(world: &mut World, call: &Call, path: String, kind: Kind, overwrite: bool) -> HandlerResult {
    if kind.size() > LARGEST {
        let what = "File size imported is greater than 10485760 bytes";
        return Err(ServiceError::databricks(400, "MAX_NOTEBOOK_SIZE_EXCEEDED", what));
    }
    let folder = parent(&path);
    if !matches!(world.databricks.objects.get(folder), Some(Object { kind: Kind::Directory, .. })) {
        return Err(ServiceError::not_found(format!("The parent folder ({folder}) does not exist.")));
    }
    may_write_below(world, call, &path)?;
    let now = call.now.0;
    let mut id = None;
    if let Some(old) = world.databricks.objects.get(&path) {
        let (asked, actual) = (kind.name(), old.kind.name());
        let what =
            format!("Cannot overwrite the asset at {path} due to type mismatch (asked: {asked}, actual: {actual})");
        ServiceError::ensure(asked == actual, what)?;
        if !overwrite {
            // 400 for notebooks, 409 for files.
            let status = if matches!(old.kind, Kind::File(_)) { 409 } else { 400 };
            let code = "RESOURCE_ALREADY_EXISTS";
            let what = format!("{code}: {path} already exists. Please pass overwrite as true to overwrite it.");
            return Err(ServiceError::databricks(status, code, what));
        }
        id = Some((old.id, old.created));
    }
    // Overwriting keeps the object's id and so its permissions.
    let (id, created) = id.unwrap_or_else(|| (world.ids.next_id(), now));
    world.mark_changed(key_of(parent(&path)));
    world.mark_changed(key_of(&path));
    world.databricks.objects.insert(path, Object { id, kind, created, modified: now });
    Ok(databricks_data(&json!({ "object_id": id })))
}

fn notebook(language: Language, content: &[u8]) -> Result<Kind, ServiceError> {
    let text =
        std::str::from_utf8(content).map_err(|_| ServiceError::invalid("The content of a notebook must be UTF-8."))?;
    Ok(Kind::Notebook { language, source: text.replace("\r\n", "\n") })
}

pub(super) fn export(world: &mut World, call: &Call) -> HandlerResult {
    let path = normal_path(call.required_param("path")?)?;
    let object = world.visible(world.state_for_read(&key_of(&path)), call, &path)?;
    match call.query_param("format") {
        None | Some("" | "SOURCE" | "AUTO") => {}
        Some("JUPYTER" | "HTML" | "DBC" | "R_MARKDOWN" | "RAW") => {
            return Err(ServiceError::unsupported("export in formats other than SOURCE and AUTO"));
        }
        Some(other) => return Err(ServiceError::invalid(format!("Invalid format {other}"))),
    }
    let Some(bytes) = object.kind.exported() else {
        return Err(ServiceError::unsupported("export of folders"));
    };
    Ok(handed_out(call, object, bytes))
}

fn handed_out(call: &Call, object: &Object, bytes: Vec<u8>) -> HttpResponse {
    if call.query_flag("direct_download") {
        return plain(200, "application/octet-stream", bytes);
    }
    let ending = match &object.kind {
        Kind::Notebook { language, source: _ } => language.extension(),
        Kind::Directory | Kind::File(_) => "file",
    };
    databricks_data(&json!({ "content": STANDARD.encode(bytes), "file_type": ending }))
}

/// Returns the owner of the home folder that contains a path.
pub(super) fn home_owner(path: &str) -> Option<&str> {
    path.strip_prefix("/Users/")?.split('/').next()
}

/// Whether a path is in `/Shared`, which everyone manages.
pub(super) fn is_shared(path: &str) -> bool {
    path == "/Shared" || path.starts_with("/Shared/")
}

pub(super) fn seed(world: &mut World) {
    let homes = [people::ANA, people::BO, people::PRINCIPAL].map(|name| format!("/Users/{name}"));
    for path in ["/", "/Users", "/Shared", "/Repos"].into_iter().chain(homes.iter().map(String::as_str)) {
        world.make_directory(path);
    }
}

pub(super) fn inspected(world: &World) -> Value {
    let rows = world.databricks.objects.iter().map(|(path, object)| {
        let mut row = json!({ "type": object.kind.name(), "object_id": object.id });
        if let Some(bytes) = object.kind.exported() {
            row["content"] = json!(String::from_utf8_lossy(&bytes));
        }
        (path.clone(), row)
    });
    Value::Object(rows.collect())
}
