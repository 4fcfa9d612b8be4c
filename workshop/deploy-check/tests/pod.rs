//! The pod, as far as it runs without a cluster: the manifest's command line, environment, user and mounts in
//! a mount namespace, with the runner in Spin's place, ended as the kubelet ends it while requests are in
//! flight.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that fails panics, in its helpers, too"
)]

use std::collections::HashMap;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use deploy_check::tools::Tools;
use devstack::{Postgres, Programs, Redis, process, workspace};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde_json::Value;
use tokio::time::sleep;

/// The kubelet's part of the sleep in preStop. How long it must be in a cluster is a policy of the check;
/// here the longest request takes far less.
const PRE_STOP: Duration = Duration::from_secs(4);
/// How long requests go on arriving at a pod that is ending, until the Service's change has got around.
const PROPAGATION: Duration = Duration::from_secs(1);
const CLIENTS: usize = 16;

/// Makes the root that the container would have, read-only, and becomes the container's command in it.
/// Arguments: the root, the folder of the image's programs, the application's folder, the runner, the user,
/// and the command. Programs and libraries are the machine's own, bound read-only.
const ENTER: &str = r#"
set -eu
root=$1 programs=$2 application=$3 runner=$4 user=$5
shift 5
mount -t tmpfs tmpfs "$root"
mkdir -p "$root/usr" "$root/etc" "$root/app" "$root/proc" "$root/dev" "$root/tmp"
mount --rbind /usr "$root/usr"
mount -o remount,bind,ro "$root/usr"
for name in bin sbin lib lib32 lib64; do
    if [ -L "/$name" ]; then
        ln -s "$(readlink "/$name")" "$root/$name"
    elif [ -d "/$name" ]; then
        mkdir "$root/$name"
        mount --bind "/$name" "$root/$name"
        mount -o remount,bind,ro "$root/$name"
    fi
done
mount --bind "$runner" "$programs/runner"
mount --rbind "$programs" "$root/usr/local/bin"
mount -o remount,bind,ro "$root/usr/local/bin"
mount --bind "$application" "$root/app"
mount -o remount,bind,ro "$root/app"
mount --rbind /proc "$root/proc"
mount --rbind /dev "$root/dev"
mount -t tmpfs -o mode=1777,size=64m tmpfs "$root/tmp"
mount -o remount,ro "$root"
exec chroot "$root" /usr/bin/setpriv --reuid "$user" --regid "$user" --clear-groups --no-new-privs \
    --bounding-set=-all --inh-caps=-all -- "$@"
"#;

/// What stands in Spin's place: takes Spin's command line, and ends at SIGTERM as Spin does, at once and
/// in the middle of requests. (The runner by itself would finish them.)
const SPIN: &str = r#"#!/bin/sh
[ "$1" = up ] || exit 64
shift
/usr/local/bin/runner --cache-dir /tmp/runner-cache "$@" &
child=$!
trap 'kill -KILL "$child"; exit 143' TERM
wait "$child"
"#;

/// The pod's container, as the laptop overlay has it; the production overlays differ in variables only.
fn container() -> Value {
    let tools = Tools::find_or_install(true).unwrap();
    let overlay = deploy_check::laptop(workspace::root(), &tools).unwrap();
    overlay
        .of_kind("Deployment")
        .find(|object| object.name() == "orders")
        .map(|object| object.value["spec"]["template"]["spec"].clone())
        .unwrap()
}

/// Why the test cannot run here, if it cannot.
fn missing() -> Option<String> {
    let probe = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-c"])
        .arg("mount -t tmpfs tmpfs /tmp && /usr/bin/setpriv --reuid 65532 --clear-groups true")
        .output();
    match probe {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        Err(error) => Some(format!("unshare: {error}")),
    }
}

struct Pod {
    child: Child,
    address: SocketAddr,
    log: PathBuf,
}

