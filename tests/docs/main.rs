//! What the documentation shows is run: transcripts, programs of clients, and the Postman collection.

mod changing;
mod clients;
#[allow(dead_code, missing_docs, reason = "a program as docs/clients.md shows it")]
mod create_order;
mod figures;
mod postman;
mod transcripts;

use fixtures::Served;

/// The orders service, with one customer.
async fn served(name: &str) -> Served {
    Served::start_with("spin.toml", name, &[("identity", "none")]).await.unwrap()
}

/// A file of the checkout.
fn read(path: &str) -> String {
    std::fs::read_to_string(devstack::workspace::root().join(path)).unwrap()
}

/// The contents of a page's code blocks in a language.
fn blocks(page: &str, language: &str) -> Vec<String> {
    let start = format!("\n```{language}\n");
    let parts = page.split(&start).skip(1);
    parts.map(|part| part.split_once("\n```").unwrap().0.to_owned() + "\n").collect()
}
