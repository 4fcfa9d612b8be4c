//! The programs of docs/clients.md, each in front of a service that loses the first response and rejects the second
//! request: then there is one order, and the program prints it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Context;
use devstack::{install, or_skip, workspace};
use fixtures::Served;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::create_order::create_order;
use crate::{blocks, read, served};

const REFUSAL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 2\r\nContent-Length: 0\r\n\
    Connection: close\r\n\r\n";

/// A way to a service for requests on connections of their own: the first one's answer is lost, the second request is
/// rejected.
struct BadWay {
    url: String,
    task: tokio::task::JoinHandle<()>,
}

impl BadWay {
    async fn to(service: &Served) -> Self {
        let target: SocketAddr = service.base_url()["http://".len()..].parse().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let task = tokio::spawn(async move {
            for number in 0.. {
                let (mut client, _) = listener.accept().await.unwrap();
                let request = request(&mut client).await;
                let answer = match number {
                    1 => REFUSAL.to_vec(),
                    _ => exchange(target, &request).await,
                };
                if number > 0 {
                    client.write_all(&answer).await.unwrap();
                }
                let _ = client.shutdown().await;
            }
        });
        Self { url, task }
    }
}

impl Drop for BadWay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Reads a request with a `Content-Length`, up to its end; with `Connection: close` for the service.
async fn request(client: &mut TcpStream) -> Vec<u8> {
    let mut read = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&read).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let mut fields = head.lines().filter_map(|line| line.split_once(": "));
            let length = fields.find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
            if length.is_some_and(|(_, length)| body.len() == length.parse::<usize>().unwrap()) {
                let keeps = |line: &&str| !line.to_ascii_lowercase().starts_with("connection:");
                let head: Vec<&str> = head.lines().filter(keeps).collect();
                return format!("{}\r\nConnection: close\r\n\r\n{body}", head.join("\r\n")).into();
            }
        }
        assert_ne!(client.read_buf(&mut read).await.unwrap(), 0, "{text}");
    }
}

async fn exchange(target: SocketAddr, request: &[u8]) -> Vec<u8> {
    let mut service = TcpStream::connect(target).await.unwrap();
    service.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    service.read_to_end(&mut answer).await.unwrap();
    answer
}

/// Demands that the service has exactly the order that a program has printed, and that the program has waited.
async fn assert_one_order(service: &Served, printed: &str, start: Instant) {
    let url = format!("{}/api/v1/orders", service.base_url());
    let list = reqwest::get(url).await.unwrap().text().await.unwrap();
    let list: serde_json::Value = serde_json::from_str(&list).unwrap();
    let orders = list["orders"].as_array().unwrap();
    let ids: Vec<&str> = orders.iter().filter_map(|order| order["orderId"].as_str()).collect();
    assert_eq!(ids, [printed.trim()]);
    assert!(start.elapsed() > Duration::from_secs(2), "Retry-After was not heeded");
}

/// Runs the program of a language with a command; `file` is its name.
async fn program(language: &str, program: &str, arguments: &[&str], file: &str) {
    let test = format!("the program in {language}");
    let path = install::on_path(program).with_context(|| format!("there is no {program}"));
    let Some(path) = or_skip(&test, path) else {
        return;
    };
    let name = format!("docs_client_{language}");
    let service = served(&name).await;
    let way = BadWay::to(&service).await;
    let folder: PathBuf = workspace::target().join("clients").join(&name);
    std::fs::create_dir_all(&folder).unwrap();
    let [text] = &blocks(&read("docs/clients.md"), language)[..] else {
        panic!("docs/clients.md has not one program in {language}");
    };
    std::fs::write(folder.join(file), text).unwrap();
    let mut command = Command::new(path);
    command.args(arguments).arg(file).current_dir(&folder).env("ORDERS_URL", &way.url);
    let start = Instant::now();
    let output = tokio::task::block_in_place(|| command.output()).unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    assert_one_order(&service, &String::from_utf8(output.stdout).unwrap(), start).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_program_in_javascript() {
    program("js", "node", &[], "create_order.mjs").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_program_in_python() {
    program("python", "python3", &[], "create_order.py").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_program_in_go() {
    program("go", "go", &["run"], "create_order.go").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_program_in_java() {
    program("java", "java", &[], "CreateOrder.java").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_function_in_rust() {
    let shown = &blocks(&read("docs/clients.md"), "rust")[..];
    assert_eq!(shown, [read("tests/docs/create_order.rs")]);
    let service = served("docs_client_rust").await;
    let way = BadWay::to(&service).await;
    let order = json!({"currency": "EUR", "items": [{"sku": "A-1", "quantity": 2, "unitPrice": 1250}]});
    let start = Instant::now();
    let created = create_order(&way.url, &order, "rust").await.unwrap();
    assert_one_order(&service, created["orderId"].as_str().unwrap(), start).await;
}
