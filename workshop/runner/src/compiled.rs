//! Compiled components in files: only the first start with a component compiles it.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;

use wasmtime::Engine;
use wasmtime::component::Component;
use wasmtime::error::{Context, Result};

/// Loads a component, compiled by an earlier start or now. The folder keeps the newest of each name.
pub fn load(engine: &Engine, source: &Path, folder: &Path) -> Result<Component> {
    let wasm = fs::read(source)?;
    let mut hasher = DefaultHasher::new();
    engine.precompile_compatibility_hash().hash(&mut hasher);
    wasm.hash(&mut hasher);
    let name = source.file_stem().unwrap_or_default().to_string_lossy();
    let file = folder.join(format!("{name}.{:016x}.compiled", hasher.finish()));
    if file.exists() {
        // SAFETY: this function wrote the file, and all of it, see below. Another program that may write here may also
        // write the component.
        if let Ok(component) = unsafe { Component::deserialize_file(engine, &file) } {
            return Ok(component);
        }
    }
    let compiled = engine.precompile_component(&wasm)?;
    remove_older(&name, folder)?;
    // Several runners may start at once, and each may be killed. A file of that name is never incomplete.
    let incomplete = file.with_extension(std::process::id().to_string());
    fs::write(&incomplete, &compiled)
        .and_then(|()| fs::rename(&incomplete, &file))
        .with_context(|| format!("writing {}", file.display()))?;
    // SAFETY: the engine has just compiled it.
    unsafe { Component::deserialize_file(engine, &file) }
}

fn remove_older(name: &str, folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let file = entry.file_name();
        let file = file.to_string_lossy();
        if file.ends_with(".compiled") && file.strip_prefix(name).is_some_and(|rest| rest.starts_with('.')) {
            // Another runner may have removed it already. One that uses it has it in memory.
            let _ = fs::remove_file(entry.path());
        }
    }
    Ok(())
}
