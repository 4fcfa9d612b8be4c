//! Makes the table of the files in `static/`: path, content type, entity tag and content, all embedded.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::{env, fs};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

/// How much of a file's hash is its entity tag, in bytes.
const ETAG_BYTES: usize = 8;

fn main() -> Result<()> {
    let folder = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("static");
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed={}", folder.display());
    let mut files = Vec::new();
    collect(&folder, &mut files)?;
    files.sort();
    let mut table = String::from("&[\n");
    for file in files {
        let below = file.strip_prefix(&folder)?;
        let path = format!("/{}", below.to_str().context("a name that is not UTF-8")?);
        let content_type = content_type(below)?;
        let hash = Sha256::digest(fs::read(&file)?);
        let mut etag = String::new();
        for byte in hash.iter().take(ETAG_BYTES) {
            write!(etag, "{byte:02x}")?;
        }
        writeln!(
            table,
            "File {{ path: {path:?}, content_type: {content_type:?}, etag: \"\\\"{etag}\\\"\", content: include_bytes!({file:?}) }},"
        )?;
    }
    table.push(']');
    fs::write(PathBuf::from(env::var("OUT_DIR")?).join("files.rs"), table)?;
    Ok(())
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let entries = fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        match path.is_dir() {
            true => collect(&path, files)?,
            false => files.push(path),
        }
    }
    Ok(())
}

fn content_type(file: &Path) -> Result<&'static str> {
    let extension = file.extension().and_then(|extension| extension.to_str());
    Ok(match extension {
        Some("css") => "text/css; charset=utf-8",
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("json") => "application/json",
        Some("png") => "image/png",
        Some("svg") => "image/svg+xml",
        Some("txt") => "text/plain; charset=utf-8",
        Some("woff2") => "font/woff2",
        _ => bail!(
            "{}: build.rs knows no content type for this name",
            file.display()
        ),
    })
}
