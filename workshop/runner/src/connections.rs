//! What components hold of the stores: connections to Redis, connections to Postgres and the pools they come
//! from. TLS is configured here.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use deadpool_postgres::{Manager, ManagerConfig, Object, Pool, RecyclingMethod};
use redis::aio::MultiplexedConnection;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio_postgres::config::SslMode;
use tokio_postgres::{Config, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

/// Spin's limit of connections per address.
const POOL_SIZE: usize = 64;

/// A connection to Redis. It is never reconnected.
pub struct RedisConnection(pub MultiplexedConnection);

/// A connection from a Postgres pool. It goes back when the last handle is dropped.
#[derive(Clone)]
pub struct PostgresConnection(pub Arc<Object>, pub Statements);

/// How statements are sent. Spin prepares each anew; the other ways are here to measure what Spin would gain by them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Statements {
    /// Prepared for one execution, as in Spin: two round trips, and a message that closes it.
    #[default]
    PreparedAnew,
    /// With the types of its parameters, so that nothing has to be asked first: one round trip.
    Typed,
    /// Prepared once per connection, and kept: one round trip, and no parsing.
    PreparedOnce,
}

/// What a connection to Postgres is built from.
#[derive(Clone)]
pub struct PostgresConnectionBuilder {
    /// The database's URL.
    pub address: String,
    /// A certificate in PEM that is trusted in addition to the system's.
    pub ca_root: Option<String>,
}

/// One component's Postgres pools, by address and additional root certificate.
pub struct PostgresPools {
    pools: Mutex<HashMap<(String, Option<String>), Pool>>,
    statements: Statements,
}

impl PostgresPools {
    /// Pools without connections.
    pub fn new(statements: Statements) -> Self {
        Self { pools: Mutex::default(), statements }
    }

    /// Takes a connection from the pool of an address. `config` is the address, parsed.
    pub async fn connect(&self, builder: PostgresConnectionBuilder, config: Config) -> Result<PostgresConnection> {
        let connection = self.pool(builder, config)?.get().await?;
        Ok(PostgresConnection(Arc::new(connection), self.statements))
    }

    fn pool(&self, builder: PostgresConnectionBuilder, config: Config) -> Result<Pool> {
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (builder.address, builder.ca_root);
        if let Some(pool) = pools.get(&key) {
            return Ok(pool.clone());
        }
        let settings = ManagerConfig { recycling_method: RecyclingMethod::Clean };
        let manager = if config.get_ssl_mode() == SslMode::Disable {
            Manager::from_config(config, NoTls, settings)
        } else {
            let tls = MakeRustlsConnect::new(tls_config(key.1.as_deref())?);
            Manager::from_config(config, tls, settings)
        };
        let pool = Pool::builder(manager).max_size(POOL_SIZE).build()?;
        pools.insert(key, pool.clone());
        Ok(pool)
    }
}

/// Verifies certificate chain and host name with the system's root certificates, or with those in the file
/// SSL_CERT_FILE, and with `ca_root`.
fn tls_config(ca_root: Option<&str>) -> Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    let system = rustls_native_certs::load_native_certs();
    for error in system.errors {
        // Not fatal: with sslmode=prefer, a server without TLS needs no root certificates.
        eprintln!("runner: reading root certificates: {error}");
    }
    roots.add_parsable_certificates(system.certs);
    if let Some(pem) = ca_root {
        roots.add(root_certificate(pem)?)?;
    }
    Ok(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth())
}

/// Reads a certificate in PEM.
pub fn root_certificate(pem: &str) -> Result<CertificateDer<'static>> {
    CertificateDer::from_pem_slice(pem.as_bytes()).context("invalid root certificate")
}
