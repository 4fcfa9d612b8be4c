//! Implements `spin:redis`. As in Spin, each `open` makes a new connection, a connection is never reconnected,
//! and nothing times out.

use redis::aio::MultiplexedConnection;
use redis::{AsyncCommands, ErrorKind, RedisError, Value};
use url::Url;
use wasmtime::component::{Accessor, Resource};

use crate::bindings::spin::redis::redis::{
    Error, Host, HostConnection, HostConnectionWithStore, Payload, RedisParameter, RedisResult,
};
use crate::calls;
use crate::connections::RedisConnection as Connection;
use crate::host::{HostState, Spin};

impl Host for HostState {}

impl HostConnection for HostState {
    async fn drop(&mut self, connection: Resource<Connection>) -> wasmtime::Result<()> {
        self.table.delete(connection)?;
        Ok(())
    }
}

/// A second handle for a command, so that the store is not held while it waits.
fn handle<T: Send>(
    accessor: &Accessor<T, Spin>,
    connection: &Resource<Connection>,
) -> Result<MultiplexedConnection, Error> {
    calls::REDIS_COMMANDS.count();
    accessor.with(|mut access| {
        let connection = access.get().table.get(connection).map_err(other)?;
        Ok(connection.0.clone())
    })
}

fn other(error: impl ToString) -> Error {
    Error::Other(error.to_string())
}

fn failed(error: RedisError) -> Error {
    other(error)
}

/// [`failed`] for the two commands whose type errors Spin reports as such.
fn failed_on_set(error: RedisError) -> Error {
    match error.kind() {
        ErrorKind::TypeError => Error::TypeError,
        _ => failed(error),
    }
}

impl<T: Send> HostConnectionWithStore<T> for Spin {
    async fn open(accessor: &Accessor<T, Self>, address: String) -> Result<Resource<Connection>, Error> {
        let allowed = accessor.with(|mut access| access.get().allowed_hosts.clone());
        let url = Url::parse(&address).map_err(|_| Error::InvalidAddress)?;
        let host = url.host_str().ok_or(Error::InvalidAddress)?;
        if !allowed.allow(url.scheme(), host, url.port()) {
            eprintln!("runner: connecting to {}://{host} is not in allowed_outbound_hosts", url.scheme());
            return Err(Error::InvalidAddress);
        }
        calls::REDIS_OPENED.count();
        let connection = redis::Client::open(address.as_str())
            .map_err(|_| Error::InvalidAddress)?
            .get_multiplexed_async_connection()
            .await
            .map_err(failed)?;
        accessor.with(|mut access| {
            let table = &mut access.get().table;
            table.push(Connection(connection)).map_err(|_| Error::TooManyConnections)
        })
    }

    async fn publish(
        accessor: &Accessor<T, Self>,
        connection: Resource<Connection>,
        channel: String,
        payload: Payload,
    ) -> Result<(), Error> {
        let mut redis = handle(accessor, &connection)?;
        redis.publish(channel, payload).await.map_err(failed)
    }

    async fn get(
        accessor: &Accessor<T, Self>,
        connection: Resource<Connection>,
        key: String,
    ) -> Result<Option<Payload>, Error> {
        let mut redis = handle(accessor, &connection)?;
        redis.get(key).await.map_err(failed)
    }

    async fn set(
        accessor: &Accessor<T, Self>,
        connection: Resource<Connection>,
        key: String,
        value: Payload,
    ) -> Result<(), Error> {
        let mut redis = handle(accessor, &connection)?;
        redis.set(key, value).await.map_err(failed)
    }

    async fn incr(accessor: &Accessor<T, Self>, connection: Resource<Connection>, key: String) -> Result<i64, Error> {
        let mut redis = handle(accessor, &connection)?;
        redis.incr(key, 1).await.map_err(failed)
    }

    async fn del(
        accessor: &Accessor<T, Self>,
        connection: Resource<Connection>,
        keys: Vec<String>,
    ) -> Result<u32, Error> {
        let mut redis = handle(accessor, &connection)?;
        redis.del(keys).await.map_err(failed)
    }

    async fn sadd(
        accessor: &Accessor<T, Self>,
        connection: Resource<Connection>,
        key: String,
        values: Vec<String>,
    ) -> Result<u32, Error> {
        let mut redis = handle(accessor, &connection)?;
        redis.sadd(key, values).await.map_err(failed_on_set)
    }

    async fn smembers(
        accessor: &Accessor<T, Self>,
        connection: Resource<Connection>,
        key: String,
    ) -> Result<Vec<String>, Error> {
        let mut redis = handle(accessor, &connection)?;
        redis.smembers(key).await.map_err(failed)
    }

    async fn srem(
        accessor: &Accessor<T, Self>,
        connection: Resource<Connection>,
        key: String,
        values: Vec<String>,
    ) -> Result<u32, Error> {
        let mut redis = handle(accessor, &connection)?;
        redis.srem(key, values).await.map_err(failed_on_set)
    }

    async fn execute(
        accessor: &Accessor<T, Self>,
        connection: Resource<Connection>,
        command: String,
        arguments: Vec<RedisParameter>,
    ) -> Result<Vec<RedisResult>, Error> {
        let mut redis = handle(accessor, &connection)?;
        let mut command = redis::cmd(&command);
        for argument in arguments {
            match argument {
                RedisParameter::Int64(number) => command.arg(number),
                RedisParameter::Binary(bytes) => command.arg(bytes),
            };
        }
        let value = command.query_async(&mut redis).await.map_err(failed)?;
        let mut results = Vec::new();
        flatten(value, &mut results)?;
        Ok(results)
    }
}

/// Makes one flat list of a nested reply, as Spin does.
fn flatten(value: Value, results: &mut Vec<RedisResult>) -> Result<(), Error> {
    results.push(match value {
        Value::Nil => RedisResult::Nil,
        Value::Int(number) => RedisResult::Int64(number),
        Value::BulkString(bytes) => RedisResult::Binary(bytes),
        Value::SimpleString(text) => RedisResult::Status(text),
        Value::Okay => RedisResult::Status("OK".to_owned()),
        Value::Array(values) | Value::Set(values) => {
            return values.into_iter().try_for_each(|v| flatten(v, results));
        }
        _ => {
            return Err(other("this runner does not convert replies of this type; use Spin for it"));
        }
    });
    Ok(())
}
