//! From the feed to a topic: `deploy/events/feed_to_kafka.py` is killed again and again, and its broker is away at
//! times, while orders are created. A maintained consumer reads the topic.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use chaos::proxy::Link;
use devstack::or_skip;
use devstack::process::{Process, free_port, local};
use fixtures::kafka::{Broker, Kafka};
use fixtures::{Served, until};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::contract::assert_valid;
use crate::load::{Count, assert_in_order, create_all, insert};
use crate::service::{EVENTS, Last, Service, TOKEN};
use crate::stream::Database;

const PROGRAM: &str = "deploy/events/feed_to_kafka.py";
const TOPIC: &str = "orders.created";
const PARTITIONS: u32 = 3;
/// Of each client.
const TRANSACTIONS: u32 = 60;
/// How often the program is killed, at least.
const KILLS: u32 = 8;

fn pause(millis: std::ops::Range<u64>) -> tokio::time::Sleep {
    tokio::time::sleep(Duration::from_millis(rand::random_range(millis)))
}

/// The program, with its files in a folder.
fn program(kafka: &Kafka, feed: &str, broker: SocketAddr, folder: &Path) -> Command {
    let properties = folder.join("kafka.properties");
    let settings = "# The broker is away for moments only.\nreconnect.backoff.max.ms=200\n";
    std::fs::write(&properties, settings).unwrap();
    let mut command = kafka.python(PROGRAM);
    command
        .env("FEED_URL", feed)
        .env("EVENTS_TOKEN", TOKEN)
        .env("CURSOR_FILE", folder.join("cursor"))
        .env("KAFKA_BOOTSTRAP_SERVERS", broker.to_string())
        .env("KAFKA_TOPIC", TOPIC)
        .env("KAFKA_PROPERTIES", properties)
        .stdin(Stdio::null());
    command
}

/// A file that is written at its end.
pub fn log_file(path: &Path) -> std::fs::File {
    std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap()
}

/// A message, and the event in it.
struct Message {
    partition: Value,
    key: String,
    event: Value,
}

/// The topic's messages, after what holds for each.
fn messages(kafka: &Kafka, broker: SocketAddr) -> Vec<Message> {
    let lines = kafka.messages(broker, TOPIC).unwrap();
    let read = |line: &str| {
        let fields: Value = serde_json::from_str(line).unwrap();
        assert_eq!(fields["headers"]["content-type"], "application/cloudevents+json; charset=UTF-8");
        let event: Value = serde_json::from_str(fields["value"].as_str().unwrap()).unwrap();
        let key = fields["key"].as_str().unwrap().to_owned();
        assert_eq!(event["partitionkey"], key);
        Message { partition: fields["partition"].clone(), key, event }
    };
    lines.lines().map(read).collect()
}

fn id(event: &Value) -> &str {
    event["id"].as_str().unwrap()
}

/// How often each order is in the topic.
fn counts(messages: &[Message]) -> HashMap<&str, u32> {
    let mut counts = HashMap::new();
    for message in messages {
        *counts.entry(id(&message.event)).or_default() += 1;
    }
    counts
}

