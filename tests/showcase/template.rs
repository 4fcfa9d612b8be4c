//! The template `exactly-once`, expanded, built for Wasm, and served: its resource is created once.

mod expand;

use std::path::{Path, PathBuf};

use devstack::workspace;
use expand::expand;
use fixtures::{Served, connect};
use serde_json::json;

use crate::assert_passes;

fn template() -> PathBuf {
    workspace::root().join("showcase/templates/exactly-once")
}

fn cargo(project: &Path, arguments: &[&str]) {
    let mut command = workspace::cargo_command();
    command
        .args(arguments)
        // The checkout's profiles: with the project's own, dependencies would be compiled again, a minute of a run of
        // all tests.
        .arg("--config")
        .arg(workspace::root().join(".cargo/config.toml"))
        .current_dir(project)
        // Dependencies are compiled once for all.
        .env("CARGO_TARGET_DIR", workspace::target());
    assert_passes(command);
}

#[tokio::test]
async fn a_new_project_creates_its_resource_once() {
    let root = workspace::root();
    let project = workspace::stack_folder().join("template-check/rooms");
    if project.exists() {
        std::fs::remove_dir_all(&project).unwrap();
    }
    let values = [("collection", "rooms"), ("resource", "room"), ("core-path", root.to_str().unwrap())];
    expand(&template(), &project, "my-rooms", &values);
    // The versions that are tested here; a user's first build has the newest.
    std::fs::copy(root.join("Cargo.lock"), project.join("Cargo.lock")).unwrap();
    cargo(&project, &["test", "--quiet"]);
    cargo(&project, &["build", "--release", "--target", workspace::WASM_TARGET]);
    // spin.toml names the file where cargo puts it without CARGO_TARGET_DIR.
    let wasm = Path::new(workspace::WASM_TARGET).join("release/rooms.wasm");
    let place = project.join("target").join(&wasm);
    std::fs::create_dir_all(place.parent().unwrap()).unwrap();
    std::fs::copy(workspace::target().join(&wasm), place).unwrap();

    let manifest = project.join("spin.toml");
    let service = Served::start_with(manifest.to_str().unwrap(), "template", &[("identity", "none")]).await.unwrap();
    let client = connect(&service.database_url).await.unwrap();
    // The project's database has nothing of the orders.
    let empty = "DROP SCHEMA public CASCADE; CREATE SCHEMA public; DROP PUBLICATION orders_created";
    client.batch_execute(empty).await.unwrap();
    let library = root.join("lib/exactly-once-stores/schema.sql");
    for file in [library, project.join("schema.sql")] {
        let schema = std::fs::read_to_string(file).unwrap();
        client.batch_execute(&schema).await.unwrap();
    }

    let send = || {
        let asked = service.post("/api/v1/rooms").json(&json!({"name": "Ada", "quantity": 2}));
        asked.field("idempotency-key", "k")
    };
    let first = send().created().await;
    assert!(first.json()["roomId"].is_string(), "{first:?}");
    assert_eq!(send().replayed().await.body, first.body);
    let count = client.query_one("SELECT count(*) FROM rooms", &[]).await.unwrap();
    assert_eq!(count.get::<_, i64>(0), 1);
}
