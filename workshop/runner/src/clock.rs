//! Implements the monotonic clock of `wasi:clocks@0.3.0` as wasmtime-wasi does, so that timers are counted: a call is
//! counted when it asks for the host's state, and wasmtime-wasi's waiting functions do not.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use wasmtime::Result;
use wasmtime::component::Accessor;
use wasmtime_wasi::p3::bindings::clocks::monotonic_clock::{Host, HostWithStore, Mark};

use crate::host::{HostState, Spin};

static STARTED: LazyLock<Instant> = LazyLock::new(Instant::now);

fn now() -> Mark {
    u64::try_from(STARTED.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

impl Host for HostState {
    fn now(&mut self) -> Result<Mark> {
        Ok(now())
    }

    fn get_resolution(&mut self) -> Result<u64> {
        Ok(1)
    }
}

impl<T: Send> HostWithStore<T> for Spin {
    async fn wait_until(accessor: &Accessor<T, Self>, when: Mark) -> Result<()> {
        Self::wait_for(accessor, when.saturating_sub(now())).await
    }

    async fn wait_for(accessor: &Accessor<T, Self>, duration: u64) -> Result<()> {
        // Asks for the state, which counts the call.
        accessor.with(|mut access| {
            access.get();
        });
        if duration > 0 {
            tokio::time::sleep(Duration::from_nanos(duration)).await;
        }
        Ok(())
    }
}
