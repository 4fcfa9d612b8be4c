//! The template `exactly-once`, expanded, built for Wasm, and served with and without servers: its resource is created
//! once.

mod expand;

use std::path::{Path, PathBuf};

use devstack::{or_skip, workspace};
use expand::{expand, render};
use fixtures::{Served, connect};
use openapi_check::tools::{lint, node_tools};
use serde_json::json;

use crate::assert_passes;

fn template() -> PathBuf {
    workspace::root().join("templates/exactly-once")
}

fn cargo(project: &Path, arguments: &[&str]) {
    let mut command = workspace::cargo_command();
    command
        .args(arguments)
        .current_dir(project)
        // Dependencies are compiled once for all.
        .env("CARGO_TARGET_DIR", workspace::target());
    assert_passes(command);
}

/// Expands the template and builds the component, where spin.toml expects it.
fn project(folder: &Path, name: &str, file: &str) {
    expand(&template(), folder, name, &[("core-path", workspace::root().to_str().unwrap())]);
    if std::env::var_os("UPDATE_LOCK").is_some() {
        std::fs::copy(workspace::root().join("Cargo.lock"), folder.join("Cargo.lock")).unwrap();
    }
    cargo(folder, &["build", "--release", "--target", workspace::WASM_TARGET]);
    let wasm = Path::new(workspace::WASM_TARGET).join("release").join(file).with_extension("wasm");
    let place = folder.join("target").join(&wasm);
    std::fs::create_dir_all(place.parent().unwrap()).unwrap();
    std::fs::copy(workspace::target().join(&wasm), place).unwrap();
}

/// The component is built as the order handler is: with its versions and profiles.
fn assert_built_as_here(folder: &Path) {
    let content = template().join("content");
    let lock = |folder: &Path| std::fs::read_to_string(folder.join("Cargo.lock")).unwrap();
    if std::env::var_os("UPDATE_LOCK").is_some() {
        let shared = lock(folder).replace("name = \"gift-cards\"", "name = \"{{project-name}}\"");
        std::fs::write(content.join("Cargo.lock"), shared).unwrap();
    }
    let packages = |lock: &str| lock.lines().filter(|line| line.starts_with("version")).count();
    let outdated = "the template's Cargo.lock is not what it builds; UPDATE_LOCK=1 cargo xtask test template writes it";
    assert_eq!(packages(&lock(&content)), packages(&lock(folder)), "{outdated}");
    let profiles = |folder: &Path| {
        let text = std::fs::read_to_string(folder.join(".cargo/config.toml")).unwrap();
        let table = text.parse::<toml::Table>().unwrap();
        (table["profile"].clone(), table["target"].clone())
    };
    assert_eq!(profiles(&content), profiles(workspace::root()));
}

#[tokio::test]
async fn a_new_project_creates_its_resources_once() {
    let root = workspace::root();
    let folder = workspace::stack_folder().join("template-check/gift-cards");
    if folder.exists() {
        std::fs::remove_dir_all(&folder).unwrap();
    }
    project(&folder, "gift-cards", "gift_cards");
    cargo(&folder, &["test", "--quiet"]);
    assert_built_as_here(&folder);
    // As `spin add` does.
    project(&folder.join("refunds"), "refunds", "refunds");
    let manifest = folder.join("spin.toml");
    let text = std::fs::read_to_string(&manifest).unwrap() + &snippet("component.txt", "refunds", "refunds");
    std::fs::write(&manifest, text).unwrap();

    let start = async |name, variables| Served::start_with(manifest.to_str().unwrap(), name, variables).await.unwrap();
    let local = start("template_local", &[("redis_url", ""), ("database_url", "")]).await;
    assert_created_once(&local, "gift-cards", "giftCardId").await;
    assert_created_once(&local, "refunds", "refundId").await;
    if let Some(tools) = or_skip("the linter of descriptions", node_tools(false)) {
        let document = folder.join("openapi.json");
        std::fs::write(&document, local.get("/openapi.json").expect(200).await.body).unwrap();
        lint(&tools, &document).unwrap();
    }
    let page = local.get("/").expect(200).await;
    let missing = local.get("/api/v1/gift-cards/x").expect(404).await;
    let (_, help) = missing.the("link").rsplit_once('#').unwrap();
    let entry = format!("id=\"{}\"", help.split_once('>').unwrap().0);
    assert!(page.body.contains(&entry) && !page.body.contains("{problems}"), "{entry}: {page:?}");

    let service = start("template", &[("identity", "none")]).await;
    let client = connect(&service.database_url).await.unwrap();
    // The project's database has nothing of the orders.
    let empty = "DROP SCHEMA public CASCADE; CREATE SCHEMA public; DROP PUBLICATION orders_created";
    client.batch_execute(empty).await.unwrap();
    let library = root.join("lib/exactly-once-stores/schema.sql");
    for file in [library, folder.join("schema.sql")] {
        let schema = std::fs::read_to_string(file).unwrap();
        client.batch_execute(&schema).await.unwrap();
    }

    assert_created_once(&service, "gift-cards", "giftCardId").await;
    let count = client.query_one("SELECT count(*) FROM gift_cards", &[]).await.unwrap();
    assert_eq!(count.get::<_, i64>(0), 1);
}

/// With the paths that are below the collection's, which several resources need.
async fn assert_created_once(service: &Served, path: &str, member: &str) {
    let path = format!("/api/v1/{path}");
    let send = || service.post(&path).json(&json!({"name": "Ada", "quantity": 2})).field("idempotency-key", "k");
    let first = send().created().await;
    let id = first.json()[member].clone();
    assert!(id.is_string(), "{first:?}");
    assert_eq!(send().replayed().await.body, first.body);
    let key = service.get(&format!("{path}/idempotency-keys/k")).await;
    assert_eq!(key.json()[member], id, "{key:?}");
    service.get(&format!("{path}/readyz")).expect(200).await;
    service.get(&format!("{path}/openapi.json?x")).expect(200).await;
}

/// What `spin add` appends to a manifest.
fn snippet(file: &str, name: &str, folder: &str) -> String {
    let text = std::fs::read_to_string(template().join("metadata/snippets").join(file)).unwrap();
    render(&text, &[("project-name", name), ("output-path", folder), ("core-path", "..")])
}

#[test]
fn the_snippets_are_tables_of_a_manifest() {
    let table = |file| snippet(file, "gift-cards", "gift-cards").parse::<toml::Table>().unwrap();
    let component = &table("component.txt")["component"]["gift-cards"];
    let wasm = "gift-cards/target/wasm32-wasip2/release/gift_cards.wasm";
    assert_eq!(component["source"].as_str(), Some(wasm));
    let variables = table("variables.txt");
    for used in component["variables"].as_table().unwrap().keys() {
        assert!(variables.contains_key(used), "{used}");
    }
}
