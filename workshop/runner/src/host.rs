//! A compiled component and its instances: engine, linker, and the state of each instance.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use wasmtime::component::{HasData, Linker, ResourceTable};
use wasmtime::error::{Context, Result, bail};
use wasmtime::{Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, Store};
use wasmtime_wasi::p3::bindings::clocks::monotonic_clock;
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};
use wasmtime_wasi_http::p3::bindings::ServicePre;
use wasmtime_wasi_http::{RequestOptions, WasiBody, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks, WasiHttpView};

use crate::connections::{PostgresPools, Statements};
use crate::host_calls::{Calling, Interface};
use crate::outbound::AllowedHosts;
use crate::sqlite::Location;
use crate::{bindings, compiled, guest_time, host_calls};

/// How often a running guest yields to the executor, so that time-outs end it even in a busy loop.
const EPOCH: Duration = Duration::from_millis(10);

const MIB: usize = 1 << 20;

/// Names this host's implementations of Spin's interfaces.
pub struct Spin;

impl HasData for Spin {
    type Data<'a> = &'a mut HostState;
}

/// The host's state for one instance.
pub struct HostState {
    /// Resources that the instance holds.
    pub table: ResourceTable,
    /// What the instance may connect to.
    pub allowed_hosts: Arc<AllowedHosts>,
    /// The component's variables.
    pub variables: Arc<BTreeMap<String, String>>,
    /// The component's Postgres pools.
    pub pools: Arc<PostgresPools>,
    /// The names of the SQLite databases that the component may open.
    pub databases: Arc<[String]>,
    /// Where the application's SQLite database is.
    pub database: Location,
    /// The call that the instance is in.
    pub calling: Calling,
    wasi: WasiCtx,
    http: WasiHttpCtx,
    hooks: OwnApplication,
}

impl HostState {
    /// The state for a call of this interface.
    fn call_of(&mut self, interface: Interface) -> &mut Self {
        self.calling.is_of(interface);
        self
    }
}

impl WasiView for HostState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        self.calling.is_of(Interface::Wasi);
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for HostState {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        self.calling.is_of(Interface::Http);
        WasiHttpCtxView { ctx: &mut self.http, table: &mut self.table, hooks: &mut self.hooks }
    }
}

/// Sends requests to the application itself, `http://self.alt/...`, where the component may send them. Other outbound
/// HTTP is rejected: no component of this project makes any.
struct OwnApplication {
    is_allowed: bool,
    address: Arc<OnceLock<SocketAddr>>,
}

type Transfer = Box<dyn Future<Output = Result<(), wasmtime_wasi_http::Error>> + Send>;

impl WasiHttpHooks for OwnApplication {
    fn send_request(
        &mut self,
        request: http::Request<WasiBody>,
        _: Option<RequestOptions>,
        _: Transfer,
    ) -> Box<dyn Future<Output = Result<(http::Response<WasiBody>, Transfer), wasmtime_wasi_http::Error>> + Send> {
        let is_own = request.uri().host() == Some("self.alt");
        match self.address.get() {
            Some(address) if is_own && self.is_allowed => Box::new(send(request, *address)),
            _ if is_own => Box::new(async { Err(wasmtime_wasi_http::Error::HttpRequestDenied) }),
            _ => {
                eprintln!("runner: outbound HTTP is not supported here; use Spin for it");
                Box::new(async { Err(wasmtime_wasi_http::Error::HttpRequestDenied) })
            }
        }
    }
}

/// Sends a request to an address of this process, over a connection of its own.
async fn send(
    mut request: http::Request<WasiBody>,
    address: SocketAddr,
) -> Result<(http::Response<WasiBody>, Transfer), wasmtime_wasi_http::Error> {
    use wasmtime_wasi_http::Error;

    let stream = TcpStream::connect(address).await.map_err(Error::Connect)?;
    stream.set_nodelay(true).map_err(Error::Connect)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // Ends with the response, or with the connection.
    tokio::spawn(connection);
    let path = request.uri().path_and_query().cloned();
    *request.uri_mut() = path.map(http::Uri::from).unwrap_or_default();
    let response = sender.send_request(request).await?;
    let done: Transfer = Box::new(async { Ok(()) });
    let response = response.map(|body| body.map_err(Error::from).boxed_unsync());
    Ok((response, done))
}

/// Makes the engine that all components share, and starts the thread that advances its epoch. As in Spin, the limits of
/// memories, tables and stacks follow from that of instances.
pub fn engine(max_instances: u32) -> Result<Engine> {
    let mut pooling = PoolingAllocationConfig::default();
    pooling
        .total_component_instances(max_instances)
        .total_memories(max_instances)
        .total_tables(2 * max_instances)
        .total_stacks(max_instances)
        .total_core_instances(4 * max_instances)
        .table_elements(100_000)
        .max_component_instance_size(10 * MIB)
        .max_core_instance_size(10 * MIB)
        .max_tables_per_module(2)
        .max_memories_per_module(2)
        .linear_memory_keep_resident(2 * MIB)
        .table_keep_resident(MIB / 2);
    let mut config = Config::new();
    config
        .wasm_component_model(true)
        .wasm_component_model_async(true)
        .epoch_interruption(true)
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pooling));
    let engine = Engine::new(&config)?;
    let ticking = engine.weak();
    std::thread::spawn(move || {
        while let Some(engine) = ticking.upgrade() {
            engine.increment_epoch();
            drop(engine);
            std::thread::sleep(EPOCH);
        }
    });
    Ok(engine)
}

