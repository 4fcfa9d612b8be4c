//! The embedded files and which of them a path names.

/// A file of `static/`.
#[derive(Debug)]
pub struct File {
    /// Where it is served, from the root.
    pub path: &'static str,
    /// Its media type.
    pub content_type: &'static str,
    /// Its entity tag, with quotation marks.
    pub etag: &'static str,
    /// Its bytes.
    pub content: &'static [u8],
}

static FILES: &[File] = include!(concat!(env!("OUT_DIR"), "/files.rs"));

/// What is at a path.
#[derive(Debug)]
pub enum Found {
    /// This file.
    File(&'static File),
    /// Nothing here, but a page at this path.
    Moved(&'static str),
    /// Nothing.
    Nothing,
}

/// Finds what a path names: a file, or the `index.html` of a folder. Links in a page are relative to its folder, so a
/// folder without its slash is another place.
pub fn find(path: &str) -> Found {
    if let "/console" | "/console/" = path {
        return Found::Moved("/");
    }
    let named = |name: &str| FILES.iter().find(|file| file.path == name);
    if path.ends_with('/') {
        return named(&format!("{path}index.html")).map_or(Found::Nothing, Found::File);
    }
    if let Some(file) = named(path) {
        return Found::File(file);
    }
    let index = named(&format!("{path}/index.html"));
    let folder = index.and_then(|file| file.path.strip_suffix("index.html"));
    folder.map_or(Found::Nothing, Found::Moved)
}
