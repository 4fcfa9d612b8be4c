//! A TCP proxy between one host and one store that can cut its connections, refuse new ones, stall them
//! and half-close them, at once and for all of them.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context, Result};
use devstack::process::{free_port, local};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

const BUFFER_BYTES: usize = 16 * 1024;

/// Which end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The host, which dialled.
    Host,
    /// The store, which was dialled.
    Store,
}

/// What connections are to do now. The counters say how often something was commanded: a connection is
/// meant if its own is older.
#[derive(Clone, Copy, Debug, Default)]
struct Orders {
    refusing: bool,
    stalled: bool,
    cuts: u64,
    closes_to_host: u64,
    closes_to_store: u64,
}

impl Orders {
    fn closes(&self, end: End) -> u64 {
        match end {
            End::Host => self.closes_to_host,
            End::Store => self.closes_to_store,
        }
    }
}

/// A link to a store. It lives as long as the runtime that it was opened on.
pub struct Link {
    port: u16,
    orders: watch::Sender<Orders>,
}

impl Link {
    /// Listens on a port of its own and passes on what comes there.
    pub async fn open(store: SocketAddr) -> Result<Self> {
        let port = free_port()?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
            .await
            .context("opening a proxy's port")?;
        let (orders, received) = watch::channel(Orders::default());
        tokio::spawn(accept(listener, store, received));
        Ok(Self { port, orders })
    }

    /// Where to dial instead of the store.
    pub fn address(&self) -> SocketAddr {
        local(self.port)
    }

    /// Resets all connections there are.
    pub fn cut(&self) {
        self.orders.send_modify(|orders| orders.cuts += 1);
    }

    /// Resets new connections at once, or no longer.
    pub fn refuse(&self, refusing: bool) {
        self.orders.send_modify(|orders| orders.refusing = refusing);
    }

    /// Takes connections and bytes and passes nothing on, either way, or passes it all on again.
    pub fn stall(&self, stalled: bool) {
        self.orders.send_modify(|orders| orders.stalled = stalled);
    }

    /// Tells one end of all connections there are that the other has nothing more to say, and swallows
    /// what it says nevertheless. The other direction goes on.
    pub fn half_close(&self, towards: End) {
        self.orders.send_modify(|orders| match towards {
            End::Host => orders.closes_to_host += 1,
            End::Store => orders.closes_to_store += 1,
        });
    }
}

async fn accept(listener: TcpListener, store: SocketAddr, orders: watch::Receiver<Orders>) {
    loop {
        let Ok((host, _)) = listener.accept().await else {
            // Out of file descriptors, most likely; others will be closed.
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            continue;
        };
        if orders.borrow().refusing {
            let _ = host.set_zero_linger();
            continue;
        }
        tokio::spawn(connection(host, store, orders.clone()));
    }
}

async fn connection(mut host: TcpStream, store: SocketAddr, mut orders: watch::Receiver<Orders>) {
    let begin = *orders.borrow_and_update();
    let Ok(mut store) = TcpStream::connect(store).await else {
        // The nearest thing to a refusal that is left once the host's connection was taken.
        let _ = host.set_zero_linger();
        return;
    };
    let _ = host.set_nodelay(true);
    let _ = store.set_nodelay(true);
    let cut = {
        let (from_host, to_host) = host.split();
        let (from_store, to_store) = store.split();
        let there = pass(from_host, to_store, orders.clone(), End::Store, begin);
        let back = pass(from_store, to_host, orders.clone(), End::Host, begin);
        tokio::select! {
            cut = orders.wait_for(|orders| orders.cuts != begin.cuts) => cut.is_ok(),
            _ = async { tokio::join!(there, back) } => false,
        }
    };
    if cut {
        let _ = host.set_zero_linger();
        let _ = store.set_zero_linger();
    }
}

/// Passes on one direction until it ends or is closed.
async fn pass(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    mut orders: watch::Receiver<Orders>,
    towards: End,
    begin: Orders,
) {
    let closed = |orders: &Orders| orders.closes(towards) != begin.closes(towards);
    let mut closing = orders.clone();
    tokio::select! {
        _ = closing.wait_for(closed) => {}
        _ = copy(&mut from, &mut to, &mut orders) => {}
    }
    let _ = to.shutdown().await;
    // Swallowed: an end that finds its words unread would be reset rather than half-closed.
    let mut rest = vec![0; BUFFER_BYTES];
    while matches!(from.read(&mut rest).await, Ok(1..)) {}
}

async fn copy(
    from: &mut ReadHalf<'_>,
    to: &mut WriteHalf<'_>,
    orders: &mut watch::Receiver<Orders>,
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let read = from.read(&mut buffer).await?;
        // An end that closes stalls as well: the other one must not hear of it either.
        if orders.wait_for(|orders| !orders.stalled).await.is_err() || read == 0 {
            return Ok(());
        }
        to.write_all(buffer.get(..read).unwrap_or_default()).await?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    use tokio::time::timeout;

    const SOON: Duration = Duration::from_millis(100);

    /// A link to a server that answers every byte with itself, and a connection through it.
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

    async fn ask(stream: &mut TcpStream) -> io::Result<u8> {
        stream.write_u8(7).await?;
        timeout(SOON, stream.read_u8()).await?
    }

    #[tokio::test]
    async fn it_passes_on_until_cut() {
        let (link, mut stream) = echo().await;
        assert_eq!(ask(&mut stream).await.unwrap(), 7);
        link.cut();
        let error = stream.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        let mut stream = TcpStream::connect(link.address()).await.unwrap();
        assert_eq!(ask(&mut stream).await.unwrap(), 7);
    }

    #[tokio::test]
    async fn it_refuses_new_connections_and_keeps_old_ones() {
        let (link, mut old) = echo().await;
        assert_eq!(ask(&mut old).await.unwrap(), 7);
        link.refuse(true);
        let mut new = TcpStream::connect(link.address()).await.unwrap();
        assert!(ask(&mut new).await.is_err());
        assert_eq!(ask(&mut old).await.unwrap(), 7);
        link.refuse(false);
        let mut new = TcpStream::connect(link.address()).await.unwrap();
        assert_eq!(ask(&mut new).await.unwrap(), 7);
    }

    #[tokio::test]
    async fn what_stalls_arrives_later() {
        let (link, mut stream) = echo().await;
        link.stall(true);
        let error = ask(&mut stream).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        link.stall(false);
        assert_eq!(stream.read_u8().await.unwrap(), 7);
    }

    #[tokio::test]
    async fn a_half_closed_connection_ends_one_way_only() {
        let (link, mut stream) = echo().await;
        assert_eq!(ask(&mut stream).await.unwrap(), 7);
        link.half_close(End::Host);
        assert_eq!(
            stream.read_u8().await.unwrap_err().kind(),
            io::ErrorKind::UnexpectedEof
        );
        stream.write_u8(7).await.unwrap();
        stream.write_u8(7).await.unwrap();
    }
}