/// What is measured of instances at each call of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measured {
    /// Nothing.
    Nothing,
    /// How many calls there are.
    Calls,
    /// The time in their own code.
    GuestTime,
}

/// A compiled component and what its instances share.
pub struct Guest {
    pre: ServicePre<HostState>,
    environment: BTreeMap<String, String>,
    allowed_hosts: Arc<AllowedHosts>,
    variables: Arc<BTreeMap<String, String>>,
    pools: Arc<PostgresPools>,
    databases: Arc<[String]>,
    database: Location,
    own_address: Arc<OnceLock<SocketAddr>>,
    measured: Measured,
}

/// What a component may use of the host, besides its code.
pub struct Grants {
    /// Environment variables.
    pub environment: BTreeMap<String, String>,
    /// What it may connect to.
    pub allowed_hosts: AllowedHosts,
    /// Its variables.
    pub variables: Arc<BTreeMap<String, String>>,
    /// The names of the SQLite databases that it may open.
    pub databases: Vec<String>,
    /// Where the application's SQLite database is.
    pub database: Location,
    /// Where the application itself is, once it listens.
    pub own_address: Arc<OnceLock<SocketAddr>>,
    /// How its statements are sent to Postgres.
    pub statements: Statements,
}

impl Guest {
    /// Loads and links a component. `cache` is the folder for what is compiled.
    pub fn load(engine: &Engine, source: &Path, cache: &Path, grants: Grants, measured: Measured) -> Result<Self> {
        if !source.exists() {
            bail!("{} does not exist; build it with: cargo build --target wasm32-wasip2 --release", source.display());
        }
        let component =
            compiled::load(engine, source, cache).with_context(|| format!("loading {}", source.display()))?;
        let mut linker: Linker<HostState> = Linker::new(engine);
        wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
        wasmtime_wasi::p3::add_to_linker(&mut linker)?;
        wasmtime_wasi_http::p3::add_to_linker(&mut linker)?;
        bindings::spin::redis::redis::add_to_linker::<_, Spin>(&mut linker, |s| s.call_of(Interface::Redis))?;
        bindings::spin::postgres::postgres::add_to_linker::<_, Spin>(&mut linker, |s| s.call_of(Interface::Postgres))?;
        bindings::spin::sqlite::sqlite::add_to_linker::<_, Spin>(&mut linker, |s| s.call_of(Interface::Sqlite))?;
        bindings::spin::variables::variables::add_to_linker::<_, Spin>(&mut linker, |s| {
            s.call_of(Interface::Variables)
        })?;
        linker.allow_shadowing(true);
        monotonic_clock::add_to_linker::<_, Spin>(&mut linker, |s| s.call_of(Interface::Timer))?;
        let pre = linker.instantiate_pre(&component).with_context(|| {
            format!("{} imports something that this runner does not offer; use Spin for it", source.display())
        })?;
        let pre = ServicePre::new(pre).with_context(|| {
            format!(
                "{} does not export wasi:http/handler@0.3.0, the only kind that this runner serves",
                source.display()
            )
        })?;
        Ok(Self {
            pre,
            environment: grants.environment,
            allowed_hosts: Arc::new(grants.allowed_hosts),
            variables: grants.variables,
            pools: Arc::new(PostgresPools::new(grants.statements)),
            databases: grants.databases.into(),
            database: grants.database,
            own_address: grants.own_address,
            measured,
        })
    }

    /// A new instance in a store of its own.
    pub async fn instantiate(&self) -> Result<(Store<HostState>, wasmtime_wasi_http::p3::bindings::Service)> {
        let mut wasi = WasiCtxBuilder::new();
        wasi.inherit_stdout().inherit_stderr();
        for (name, value) in &self.environment {
            wasi.env(name, value);
        }
        let state = HostState {
            table: ResourceTable::new(),
            allowed_hosts: self.allowed_hosts.clone(),
            variables: self.variables.clone(),
            pools: self.pools.clone(),
            databases: self.databases.clone(),
            database: self.database.clone(),
            calling: Calling::default(),
            wasi: wasi.build(),
            http: WasiHttpCtx::new(),
            hooks: OwnApplication {
                is_allowed: self.allowed_hosts.allow_own_application(),
                address: self.own_address.clone(),
            },
        };
        let mut store = Store::new(self.pre.engine(), state);
        // Before instantiation: a store without a deadline traps at its first instruction.
        store.set_epoch_deadline(1);
        store.epoch_deadline_async_yield_and_update(1);
        match self.measured {
            Measured::Nothing => {}
            Measured::Calls => host_calls::follow(&mut store),
            Measured::GuestTime => guest_time::follow(&mut store),
        }
        let service = self.pre.instantiate_async(&mut store).await?;
        Ok((store, service))
    }
}
