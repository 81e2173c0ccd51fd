//! Folders, notebooks and files, and how notebooks are exported.

/// A folder, notebook or file.
#[derive(Clone)]
pub(super) struct Object {
    pub(super) id: i64,
    pub(super) kind: Kind,
    pub(super) created: i64,
    pub(super) modified: i64,
}

#[derive(Clone)]
pub(super) enum Kind {
    Directory,
    Notebook { language: Language, source: String },
    File(Vec<u8>),
}

#[derive(Clone, Copy)]
pub(super) enum Language {
    Python,
    Sql,
    Scala,
    R,
}

impl Language {
    pub(super) const ALL: [Language; 4] = [Language::Python, Language::Sql, Language::Scala, Language::R];

    pub(super) fn parse(text: &str) -> Option<Language> {
        Language::ALL.into_iter().find(|language| language.name() == text)
    }

    pub(super) fn extension(self) -> &'static str {
        match self {
            Language::Python => "py",
            Language::Sql => "sql",
            Language::Scala => "scala",
            Language::R => "r",
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Language::Python => "PYTHON",
            Language::Sql => "SQL",
            Language::Scala => "SCALA",
            Language::R => "R",
        }
    }

    /// Returns the comment prefix of Databricks' own lines in a notebook.
    fn comment_prefix(self) -> &'static str {
        match self {
            Language::Python | Language::R => "#",
            Language::Sql => "--",
            Language::Scala => "//",
        }
    }

    /// Returns the first line that makes a source file a notebook.
    pub(super) fn header(self) -> String {
        format!("{} Databricks notebook source", self.comment_prefix())
    }
}

impl Kind {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Kind::Directory => "DIRECTORY",
            Kind::Notebook { .. } => "NOTEBOOK",
            Kind::File(_) => "FILE",
        }
    }

    /// Size in bytes; 0 for a folder.
    pub(super) fn size(&self) -> usize {
        match self {
            Kind::Directory => 0,
            Kind::Notebook { language: _, source } => source.len(),
            Kind::File(bytes) => bytes.len(),
        }
    }

    /// Returns the content of a SOURCE export.
    pub(super) fn exported(&self) -> Option<Vec<u8>> {
        match self {
            Kind::Directory => None,
            Kind::Notebook { language, source } => Some(canonical(*language, source).into_bytes()),
            Kind::File(bytes) => Some(bytes.clone()),
        }
    }
}

/// Export adds the header line, puts single blank lines around cell separators and drops exactly one trailing
/// newline.
pub(super) fn canonical(language: Language, source: &str) -> String {
    let mark = language.comment_prefix();
    let header = language.header();
    let separator = format!("{mark} COMMAND ----------");
    let body = match source.strip_prefix(&header) {
        Some(rest) => rest.strip_prefix('\n').unwrap_or(rest),
        None => source,
    };
    let mut cells: Vec<Vec<&str>> = vec![Vec::new()];
    for line in body.split('\n') {
        if line == separator {
            cells.push(Vec::new());
        } else if let Some(cell) = cells.last_mut() {
            cell.push(line);
        }
    }
    let last = cells.len() - 1;
    let texts: Vec<String> = cells
        .iter()
        .enumerate()
        .map(|(index, cell)| {
            let mut lines = cell.as_slice();
            while let Some(("", rest)) = lines.split_first().map(|(first, rest)| (*first, rest)).filter(|_| index > 0) {
                lines = rest;
            }
            while let Some(("", rest)) = lines.split_last().map(|(end, rest)| (*end, rest)).filter(|_| index < last) {
                lines = rest;
            }
            lines.join("\n")
        })
        .collect();
    let whole = format!("{header}\n{}", texts.join(&format!("\n\n{separator}\n\n")));
    whole.strip_suffix('\n').map(str::to_owned).unwrap_or(whole)
}
