//! The component's surroundings on a developer's machine: private Redis and Postgres servers on free ports,
//! and the application served by the runner or by Spin.

pub mod app;
mod browser;
pub mod examples;
pub mod install;
pub mod npm;
pub mod postgres;
pub mod process;
pub mod python;
pub mod redis;
pub mod replication;
pub mod scheduler;
mod skip;
pub mod tls;
mod watchdog;
pub mod workspace;

pub use app::{App, Host};
pub use browser::Browser;
pub use install::Programs;
pub use postgres::Postgres;
pub use redis::Redis;
pub use skip::or_skip;

/// The exit code of a tool. An error is printed in one line, with its causes.
pub fn exit_code(outcome: anyhow::Result<()>) -> std::process::ExitCode {
    match outcome {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            std::process::ExitCode::FAILURE
        }
    }
}
