//! Stopping Postgres does not depend on its clients.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use devstack::process::local;
use devstack::{Postgres, Programs, workspace};

/// A connection that was refused but has sent no startup packet, as behind a stalled link, outlives even
/// SIGQUIT, for as long as Postgres waits for that packet: by default a minute.
#[test]
fn silent_clients_do_not_delay_the_stop() {
    let folder = workspace::stack_folder().join("postgres-of-the-test");
    let programs = Programs::find_or_install(false).unwrap();
    let mut postgres = Postgres::start(&programs, &folder).unwrap();

    // Paused, so that all of them are waiting to be accepted when the stop begins.
    postgres.pause().unwrap();
    let silent: Vec<TcpStream> = (0..50).map(|_| TcpStream::connect(local(postgres.port())).unwrap()).collect();
    let asked = Instant::now();
    postgres.stop_immediately().unwrap();
    assert!(asked.elapsed() < Duration::from_secs(30));

    drop(silent);
    drop(postgres);
    Postgres::remove(&folder).unwrap();
}
