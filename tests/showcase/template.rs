//! The template `exactly-once`, expanded, built for Wasm, and served with and without servers: its resource is created
//! once.

mod expand;

use std::path::{Path, PathBuf};

use devstack::workspace;
use expand::{expand, render};
use fixtures::{Served, connect};
use serde_json::json;

use crate::assert_passes;

fn template() -> PathBuf {
    workspace::root().join("templates/exactly-once")
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
    let project = workspace::stack_folder().join("template-check/gift-cards");
    if project.exists() {
        std::fs::remove_dir_all(&project).unwrap();
    }
    expand(&template(), &project, "gift-cards", &[("core-path", root.to_str().unwrap())]);
    // The versions that are tested here; a user's first build has the newest.
    std::fs::copy(root.join("Cargo.lock"), project.join("Cargo.lock")).unwrap();
    cargo(&project, &["test", "--quiet"]);
    cargo(&project, &["build", "--release", "--target", workspace::WASM_TARGET]);
    // spin.toml names the file where cargo puts it without CARGO_TARGET_DIR.
    let wasm = Path::new(workspace::WASM_TARGET).join("release/gift_cards.wasm");
    let place = project.join("target").join(&wasm);
    std::fs::create_dir_all(place.parent().unwrap()).unwrap();
    std::fs::copy(workspace::target().join(&wasm), place).unwrap();

    let manifest = project.join("spin.toml");
    let start = async |name, variables| Served::start_with(manifest.to_str().unwrap(), name, variables).await.unwrap();
    let local = start("template_local", &[("redis_url", ""), ("database_url", "")]).await;
    assert_created_once(&local).await;

    let service = start("template", &[("identity", "none")]).await;
    let client = connect(&service.database_url).await.unwrap();
    // The project's database has nothing of the orders.
    let empty = "DROP SCHEMA public CASCADE; CREATE SCHEMA public; DROP PUBLICATION orders_created";
    client.batch_execute(empty).await.unwrap();
    let library = root.join("lib/exactly-once-stores/schema.sql");
    for file in [library, project.join("schema.sql")] {
        let schema = std::fs::read_to_string(file).unwrap();
        client.batch_execute(&schema).await.unwrap();
    }

    assert_created_once(&service).await;
    let count = client.query_one("SELECT count(*) FROM gift_cards", &[]).await.unwrap();
    assert_eq!(count.get::<_, i64>(0), 1);
}

/// With the paths that `spin add` leaves to a second resource.
async fn assert_created_once(service: &Served) {
    let send = || {
        let asked = service.post("/api/v1/gift-cards").json(&json!({"name": "Ada", "quantity": 2}));
        asked.field("idempotency-key", "k")
    };
    let first = send().created().await;
    let id = first.json()["giftCardId"].clone();
    assert!(id.is_string(), "{first:?}");
    assert_eq!(send().replayed().await.body, first.body);
    let key = service.get("/api/v1/gift-cards/idempotency-keys/k").await;
    assert_eq!(key.json()["giftCardId"], id, "{key:?}");
    assert_eq!(service.get("/api/v1/gift-cards/readyz").await.status, 200);
}

/// What `spin add` appends to a manifest.
#[test]
fn the_snippets_are_tables_of_a_manifest() {
    let snippet = |name: &str| {
        let text = std::fs::read_to_string(template().join("metadata/snippets").join(name)).unwrap();
        let values = [("project-name", "gift-cards"), ("output-path", "gift-cards"), ("core-path", "..")];
        render(&text, &values).parse::<toml::Table>().unwrap()
    };
    let component = &snippet("component.txt")["component"]["gift-cards"];
    let wasm = "gift-cards/target/wasm32-wasip2/release/gift_cards.wasm";
    assert_eq!(component["source"].as_str(), Some(wasm));
    let variables = snippet("variables.txt");
    for used in component["variables"].as_table().unwrap().keys() {
        assert!(variables.contains_key(used), "{used}");
    }
}
