//! Whatever a served application starts ends with it: when it is stopped, killed or dropped, and when the
//! process that serves it is killed itself.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that fails panics")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use devstack::app::Output;
use devstack::{App, Host, process};

/// Set for the process that `ends_with_a_parent_that_is_killed` starts and kills: its folder.
const PARENT_FOLDER: &str = "PROCESS_GROUPS_PARENT_FOLDER";

/// Like `spin up`, which serves from a child: the script starts one and waits. A `stubborn` child ignores
/// SIGTERM.
fn fake_spin(folder: &Path, stubborn: bool) -> Command {
    std::fs::create_dir_all(folder).unwrap();
    let child = if stubborn { "(trap '' TERM; exec sleep 1000)" } else { "sleep 1000" };
    let script =
        format!("#!/bin/sh\n{child} &\necho $! >{0}/child.new && mv {0}/child.new {0}/child\nwait\n", folder.display());
    let path = folder.join("spin");
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    let host = Host::Spin("4.1.0".to_owned());
    let mut command = host.command(Path::new("spin.toml"), process::local(1), &[]);
    let path = std::env::var("PATH").unwrap();
    command.env("PATH", format!("{}:{path}", folder.display()));
    command
}

/// Answers health checks on behalf of the fake.
fn healthy() -> SocketAddr {
    let listener = TcpListener::bind(process::local(0)).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        }
    });
    address
}

fn folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("process-groups-{}-{name}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// The state of a process as `ps` shows it, such as "S" or "T"; empty if it has ended.
fn state(process: u32) -> String {
    let output = Command::new("ps").args(["-o", "state=", "-p", &process.to_string()]).output().unwrap();
    let state = String::from_utf8(output.stdout).unwrap().trim().to_owned();
    // A zombie has ended; its parent has not asked how.
    if state.starts_with('Z') { String::new() } else { state }
}

/// Waits until the processes are in a state; fails after 20 s.
fn assert_state(processes: &[u32], expected: impl Fn(&str) -> bool, what: &str) {
    let deadline = Instant::now() + Duration::from_secs(20);
    for process in processes {
        while !expected(&state(*process)) {
            assert!(Instant::now() < deadline, "{process} is not {what}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Starts the fake and says which processes it is made of.
fn start(folder: &Path, stubborn: bool) -> (App, [u32; 2]) {
    let command = fake_spin(folder, stubborn);
    let app = App::run(command, healthy(), Output::File(folder.join("log"))).unwrap();
    let child = read_number(&folder.join("child"));
    let processes = [app.process_id(), child];
    assert_state(&processes, |s| !s.is_empty(), "alive");
    (app, processes)
}

fn read_number(path: &Path) -> u32 {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        if let Ok(text) = std::fs::read_to_string(path) {
            return text.trim().parse().unwrap();
        }
        assert!(Instant::now() < deadline, "no {}", path.display());
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn assert_gone(folder: &Path, processes: &[u32]) {
    assert_state(processes, str::is_empty, "gone");
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn ends_when_stopped() {
    for stubborn in [false, true] {
        let folder = folder(&format!("stop-{stubborn}"));
        let (mut app, processes) = start(&folder, stubborn);
        app.stop().unwrap();
        assert_gone(&folder, &processes);
    }
}

#[test]
fn ends_when_killed() {
    let folder = folder("kill");
    let (mut app, processes) = start(&folder, true);
    app.kill().unwrap();
    assert_gone(&folder, &processes);
}

#[test]
fn ends_when_dropped() {
    let folder = folder("drop");
    let (app, processes) = start(&folder, true);
    drop(app);
    assert_gone(&folder, &processes);
}

#[test]
fn ends_when_it_ended_by_itself() {
    let folder = folder("crash");
    let (mut app, processes) = start(&folder, true);
    Command::new("kill").args(["-KILL", &processes[0].to_string()]).status().unwrap();
    while app.exited().unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_gone(&folder, &processes);
}

#[test]
fn pauses_and_resumes_as_a_whole() {
    let folder = folder("pause");
    let (mut app, processes) = start(&folder, false);
    app.pause().unwrap();
    assert_state(&processes, |s| s.starts_with('T'), "paused");
    app.resume().unwrap();
    assert_state(&processes, |s| s.starts_with('S'), "resumed");
    drop(app);
    assert_gone(&folder, &processes);
}

#[test]
fn ends_with_a_parent_that_is_killed() {
    for paused in ["", "paused"] {
        let folder = folder(&format!("parent{paused}"));
        let mut parent = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "parent", "--ignored"])
            .env(PARENT_FOLDER, &folder)
            .env("PAUSED", paused)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let leader = read_number(&folder.join("leader"));
        let processes = [leader, read_number(&folder.join("child"))];
        assert_state(&processes, |s| !s.is_empty(), "alive");
        // SIGKILL: it can do nothing about its children any more.
        parent.kill().unwrap();
        parent.wait().unwrap();
        assert_gone(&folder, &processes);
    }
}

#[test]
#[ignore = "not a test: the process that ends_with_a_parent_that_is_killed kills"]
fn parent() {
    let folder = PathBuf::from(std::env::var_os(PARENT_FOLDER).unwrap());
    let (mut app, [leader, _]) = start(&folder, true);
    if std::env::var("PAUSED").unwrap() == "paused" {
        app.pause().unwrap();
    }
    std::fs::write(folder.join("leader.new"), leader.to_string()).unwrap();
    std::fs::rename(folder.join("leader.new"), folder.join("leader")).unwrap();
    std::thread::sleep(Duration::from_secs(1000));
}
