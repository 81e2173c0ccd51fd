//! The fields of documents, and documents without what differs from run to run.

use serde_json::{Map, Value};

/// One field in a command's documents.
pub(crate) struct Field {
    /// A path such as `steps[].kind`.
    pub(crate) path: String,
    /// The types, such as `string or null`.
    pub(crate) types: String,
    /// Whether it is always present in its parent.
    pub(crate) always: bool,
}

/// A field while it is being counted.
struct Counted {
    path: String,
    parent: String,
    types: Vec<&'static str>,
    seen: usize,
}

/// The fields of `data` in these documents, or of `error` if there is none, in their order.
pub(crate) fn of<'a>(documents: impl Iterator<Item = &'a Value>) -> Vec<Field> {
    let (mut counted, mut objects) = (Vec::new(), Vec::new());
    for document in documents {
        let root = document.get("data").or_else(|| document.get("error")).unwrap_or(document);
        count(root, "", &mut counted, &mut objects);
    }
    let of_parent = |parent: &str| objects.iter().filter(|object| *object == parent).count();
    counted
        .into_iter()
        .map(|Counted { path, parent, types, seen }| Field {
            always: seen == of_parent(&parent),
            types: in_order(types).join(" or "),
            path,
        })
        .collect()
}

/// The names of a document's number fields.
pub(crate) fn numbers(value: &Value) -> Vec<&str> {
    match value {
        Value::Object(object) => object
            .iter()
            .flat_map(|(name, value)| if value.is_number() { vec![name.as_str()] } else { numbers(value) })
            .collect(),
        Value::Array(values) => values.iter().flat_map(numbers).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Vec::new(),
    }
}

/// Sorts types by name with `null` last, independently of the order of documents.
fn in_order(mut types: Vec<&'static str>) -> Vec<&'static str> {
    types.sort_by_key(|kind| (*kind == "null", *kind));
    types
}

fn count(value: &Value, path: &str, counted: &mut Vec<Counted>, objects: &mut Vec<String>) {
    match value {
        Value::Object(object) => {
            objects.push(path.to_owned());
            // A new field goes after the one that it followed.
            let mut after = counted.iter().position(|known| known.path == path).map_or(counted.len(), |at| at + 1);
            for (name, value) in object {
                let own = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                let at = counted.iter().position(|known| known.path == own).unwrap_or_else(|| {
                    let new = Counted { path: own.clone(), parent: path.to_owned(), types: Vec::new(), seen: 0 };
                    let at = after.min(counted.len());
                    counted.insert(at, new);
                    at
                });
                counted[at].seen += 1;
                let kind = kind(value);
                if !counted[at].types.contains(&kind) {
                    counted[at].types.push(kind);
                }
                // The fields of other commands' documents are described in their own sections.
                if name != "document" {
                    count(value, &own, counted, objects);
                }
                let below = format!("{own}.");
                let list = format!("{own}[]");
                let last = counted.iter().rposition(|known| {
                    known.path == own || known.path.starts_with(&below) || known.path.starts_with(&list)
                });
                after = last.map_or(counted.len(), |last| last + 1);
            }
        }
        Value::Array(values) => values.iter().for_each(|value| count(value, &format!("{path}[]"), counted, objects)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "list",
        Value::Object(_) => "object",
    }
}

/// The document without what differs from run to run, and without what is too long to read.
pub(crate) fn normal(value: &Value) -> Value {
    match value {
        Value::Object(object) => {
            let fields = object.iter().map(|(name, value)| (name.clone(), field(name, value)));
            Value::Object(fields.collect::<Map<_, _>>())
        }
        Value::Array(values) => {
            let mut shown: Vec<Value> = values.iter().map(normal).collect();
            // Which states a poll sees on the way is chance.
            shown.dedup_by(|next, before| {
                is_state(next) && is_state(before) && {
                    *before = next.clone();
                    true
                }
            });
            shown.truncate(2 + usize::from(values.iter().all(Value::is_string)) * 10);
            Value::Array(shown)
        }
        Value::String(text) => Value::String(steady(text)),
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    }
}

fn field(name: &str, value: &Value) -> Value {
    match value {
        Value::Number(_) if name.ends_with("_seconds") => 240.into(),
        Value::Null | Value::String(_) if name == "commit" => "4e8b6d44e".into(),
        Value::String(_) if name == "target" => "x86_64-unknown-linux-gnu".into(),
        Value::Object(_) if name == "document" => "the document of that command".into(),
        Value::String(text) if name == "script" => [text.lines().next().unwrap_or_default(), " …"].concat().into(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) | Value::Object(_) => {
            normal(value)
        }
    }
}

fn is_state(value: &Value) -> bool {
    value.as_str().is_some_and(|text| text.starts_with("DbtJobRunStatus."))
}

/// Replaces ports, times, keys and digests by constants.
fn steady(text: &str) -> String {
    if text.parse::<jiff::Timestamp>().is_ok() {
        return "2026-11-02T03:04:05Z".to_owned();
    }
    let mut steady = String::new();
    let mut rest = text;
    while let Some(start) = rest.find(|character: char| character.is_ascii_alphanumeric()) {
        let word = &rest[start..];
        let end = word.find(|character: char| !character.is_ascii_alphanumeric()).unwrap_or(word.len());
        steady += &rest[..start];
        let word = &word[..end];
        // No word is as long as a key.
        let is_key = word.len() >= 26;
        let is_port = steady.ends_with("127.0.0.1:") && word.bytes().all(|byte| byte.is_ascii_digit());
        let is_mark = steady.ends_with('[') && word.len() == 8 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
        steady += match (is_key, is_port) {
            (_, true) => "PORT",
            (false, false) if is_mark => "76db4be3",
            (true, false) => {
                &"k3ybafd6nrnd922fazaaf42spf9d33f57d276189e79bc7443e567f77f653cee92666a3c0"[..word.len().min(72)]
            }
            (false, false) => word,
        };
        rest = &rest[start + end..];
    }
    steady + rest
}