/// Lets the link to the broker fail in turns, for ever.
async fn fail(link: &Link) {
    loop {
        pause(400..900).await;
        link.refuse(true);
        link.cut();
        pause(300..900).await;
        link.refuse(false);
        pause(400..900).await;
        // An acknowledgement may be lost.
        link.cut();
        pause(400..900).await;
        link.stall(true);
        pause(300..900).await;
        link.stall(false);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_committed_order_is_in_the_topic_whatever_is_killed() {
    let test = "every_committed_order_is_in_the_topic_whatever_is_killed";
    let Some(kafka) = or_skip(test, Kafka::find_or_install(false)) else {
        return;
    };
    let service = Service::on(Database::plain(0).await).await;
    let folder = service.database.folder();
    let address = local(free_port().unwrap());
    let link = Link::open(address).await.unwrap();
    let broker_address = link.address();
    let _broker = Broker::start(&kafka, address, broker_address, &folder.join("broker.log")).unwrap();
    kafka.create_topic(broker_address, TOPIC, PARTITIONS).unwrap();
    let start = || {
        let output = log_file(&folder.join("program.log"));
        // Small pages, so that a kill meets one.
        let feed = format!("{}{EVENTS}?limit=10", service.served.base_url());
        let mut command = program(&kafka, &feed, broker_address, folder);
        command.stdout(output.try_clone().unwrap()).stderr(output);
        Process::start("the program", &mut command, Signal::SIGKILL).unwrap()
    };

    let creating = tokio::spawn(create_all(service.database.url(), TRANSACTIONS, Count::default()));
    let killing = async {
        let mut kills = 0;
        while kills < KILLS || !creating.is_finished() {
            let mut program = start();
            pause(300..1500).await;
            assert_eq!(program.exited().unwrap(), None, "see {}", folder.display());
            program.kill().unwrap();
            kills += 1;
        }
        kills
    };
    let kills = tokio::select! {
        kills = killing => kills,
        () = fail(&link) => unreachable!("it fails for ever"),
    };
    link.refuse(false);
    link.stall(false);
    let committed = creating.await.unwrap();
    let database = service.database.connect().await;
    let last = insert(&database, "marker").await;
    let mut reader = service.reader();
    reader.until(&Last::new(Some(last))).await;
    let feed: HashMap<&str, &Value> = reader.events.iter().map(|e| (id(e), e)).collect();
    assert!(committed.keys().all(|id| feed.contains_key(&**id)));

    let mut program = start();
    let mut topic = Vec::new();
    until("every order is in the topic", async || {
        topic = messages(&kafka, broker_address);
        let there = counts(&topic);
        feed.keys().all(|id| there.contains_key(id))
    })
    .await;
    let counted = counts(&topic);
    println!("{} orders, {} messages, {kills} kills", feed.len(), topic.len());
    assert_eq!(counted.len(), feed.len());
    let mut partitions: HashMap<&str, &Value> = HashMap::new();
    for message in &topic {
        assert_eq!(&message.event, feed[id(&message.event)]);
        let partition = partitions.entry(&message.key).or_insert(&message.partition);
        assert_eq!(*partition, &message.partition, "{}", message.key);
    }
    let used: HashSet<_> = partitions.values().collect();
    assert_eq!(used.len(), PARTITIONS as usize);
    assert_in_order(topic.iter().map(|message| (id(&message.event), &*message.key)), &committed);
    topic.iter().step_by(500).for_each(|message| assert_valid(&message.event));

    // The cursor is of another history now: everything once more.
    database.batch_execute("SELECT forget_records()").await.unwrap();
    until("it starts again", async || {
        let topic = messages(&kafka, broker_address);
        let there = counts(&topic);
        feed.keys().all(|id| there[id] > counted[id])
    })
    .await;
    program.kill().unwrap();
}

#[tokio::test]
async fn a_refused_reader_ends_and_stores_no_cursor() {
    let test = "a_refused_reader_ends_and_stores_no_cursor";
    let Some(kafka) = or_skip(test, Kafka::find_or_install(false)) else {
        return;
    };
    let variables = [("identity", "none"), ("events_token", "another-token-of-32-or-more-characters")];
    let served = Served::start_with("spin.toml", "kafka_refused", &variables).await.unwrap();
    let folder = std::env::temp_dir().join(format!("kafka-refused-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let feed = format!("{}{EVENTS}", served.base_url());
    let nobody = local(free_port().unwrap());
    let output = program(&kafka, &feed, nobody, &folder).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert_eq!(output.status.signal(), None);
    assert!(errors.contains(": 401 "), "{errors}");
    assert!(!folder.join("cursor").exists());
    std::fs::remove_dir_all(&folder).unwrap();
}
