//! A TCP proxy between one host and one store. It can reset, stall and half-close all its connections, reject new
//! ones, and lead new ones to another server.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context, Result};
use devstack::process::{free_port, local};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

const BUFFER_BYTES: usize = 16 * 1024;

/// An end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum End {
    /// The host, which opened the connection.
    Host,
    /// The store.
    Store,
}

/// The commands for all connections. Each counter counts how often its command was given; a connection obeys when
/// a counter differs from its value at the connection's start.
#[derive(Clone, Copy, Debug)]
struct Commands {
    /// Where new connections lead.
    store: SocketAddr,
    refusing: bool,
    stalled: bool,
    cuts: u64,
    closes_to_host: u64,
    closes_to_store: u64,
}

/// A link to a store. It works as long as the runtime that it was opened on.
pub struct Link {
    port: u16,
    commands: watch::Sender<Commands>,
}

impl Link {
    /// Listens on a new port and forwards its connections to the store.
    pub async fn open(store: SocketAddr) -> Result<Self> {
        let port = free_port()?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.context("opening a proxy's port")?;
        let none = Commands { store, refusing: false, stalled: false, cuts: 0, closes_to_host: 0, closes_to_store: 0 };
        let (commands, received) = watch::channel(none);
        tokio::spawn(accept(listener, received));
        Ok(Self { port, commands })
    }

    /// The address to use instead of the store's.
    pub fn address(&self) -> SocketAddr {
        local(self.port)
    }

    /// Resets all open connections, and leads new ones to another server.
    pub fn lead_to(&self, store: SocketAddr) {
        self.lead_new_to(store);
        self.cut();
    }

    /// Leads new connections to another server.
    pub fn lead_new_to(&self, store: SocketAddr) {
        self.commands.send_modify(|commands| commands.store = store);
    }

    /// Resets all open connections.
    pub fn cut(&self) {
        self.commands.send_modify(|commands| commands.cuts += 1);
    }

    /// Begins or stops resetting new connections.
    pub fn refuse(&self, refusing: bool) {
        self.commands.send_modify(|commands| commands.refusing = refusing);
    }

    /// Begins or stops holding back all bytes in both directions. Connections are still accepted.
    pub fn stall(&self, stalled: bool) {
        self.commands.send_modify(|commands| commands.stalled = stalled);
    }

    /// Ends the stream towards one end of all open connections, and discards what the other end sends. The other
    /// direction continues.
    pub fn half_close(&self, towards: End) {
        self.commands.send_modify(|commands| match towards {
            End::Host => commands.closes_to_host += 1,
            End::Store => commands.closes_to_store += 1,
        });
    }
}

async fn accept(listener: TcpListener, commands: watch::Receiver<Commands>) {
    loop {
        let Ok((host, _)) = listener.accept().await else {
            // Probably no file descriptor is free; wait until connections are closed.
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            continue;
        };
        if commands.borrow().refusing {
            let _ = host.set_zero_linger();
            continue;
        }
        tokio::spawn(connection(host, commands.clone()));
    }
}

async fn connection(mut host: TcpStream, mut commands: watch::Receiver<Commands>) {
    let begin = *commands.borrow_and_update();
    let Ok(mut store) = TcpStream::connect(begin.store).await else {
        // The host's connection is already accepted: a reset is the closest to a rejection.
        let _ = host.set_zero_linger();
        return;
    };
    let _ = host.set_nodelay(true);
    let _ = store.set_nodelay(true);
    let cut = {
        let (from_host, to_host) = host.split();
        let (from_store, to_store) = store.split();
        let there = pass(from_host, to_store, commands.clone(), |commands| commands.closes_to_store);
        let back = pass(from_store, to_host, commands.clone(), |commands| commands.closes_to_host);
        tokio::select! {
            cut = commands.wait_for(|commands| commands.cuts != begin.cuts) => cut.is_ok(),
            _ = async { tokio::join!(there, back) } => false,
        }
    };
    if cut {
        let _ = host.set_zero_linger();
        let _ = store.set_zero_linger();
    }
}

/// Forwards one direction until it ends, or the counter of its half-closures changes.
async fn pass(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    mut commands: watch::Receiver<Commands>,
    closes: fn(&Commands) -> u64,
) {
    let (begin, mut closing) = (closes(&commands.borrow()), commands.clone());
    let mut buffer = vec![0; BUFFER_BYTES];
    let copy = async {
        while let Ok(read) = from.read(&mut buffer).await {
            // The end of the stream is held back as well.
            if commands.wait_for(|commands| !commands.stalled).await.is_err() || read == 0 {
                break;
            }
            if to.write_all(buffer.get(..read).unwrap_or_default()).await.is_err() {
                break;
            }
        }
    };
    tokio::select! {
        _ = closing.wait_for(|commands| closes(commands) != begin) => {}
        () = copy => {}
    }
    let _ = to.shutdown().await;
    // Unread bytes would reset the connection instead of half-closing it.
    while matches!(from.read(&mut buffer).await, Ok(1..)) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;
    use std::time::Duration;

    use tokio::time::timeout;

    const SOON: Duration = Duration::from_millis(100);

    /// A link to a server that echoes every byte, and a connection through the link.
    async fn echo() -> (Link, TcpStream) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let link = Link::open(listener.local_addr().unwrap()).await.unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut read, mut write) = stream.split();
                    tokio::io::copy(&mut read, &mut write).await
                });
            }
        });
        let stream = TcpStream::connect(link.address()).await.unwrap();
        (link, stream)
    }

    async fn echoed(stream: &mut TcpStream) -> io::Result<u8> {
        stream.write_u8(7).await?;
        timeout(SOON, stream.read_u8()).await?
    }

    async fn connect(link: &Link) -> TcpStream {
        TcpStream::connect(link.address()).await.unwrap()
    }

    #[tokio::test]
    async fn it_forwards_until_cut_refuses_new_connections_and_leads_them_elsewhere() {
        let (link, mut stream) = echo().await;
        assert_eq!(echoed(&mut stream).await.unwrap(), 7);
        link.cut();
        assert_eq!(stream.read_u8().await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        let mut stream = connect(&link).await;
        assert_eq!(echoed(&mut stream).await.unwrap(), 7);
        link.refuse(true);
        assert!(echoed(&mut connect(&link).await).await.is_err());
        assert_eq!(echoed(&mut stream).await.unwrap(), 7);
        link.refuse(false);
        let other = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        link.lead_to(other.local_addr().unwrap());
        assert_eq!(stream.read_u8().await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        let mut new = connect(&link).await;
        other.accept().await.unwrap().0.write_u8(9).await.unwrap();
        assert_eq!(new.read_u8().await.unwrap(), 9);
    }

    #[tokio::test]
    async fn stalled_bytes_arrive_later_and_a_half_closed_connection_ends_in_one_direction_only() {
        let (link, mut stream) = echo().await;
        link.stall(true);
        assert_eq!(echoed(&mut stream).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        link.stall(false);
        assert_eq!(stream.read_u8().await.unwrap(), 7);
        link.half_close(End::Host);
        assert_eq!(stream.read_u8().await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        stream.write_u8(7).await.unwrap();
        stream.write_u8(7).await.unwrap();
    }
}
