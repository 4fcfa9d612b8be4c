//! The template `exactly-once`, expanded, built for Wasm, and served: its resource is created once.

mod expand;

use std::path::{Path, PathBuf};

use devstack::workspace;
use expand::{expand, metadata};
use fixtures::Served;
use regex::Regex;

fn template() -> PathBuf {
    workspace::root().join("showcase/templates/exactly-once")
}

fn cargo(project: &Path, arguments: &[&str]) {
    let output = workspace::cargo_command()
        .args(arguments)
        // The checkout's profiles: with the project's own, dependencies would be compiled again, a minute of a run of
        // all tests.
        .arg("--config")
        .arg(workspace::root().join(".cargo/config.toml"))
        .current_dir(project)
        // Dependencies are compiled once for all.
        .env("CARGO_TARGET_DIR", workspace::target())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "cargo {arguments:?}:\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn every_default_matches_its_pattern() {
    for (name, parameter) in metadata(&template()).unwrap().parameters {
        if let Some(pattern) = parameter.pattern {
            let pattern = Regex::new(&pattern).unwrap();
            assert!(pattern.is_match(&parameter.default), "{name}");
        }
    }
}

#[tokio::test]
async fn a_new_project_creates_its_resource_once() {
    let root = workspace::root();
    let project = workspace::stack_folder().join("template-check/rooms");
    if project.exists() {
        std::fs::remove_dir_all(&project).unwrap();
    }
    let values = [("collection", "rooms"), ("resource", "room"), ("core-path", root.to_str().unwrap())];
    expand(&template(), &project, "my-rooms", &values).unwrap();
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
    let (client, connection) = tokio_postgres::connect(&service.database_url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    // The project's database has nothing of the orders.
    let empty = "DROP SCHEMA public CASCADE; CREATE SCHEMA public; DROP PUBLICATION orders_created";
    client.batch_execute(empty).await.unwrap();
    let library = root.join("lib/exactly-once-stores/schema.sql");
    for file in [library, project.join("schema.sql")] {
        let schema = std::fs::read_to_string(file).unwrap();
        client.batch_execute(&schema).await.unwrap();
    }

    let send = async || {
        let response = reqwest::Client::new()
            .post(format!("{}/api/v1/rooms", service.base_url()))
            .header("content-type", "application/json")
            .header("idempotency-key", "k")
            .body(r#"{"name": "Ada", "quantity": 2}"#)
            .send()
            .await
            .unwrap();
        let is_replayed = response.headers().contains_key("idempotent-replayed");
        (response.status().as_u16(), is_replayed, response.text().await.unwrap())
    };
    let (status, is_replayed, first) = send().await;
    assert_eq!((status, is_replayed), (201, false), "{first}");
    assert!(first.contains(r#""roomId":"#), "{first}");
    assert_eq!(send().await, (201, true, first));
    let count = client.query_one("SELECT count(*) FROM rooms", &[]).await.unwrap();
    assert_eq!(count.get::<_, i64>(0), 1);
}
