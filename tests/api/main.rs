//! The service as its users see it: the built component over HTTP, on real Redis and Postgres. Run with
//! `cargo xtask test`; docs/commands.md says how to run it against a deployment of your own.

#[macro_use]
mod applies;

mod bad_input;
mod cells;
mod changed_rules;
mod concurrency;
mod conditional;
mod conditional_races;
mod creation;
mod documented;
mod embedded;
mod events;
mod history;
mod host_calls;
mod hosting;
mod identity;
mod key_reuse;
mod keys;
mod listing;
mod logging;
mod postgres_faults;
mod reading;
mod recorded;
mod redis_faults;
mod retention;
mod roles;
mod security;
mod support;
mod tls;
mod tokens;
mod trips;
mod validation;
