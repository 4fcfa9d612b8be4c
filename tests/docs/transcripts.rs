//! The transcripts of the pages, run as they are, but for the port; each response is the one that the page shows, but
//! for ids, tags and times.

use std::process::Command;

use devstack::scheduler::Puller;
use devstack::workspace;
use fixtures::{Numbered, Served};
use regex::Regex;

use crate::{blocks, read, served};

/// Where the pages say that the service is.
const SHOWN: &str = "http://127.0.0.1:3000";

/// Between the outputs of two commands.
const SEPARATOR: &str = "\n-- next command --\n";

#[tokio::test(flavor = "multi_thread")]
async fn the_readme_shows_what_happens() {
    run("README.md", &served("docs_readme").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_page_shows_what_happens() {
    run("docs/api.md", &served("docs_api").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_shop_shows_what_happens() {
    let tokens = [
        ("operator_token", "local"),
        ("events_token", "events-token-of-a-laptop-or-a-test"),
        ("signing_keys", devstack::examples::SIGNING_KEYS),
    ];
    let shop = Served::start_with("showcase/shop/spin.toml", "docs_shop", &tokens);
    let shop = shop.await.unwrap();
    let _puller = Puller::start(shop.address(), "local");
    run("showcase/shop/README.md", &shop);
}

fn run(page: &str, service: &Served) {
    let text = read(page);
    let transcripts = blocks(&text, "console");
    let transcripts = transcripts.iter().filter(|block| block.contains("curl"));
    let mut count = 0;
    let new = Regex::new(r"(?m)^(date|x-request-id): .*").unwrap();
    let form = |text: &str, numbered: &mut Numbered| numbered.form(&new.replace_all(text.trim(), "$1: <new>"));
    for transcript in transcripts {
        let steps = steps(transcript);
        let commands: Vec<String> =
            steps.iter().map(|(command, _)| command.replace(SHOWN, &service.base_url())).collect();
        let script = commands.join(&format!("\nprintf '{}'\n", SEPARATOR.replace('\n', "\\n")));
        let output = Command::new("bash").args(["-c", &script]).current_dir(workspace::root()).output().unwrap();
        let output = String::from_utf8(output.stdout).unwrap().replace("\r\n", "\n");
        let outputs: Vec<&str> = output.split(SEPARATOR).collect();
        assert_eq!(outputs.len(), steps.len(), "{output}");
        let (mut of_shown, mut of_output) = (Numbered::default(), Numbered::default());
        for ((command, shown), output) in steps.iter().zip(outputs) {
            let shown = form(shown, &mut of_shown);
            let output = form(output, &mut of_output);
            assert_eq!(shown, output, "{page}: {command}");
            count += usize::from(!output.is_empty());
        }
    }
    assert!(count > 1, "{page}");
}

/// The commands of a transcript, each with the output that it shows.
fn steps(transcript: &str) -> Vec<(String, String)> {
    let mut steps: Vec<(String, String)> = Vec::new();
    let mut continued = false;
    for line in transcript.lines() {
        if let Some(command) = line.strip_prefix("$ ") {
            steps.push((command.to_owned(), String::new()));
        } else if continued {
            let (command, _) = steps.last_mut().unwrap();
            command.push_str(&format!("\n{line}"));
        } else if let Some((_, output)) = steps.last_mut() {
            output.push_str(&format!("{line}\n"));
        }
        continued = line.ends_with('\\');
    }
    steps
}
