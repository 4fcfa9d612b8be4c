//! Our own Postgres ends when it is told to, whoever is connected.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use devstack::process::local;
use devstack::{Postgres, Programs, Shared};

/// A connection that was turned away but has said nothing yet, as behind a stalled link, outlives even
/// SIGQUIT, for as long as Postgres waits for a client's first words: by default for a minute.
#[test]
fn silent_clients_do_not_keep_it_from_ending() {
    let folder = Shared::told().unwrap().folder.join("devstack-postgres");
    let programs = Programs::find_or_install(false).unwrap();
    let mut postgres = Postgres::start(&programs, &folder).unwrap();

    // Paused, so that all of them are at the door when it begins to end.
    postgres.pause().unwrap();
    let silent: Vec<TcpStream> = (0..50)
        .map(|_| TcpStream::connect(local(postgres.port())).unwrap())
        .collect();
    let asked = Instant::now();
    postgres.stop_immediately().unwrap();
    assert!(asked.elapsed() < Duration::from_secs(30));

    drop(silent);
    drop(postgres);
    Postgres::remove(&folder).unwrap();
}
