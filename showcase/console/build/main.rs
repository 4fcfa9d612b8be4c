//! Makes the table of the files that the component serves: path, content type, entity tag and content, all embedded.
//! They are those in `static/`, and the reference page.

mod reference;

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::{env, fs};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

/// How much of a file's hash is its entity tag, in bytes.
const ETAG_BYTES: usize = 8;

fn main() -> Result<()> {
    let package = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let out = PathBuf::from(env::var("OUT_DIR")?);
    for input in ["build", "static", "reference.html"] {
        println!("cargo:rerun-if-changed={}", package.join(input).display());
    }
    let generated = out.join("static");
    reference::generate(&package, &generated.join("reference"))?;
    let mut files = Vec::new();
    for folder in [package.join("static"), generated] {
        collect(&folder, &folder, &mut files)?;
    }
    files.sort();
    let mut table = String::from("&[\n");
    for (path, file) in files {
        let content_type = content_type(&file)?;
        let hash = Sha256::digest(fs::read(&file)?);
        let mut etag = String::new();
        for byte in hash.iter().take(ETAG_BYTES) {
            write!(etag, "{byte:02x}")?;
        }
        writeln!(
            table,
            "File {{ path: {path:?}, content_type: {content_type:?}, etag: \"\\\"{etag}\\\"\", \
             content: include_bytes!({file:?}) }},"
        )?;
    }
    table.push(']');
    fs::write(out.join("files.rs"), table)?;
    Ok(())
}

/// The files below a folder, each with the path that it is served at.
fn collect(root: &Path, folder: &Path, files: &mut Vec<(String, PathBuf)>) -> Result<()> {
    let entries = fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))?;
    for entry in entries {
        let file = entry?.path();
        if file.is_dir() {
            collect(root, &file, files)?;
        } else {
            let below = file.strip_prefix(root)?;
            let below = below.to_str().context("a name that is not UTF-8")?;
            files.push((format!("/{below}"), file));
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
        _ => bail!("{}: the build knows no content type for this name", file.display()),
    })
}
