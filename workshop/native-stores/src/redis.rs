//! Commands over `redis`.

use exactly_once_stores::redis::{Command, Reply};
use redis::aio::ConnectionLike;
use redis::{Cmd, ErrorKind, RedisError, RedisResult, Value};

/// Sends a command, and returns the reply as the core reads it.
///
/// # Errors
/// An error of the server or the connection, or an unexpected reply.
pub async fn send(connection: &mut impl ConnectionLike, command: &Command) -> RedisResult<Reply> {
    reply(cmd(command).query_async(connection).await)
}

/// The command as `redis` takes it.
pub fn cmd(command: &Command) -> Cmd {
    let mut cmd = redis::cmd(command.name);
    for argument in &command.arguments {
        cmd.arg(argument.as_slice());
    }
    cmd
}

/// The reply in a result of `redis`.
///
/// # Errors
/// As [`send`].
pub fn reply(result: RedisResult<Value>) -> RedisResult<Reply> {
    match result {
        Ok(Value::Nil) => Ok(Reply::Nil),
        Ok(Value::BulkString(bytes)) => Ok(Reply::Bytes(bytes)),
        Ok(Value::Okay) => Ok(Reply::Bytes(b"OK".to_vec())),
        Ok(Value::SimpleString(text)) => Ok(Reply::Bytes(text.into_bytes())),
        Ok(Value::Int(number)) => Ok(Reply::Bytes(number.to_string().into_bytes())),
        Ok(_) => {
            Err(RedisError::from((ErrorKind::TypeError, "the reply is neither nil, a string, a status nor an integer")))
        }
        // About the key, not about the server.
        Err(error) if error.code() == Some("WRONGTYPE") => Ok(Reply::Refused),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use redis::parse_redis_value;

    use super::*;

    /// What arrives on the wire, as `redis` gives it to [`reply`].
    fn received(wire: &str) -> RedisResult<Reply> {
        let value = parse_redis_value(wire.as_bytes()).and_then(Value::extract_error);
        reply(value)
    }

    #[test]
    fn a_reply_is_nil_bytes_or_the_wrong_type() {
        let bytes = |text: &str| Reply::Bytes(text.as_bytes().to_vec());
        for (wire, expected) in [
            ("$-1\r\n", Reply::Nil),
            ("+OK\r\n", bytes("OK")),
            ("+PONG\r\n", bytes("PONG")),
            ("$2\r\na\0\r\n", bytes("a\0")),
            (":1500\r\n", bytes("1500")),
            ("-WRONGTYPE holds a list\r\n", Reply::Refused),
        ] {
            assert_eq!(received(wire).ok(), Some(expected), "{wire:?}");
        }
        for wire in ["-OOM no memory\r\n", "*1\r\n:1\r\n"] {
            assert!(received(wire).is_err(), "{wire:?}");
        }
    }

    #[test]
    fn a_command_is_sent_with_its_arguments() {
        let command = Command { name: "GET", arguments: vec![b"a b\xff".to_vec()] };
        let expected = b"*2\r\n$3\r\nGET\r\n$4\r\na b\xff\r\n";
        assert_eq!(cmd(&command).get_packed_command(), expected);
    }
}
