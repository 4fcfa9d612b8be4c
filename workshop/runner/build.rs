//! Generates the host bindings of Spin's interfaces from the WIT files that the spin-sdk crate ships. The
//! component is built against the same files, so runner and component cannot disagree.

use std::path::PathBuf;
use std::{env, fs};

use anyhow::{Context, Result};

fn main() -> Result<()> {
    let metadata =
        cargo_metadata::MetadataCommand::new().exec().context("asking cargo for the path of the spin-sdk crate")?;
    let sdk = metadata
        .packages
        .iter()
        .find(|package| package.name.as_str() == "spin-sdk")
        .context("the workspace does not depend on spin-sdk")?;
    let wit = sdk.manifest_path.parent().context("the manifest of spin-sdk has no folder")?.join("wit");
    let bindings = format!(
        r###"
wasmtime::component::bindgen!({{
    path: {wit:?},
    inline: "
        package runner:host;
        world host {{
            import spin:redis/redis@3.0.0;
            import spin:postgres/postgres@4.2.0;
            import spin:sqlite/sqlite@3.1.0;
            import spin:variables/variables@3.0.0;
        }}
    ",
    world: "runner:host/host",
    imports: {{ default: async }},
    with: {{
        "spin:redis/redis.connection": crate::connections::RedisConnection,
        "spin:postgres/postgres.connection": crate::connections::PostgresConnection,
        "spin:postgres/postgres.connection-builder": crate::connections::PostgresConnectionBuilder,
        "spin:sqlite/sqlite.connection": crate::sqlite::SqliteConnection,
    }},
}});
"###
    );
    let out = PathBuf::from(env::var("OUT_DIR")?).join("spin.rs");
    fs::write(out, bindings)?;
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed={wit}");
    println!("cargo:rerun-if-changed=../Cargo.lock");
    Ok(())
}
