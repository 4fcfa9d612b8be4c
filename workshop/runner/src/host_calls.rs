//! Counts what components ask of the host, with `--count-calls`: calls by interface, and what wasmtime keeps for calls
//! that wait. A hook sees every call but not its name; the function that gives an interface its state names the
//! interface. Waiting calls, streams and events are in no interface of wasmtime's: they are counted by its log
//! messages.

use std::fmt;

use serde_json::{Value, json};
use wasmtime::{CallHook, Store};

use crate::calls::Counter;
use crate::host::HostState;

/// What a component calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interface {
    /// `wasi:http`: requests, responses and their headers.
    Http,
    /// `spin:redis`.
    Redis,
    /// `spin:postgres`.
    Postgres,
    /// `spin:sqlite`.
    Sqlite,
    /// `spin:variables`.
    Variables,
    /// `wait-for` and `wait-until` of `wasi:clocks`.
    Timer,
    /// The rest of WASI: times, randomness, output.
    Wasi,
    /// No interface: the component model's own functions for streams, futures, tasks and waitables.
    Intrinsic,
}

/// The counters, by [`Interface`].
static CALLS: [Counter; 8] = [const { Counter::new() }; 8];

/// Calls that did not return at once. Each is a task of the host's and a waitable of the guest's.
static WAITS: Counter = Counter::new();
/// Pairs of ends, made by guest or host.
static STREAMS_AND_FUTURES: Counter = Counter::new();
/// Sets of waitables.
static WAITABLE_SETS: Counter = Counter::new();
/// Events that were delivered to a guest's task.
static EVENTS: Counter = Counter::new();
/// Times that a guest's task ran until it waited or ended.
static RUNS: Counter = Counter::new();

/// The calls that an instance is in, the innermost one last, and the interface of each as far as it is known. A call
/// can contain another one: a host function lets the guest allocate memory for the result, and an epoch may end there.
#[derive(Default)]
pub struct Calling(Vec<Interface>);

impl Calling {
    /// The innermost call belongs to this interface.
    pub fn is_of(&mut self, interface: Interface) {
        if let Some(innermost @ Interface::Intrinsic) = self.0.last_mut() {
            *innermost = interface;
        }
    }

    /// Takes note of a transition between guest and host.
    pub fn change(&mut self, change: CallHook) {
        match change {
            CallHook::CallingHost => self.0.push(Interface::Intrinsic),
            CallHook::ReturningFromHost => {
                let counter = self.0.pop().and_then(|of| CALLS.get(of as usize));
                if let Some(counter) = counter {
                    counter.count();
                }
            }
            CallHook::CallingWasm | CallHook::ReturningFromWasm => {}
        }
    }
}

/// Counts the calls of an instance.
pub fn follow(store: &mut Store<HostState>) {
    store.call_hook(|mut store, change| {
        store.data_mut().calling.change(change);
        Ok(())
    });
}

/// Starts to count wasmtime's messages.
pub fn start() {
    // Fails only if there is a logger already; this program has no other.
    if log::set_logger(&Log).is_ok() {
        log::set_max_level(log::LevelFilter::Trace);
    }
}

/// The counters as JSON.
pub fn counted() -> Value {
    let of = |interface: Interface| CALLS.get(interface as usize).map(Counter::get);
    json!({
        "http": of(Interface::Http),
        "redis": of(Interface::Redis),
        "postgres": of(Interface::Postgres),
        "sqlite": of(Interface::Sqlite),
        "variables": of(Interface::Variables),
        "timers": of(Interface::Timer),
        "wasi": of(Interface::Wasi),
        "intrinsics": of(Interface::Intrinsic),
        "waits": WAITS.get(),
        "streamsAndFutures": STREAMS_AND_FUTURES.get(),
        "waitableSets": WAITABLE_SETS.get(),
        "events": EVENTS.get(),
        "runs": RUNS.get(),
    })
}

/// Counts messages of the one module of wasmtime that runs tasks.
struct Log;

impl log::Log for Log {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.target().starts_with("wasmtime::runtime::component::concurrent")
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            // An error is how the formatting is ended.
            let _ = fmt::write(&mut FirstWords, *record.args());
        }
    }

    fn flush(&self) {}
}

/// Reads a message up to its first value, and fails there: the values are never formatted.
struct FirstWords;

impl fmt::Write for FirstWords {
    fn write_str(&mut self, words: &str) -> fmt::Result {
        match words {
            "assign " => WAITS.count(),
            "new transmit: state " => STREAMS_AND_FUTURES.count(),
            "new waitable set " => WAITABLE_SETS.count(),
            "deliver event " => EVENTS.count(),
            "received callback code from " => RUNS.count(),
            _ => {}
        }
        Err(fmt::Error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_contains_another_one_is_counted() {
        let of = |interface: Interface| CALLS[interface as usize].get();
        let before = (of(Interface::Http), of(Interface::Intrinsic));
        let mut calling = Calling::default();
        calling.change(CallHook::CallingHost);
        calling.is_of(Interface::Http);
        // The guest allocates, and an epoch ends.
        calling.change(CallHook::CallingWasm);
        calling.change(CallHook::CallingHost);
        calling.change(CallHook::ReturningFromHost);
        calling.change(CallHook::ReturningFromWasm);
        calling.change(CallHook::ReturningFromHost);
        let after = (of(Interface::Http), of(Interface::Intrinsic));
        assert_eq!(after, (before.0 + 1, before.1 + 1));
    }
}
