//! Commands over Spin's Redis interface.

use exactly_once_stores::platform::{CommandError, MISCONFIGURED, SendCommand};
use exactly_once_stores::redis::{Command, Reply};
use spin_sdk::redis::{Connection, Error, RedisParameter, RedisResult};

use crate::platform::Spin;

impl SendCommand for Spin {
    type Link = Connection;

    async fn dial(&self, url: &str) -> Result<Connection, CommandError> {
        Connection::open(url).await.map_err(error)
    }

    async fn send(&self, connection: &Connection, command: &Command) -> Result<Reply, CommandError> {
        let arguments = command.arguments.iter().cloned();
        let arguments = arguments.map(RedisParameter::Binary);
        let results = connection.execute(command.name, arguments).await;
        Ok(match results.map_err(error)?.into_iter().next() {
            Some(RedisResult::Binary(bytes)) => Reply::Bytes(bytes),
            Some(RedisResult::Status(text)) => Reply::Bytes(text.into_bytes()),
            Some(RedisResult::Int64(number)) => Reply::Bytes(number.to_string().into_bytes()),
            Some(RedisResult::Nil) | None => Reply::Nil,
        })
    }
}

/// An error, without the address, which may contain a password.
fn error(error: Error) -> CommandError {
    let text = match error {
        Error::InvalidAddress => {
            format!("{MISCONFIGURED}redis_url is invalid, or redis_allowed_host does not permit its host")
        }
        Error::TooManyConnections => "too many connections".to_owned(),
        Error::TypeError => "unexpected type".to_owned(),
        Error::Other(text) => text,
    };
    CommandError { text }
}
