//! The programs of docs/clients.md, each in front of a service that loses the first response and rejects the second
//! request: then there is one order, and the program prints it.

use std::net::SocketAddr;
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

/// A way to a service: the first request's response is lost, the second request is rejected. Returns its URL.
async fn bad_way(service: &Served) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let target = service.address();
    tokio::spawn(async move {
        for number in 0.. {
            forward(listener.accept().await.unwrap().0, target, number).await;
        }
    });
    url
}

/// Reads one request with a `Content-Length` from a connection of its own, and responds.
async fn forward(mut client: TcpStream, target: SocketAddr, number: u32) {
    let mut request = String::new();
    let is_whole = |request: &str| {
        let (head, body) = request.split_once("\r\n\r\n")?;
        let lines = head.lines().map(str::to_ascii_lowercase);
        let length = lines.filter_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).next();
        length.is_some_and(|length: usize| body.len() == length).then_some(())
    };
    while is_whole(&request).is_none() {
        let mut more = [0; 4096];
        let read = client.read(&mut more).await.unwrap();
        assert_ne!(read, 0, "{request}");
        request += str::from_utf8(&more[..read]).unwrap();
    }
    let mut answer = REFUSAL.to_vec();
    if number != 1 {
        let mut service = TcpStream::connect(target).await.unwrap();
        let closing = request.replacen("\r\n\r\n", "\r\nConnection: close\r\n\r\n", 1);
        service.write_all(closing.as_bytes()).await.unwrap();
        answer.clear();
        service.read_to_end(&mut answer).await.unwrap();
    }
    if number > 0 {
        client.write_all(&answer).await.unwrap();
    }
}

/// Demands that the service has exactly the order that a program has printed, and that the program has waited.
async fn assert_one_order(service: &Served, printed: &str, start: Instant) {
    let list = service.get("/api/v1/orders").await.json();
    let ids: Vec<_> = list["orders"].as_array().unwrap().iter().map(|order| &order["orderId"]).collect();
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
    let way = bad_way(&service).await;
    let folder = workspace::target().join("clients").join(&name);
    std::fs::create_dir_all(&folder).unwrap();
    let [text] = &blocks(&read("docs/clients.md"), language)[..] else {
        panic!("docs/clients.md has not one program in {language}");
    };
    std::fs::write(folder.join(file), text).unwrap();
    let mut command = Command::new(path);
    command.args(arguments).arg(file).current_dir(&folder).env("ORDERS_URL", &way);
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
    let way = bad_way(&service).await;
    let order = json!({"currency": "EUR", "items": [{"sku": "A-1", "quantity": 2, "unitPrice": 1250}]});
    let start = Instant::now();
    let created = create_order(&way, &order, "rust").await.unwrap();
    assert_one_order(&service, created["orderId"].as_str().unwrap(), start).await;
}