impl Pod {
    /// Starts what the kubelet would, with other values for some variables.
    fn start(spec: &Value, folder: &Path, set: &[(&str, String)]) -> Self {
        let root = workspace::root();
        let port = process::free_port().unwrap();
        let address = process::local(port);
        let folder = folder.join(port.to_string());
        let programs = folder.join("programs");
        let application = folder.join("app");
        let folder_of_wasm = "target/wasm32-wasip2/release";
        std::fs::create_dir_all(folder.join("root")).unwrap();
        std::fs::create_dir_all(&programs).unwrap();
        std::fs::create_dir_all(application.join(folder_of_wasm)).unwrap();
        std::fs::copy(root.join("spin.toml"), application.join("spin.toml")).unwrap();
        for wasm in ["orders.wasm", "console.wasm"] {
            let wasm = Path::new(folder_of_wasm).join(wasm);
            std::fs::copy(root.join(&wasm), application.join(&wasm))
                .expect("the components are built; run this with `cargo xtask test`");
        }
        std::fs::copy(root.join("deploy/image/entrypoint.sh"), programs.join("entrypoint.sh")).unwrap();
        std::fs::write(programs.join("spin"), SPIN).unwrap();
        std::fs::write(programs.join("runner"), "").unwrap();
        for program in ["entrypoint.sh", "spin", "runner"] {
            let mode = std::fs::Permissions::from_mode(0o755);
            std::fs::set_permissions(programs.join(program), mode).unwrap();
        }

        let container = &spec["containers"][0];
        let user = spec["securityContext"]["runAsUser"].to_string();
        let args = container["args"].as_array().unwrap();
        let log = folder.join("log");
        let output = std::fs::File::create(&log).unwrap();
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "--propagation", "private", "sh", "-c", ENTER, "enter"])
            .args([
                &folder.join("root"),
                &programs,
                &application,
                &workspace::tool("runner"),
            ])
            .arg(user)
            // The image's entrypoint, and the manifest's arguments.
            .arg("/usr/local/bin/entrypoint.sh")
            .args(args.iter().map(|arg| arg.as_str().unwrap()))
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .process_group(0);
        for env in container["env"].as_array().unwrap() {
            let name = env["name"].as_str().unwrap();
            // Those from Secrets come with `set`.
            if let Some(value) = env["value"].as_str() {
                command.env(name, value);
            }
        }
        command.env("SPIN_HTTP_LISTEN_ADDR", address.to_string());
        for (name, value) in set {
            command.env(name, value);
        }
        let child = command.spawn().unwrap();
        Self { child, address, log }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// What a probe of the manifest's gets; `None` if there is no answer.
    async fn probe(&self, spec: &Value, name: &str) -> Option<u16> {
        let path = spec["containers"][0][name]["httpGet"]["path"].as_str().unwrap();
        let answer = reqwest::get(format!("http://{}{path}", self.address)).await;
        Some(answer.ok()?.status().as_u16())
    }

    async fn wait_until_ready(&mut self, spec: &Value) {
        let deadline = Instant::now() + Duration::from_secs(120);
        while self.probe(spec, "readinessProbe").await != Some(200) {
            let ended = self.child.try_wait().unwrap();
            assert!(
                ended.is_none() && Instant::now() < deadline,
                "not ready: {}",
                self.log()
            );
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// The programs of the container: the one that gets signals, and those that it started.
    fn processes(&self) -> Vec<u32> {
        let children = format!("/proc/{0}/task/{0}/children", self.child.id());
        let children = std::fs::read_to_string(children).unwrap();
        let children = children.split_whitespace().map(|pid| pid.parse().unwrap());
        std::iter::once(self.child.id()).chain(children).collect()
    }

    fn terminate(&mut self) {
        let pid = Pid::from_raw(self.child.id().cast_signed());
        nix::sys::signal::kill(pid, Signal::SIGTERM).unwrap();
        assert_eq!(self.child.wait().unwrap().code(), Some(143), "{}", self.log());
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        // The group: what the container's first process has started, too.
        let _ = killpg(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGKILL);
        let _ = self.child.wait();
    }
}

/// The stores, and what a pod is told of them.
struct Stores {
    folder: PathBuf,
    database_url: String,
    set: Vec<(&'static str, String)>,
    _redis: Redis,
    postgres: Option<Postgres>,
}

impl Stores {
    async fn start(name: &str) -> Self {
        let folder = workspace::stack_folder().join(format!("pod-{name}-{}", std::process::id()));
        let programs = Programs::find_or_install(false).unwrap();
        let redis = Redis::start(&programs, &folder.join("redis")).unwrap();
        let postgres = Postgres::start(&programs, &folder.join("postgres")).unwrap();
        let database_url = postgres.url("postgres");
        let migrated = Command::new(workspace::tool("migrator"))
            .env("DATABASE_URL", &database_url)
            .status();
        assert!(migrated.unwrap().success());
        Self {
            set: vec![
                ("SPIN_VARIABLE_REDIS_URL", redis.url()),
                ("SPIN_VARIABLE_DATABASE_URL", database_url.clone()),
                ("SPIN_VARIABLE_REDIS_ALLOWED_HOST", "redis://127.0.0.1:*".into()),
                ("SPIN_VARIABLE_DATABASE_ALLOWED_HOST", "postgres://127.0.0.1:*".into()),
            ],
            folder,
            database_url,
            _redis: redis,
            postgres: Some(postgres),
        }
    }
}

impl Drop for Stores {
    fn drop(&mut self) {
        self.postgres = None;
        // A failed test's logs are worth more than a tidy folder.
        if !std::thread::panicking() {
            let _ = Postgres::remove(&self.folder.join("postgres"));
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }
}

/// Clients that order with a new key each time, and repeat a request until it is answered.
struct Clients {
    /// Where the Service sends requests.
    endpoint: Mutex<SocketAddr>,
    /// Order ids by key, as acknowledged.
    acknowledged: Mutex<HashMap<String, String>>,
    /// Requests that ended without an answer, after they had been sent.
    cut: AtomicUsize,
    /// Requests that could not be sent.
    refused: AtomicUsize,
    is_over: AtomicBool,
}

impl Clients {
    fn new(endpoint: SocketAddr) -> Arc<Self> {
        Arc::new(Self {
            endpoint: Mutex::new(endpoint),
            acknowledged: Mutex::default(),
            cut: AtomicUsize::new(0),
            refused: AtomicUsize::new(0),
            is_over: AtomicBool::new(false),
        })
    }

    fn send_to(&self, address: SocketAddr) {
        *self.endpoint.lock().unwrap() = address;
    }

    /// How many requests were cut, and how many refused.
    fn failures(&self) -> (usize, usize) {
        (self.cut.load(Ordering::SeqCst), self.refused.load(Ordering::SeqCst))
    }

    fn count(&self) -> usize {
        self.acknowledged.lock().unwrap().len()
    }

    async fn run(self: Arc<Self>, client: usize) {
        // A connection each, so that none outlives the change of the Service.
        let http = reqwest::Client::builder()
            .pool_max_idle_per_host(0)
            .timeout(Duration::from_secs(30))
            .build()
            .unwrap();
        for n in 0.. {
            if self.is_over.load(Ordering::SeqCst) {
                return;
            }
            let key = format!("{client}-{n}");
            loop {
                let address = *self.endpoint.lock().unwrap();
                let answer = http
                    .post(format!("http://{address}/api/v1/orders"))
                    .header("content-type", "application/json")
                    .header("idempotency-key", &key)
                    .body(r#"{"currency": "EUR", "items": [{"sku": "A-1", "quantity": 2, "unitPrice": 1250}]}"#)
                    .send()
                    .await;
                let is_refused = answer.as_ref().is_err_and(reqwest::Error::is_connect);
                let body = match answer {
                    Ok(answer) if answer.status() == 201 => answer.bytes().await.ok(),
                    Ok(answer) if answer.status() == 503 => continue,
                    Ok(answer) => panic!("{}", answer.status()),
                    Err(_) => None,
                };
                if let Some(body) = body {
                    let order: Value = serde_json::from_slice(&body).unwrap();
                    let id = order["orderId"].as_str().unwrap().to_owned();
                    self.acknowledged.lock().unwrap().insert(key, id);
                    break;
                }
                let failures = if is_refused { &self.refused } else { &self.cut };
                failures.fetch_add(1, Ordering::SeqCst);
                sleep(Duration::from_millis(20)).await;
            }
        }
    }
}

/// What the database has: order ids by key, of all rows.
async fn stored(database_url: &str) -> Vec<(String, String)> {
    let (client, connection) = tokio_postgres::connect(database_url, tokio_postgres::NoTls)
        .await
        .unwrap();
    tokio::spawn(connection);
    let rows = client
        .query("SELECT idempotency_key, order_id::text FROM orders", &[])
        .await
        .unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_ends_after_pre_stop_cuts_no_request_and_no_order_is_lost() {
    if let Some(reason) = missing() {
        eprintln!("skipped: mount namespaces are needed, and there are none here: {reason}");
        return;
    }
    let spec = container();
    let stores = Stores::start("ends").await;
    let mut first = Pod::start(&spec, &stores.folder, &stores.set);
    first.wait_until_ready(&spec).await;
    assert_eq!(first.probe(&spec, "startupProbe").await, Some(200));
    assert_eq!(first.probe(&spec, "livenessProbe").await, Some(200));
    is_confined(&first);

    let clients = Clients::new(first.address);
    let tasks: Vec<_> = (0..CLIENTS).map(|n| tokio::spawn(clients.clone().run(n))).collect();
    let mut second = Pod::start(&spec, &stores.folder, &stores.set);
    second.wait_until_ready(&spec).await;

    // The rollout ends the first pod: preStop begins, and requests still come for a while.
    let before = clients.count();
    let pre_stop = Instant::now();
    sleep(PROPAGATION).await;
    clients.send_to(second.address);
    sleep(PRE_STOP.saturating_sub(pre_stop.elapsed())).await;
    first.terminate();
    sleep(Duration::from_millis(500)).await;
    assert!(clients.count() > before + CLIENTS, "{before}");
    assert_eq!(
        clients.failures(),
        (0, 0),
        "requests failed although preStop was waited for"
    );

    // Without preStop, requests are cut: this is what it is for. None of them is lost all the same.
    second.terminate();
    let mut third = Pod::start(&spec, &stores.folder, &stores.set);
    third.wait_until_ready(&spec).await;
    assert!(clients.failures().0 > 0, "SIGTERM cut nothing: nothing was in flight");
    let before = clients.count();
    clients.send_to(third.address);
    while clients.count() < before + CLIENTS {
        sleep(Duration::from_millis(10)).await;
    }
    clients.is_over.store(true, Ordering::SeqCst);
    for task in tasks {
        task.await.unwrap();
    }

    let acknowledged = clients.acknowledged.lock().unwrap().clone();
    let rows = stored(&stores.database_url).await;
    assert_eq!(rows.len(), acknowledged.len(), "an order too many, or one that is gone");
    assert_eq!(rows.into_iter().collect::<HashMap<_, _>>(), acknowledged);
    eprintln!(
        "{} orders; none was cut with preStop, {} requests without",
        acknowledged.len(),
        clients.failures().0
    );
}

/// Non-root, without capabilities, unable to gain any, on a read-only root, with the flags of the entrypoint.
fn is_confined(pod: &Pod) {
    let processes = pod.processes();
    assert_eq!(processes.len(), 2, "the entrypoint has replaced itself");
    for process in &processes {
        let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap().split_whitespace().next().unwrap().to_owned()
        };
        assert_eq!(field("Uid:"), "65532");
        assert_eq!(field("Gid:"), "65532");
        assert_eq!(field("CapEff:"), "0000000000000000");
        assert_eq!(field("CapBnd:"), "0000000000000000");
        assert_eq!(field("NoNewPrivs:"), "1");
        let mounts = std::fs::read_to_string(format!("/proc/{process}/mounts")).unwrap();
        for (folder, options) in [("/", "ro"), ("/usr", "ro"), ("/app", "ro"), ("/tmp", "rw")] {
            let mount = mounts.lines().rfind(|line| line.split(' ').nth(1) == Some(folder));
            let mount = mount.unwrap_or_else(|| panic!("{folder} is no mount:\n{mounts}"));
            assert_eq!(
                mount.split(' ').nth(3).unwrap().split(',').next(),
                Some(options),
                "{mount}"
            );
        }
    }
    let command = std::fs::read_to_string(format!("/proc/{}/cmdline", processes[1])).unwrap();
    let command = command.replace('\0', " ");
    for flags in [
        "--from /app/spin.toml",
        "--max-instance-reuse-count 128",
        "--max-instance-concurrent-reuse-count 16",
        "--idle-instance-timeout 1s",
    ] {
        assert!(command.contains(flags), "{command}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_variable_stops_the_pod_at_its_readiness_probe_and_is_named_in_the_log() {
    if let Some(reason) = missing() {
        eprintln!("skipped: mount namespaces are needed, and there are none here: {reason}");
        return;
    }
    let spec = container();
    let stores = Stores::start("variable").await;
    let contradictory = [stores.set.clone(), vec![("SPIN_VARIABLE_IDENTITY", "jwt".into())]].concat();
    let missing: Vec<_> = stores
        .set
        .iter()
        .filter(|(name, _)| *name != "SPIN_VARIABLE_REDIS_URL")
        .cloned()
        .collect();
    for (set, named) in [(contradictory, "jwt_keys"), (missing, "redis_url")] {
        let mut pod = Pod::start(&spec, &stores.folder, &set);
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let status = pod.probe(&spec, "readinessProbe").await;
            assert_ne!(status, Some(200), "ready, without {named}");
            // Spin and the runner differ in whether they start without a required variable.
            if status == Some(500) || pod.child.try_wait().unwrap().is_some() {
                break;
            }
            assert!(Instant::now() < deadline, "{}", pod.log());
            sleep(Duration::from_millis(50)).await;
        }
        let log = pod.log();
        assert!(log.to_lowercase().contains(named), "{named} is not named: {log}");
    }
}
