//! Spin behind [`Platform`]: the instance's clock, its log and its tasks. Connections are in [`crate::redis`] and
//! [`crate::database`].

use std::io::Write;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use exactly_once::ports::Clock;
use exactly_once_stores::Instance;
use exactly_once_stores::platform::Platform;
use spin_sdk::time::sleep;
use spin_sdk::wasip3::spawn;

use crate::signals::TaskSignals;

/// Spin, as any instance uses it.
#[derive(Clone, Copy)]
pub struct Spin;

static STARTED: LazyLock<Instant> = LazyLock::new(Instant::now);

thread_local! {
    /// Never dropped, which saves the code for it.
    static INSTANCE: &'static Instance<Spin> = Box::leak(Box::new(Instance::new(TaskSignals)));
}

/// This instance.
pub fn instance() -> &'static Instance<Spin> {
    INSTANCE.with(|instance| *instance)
}

impl Clock for Spin {
    #[inline(never)]
    fn now(&self) -> Duration {
        STARTED.elapsed()
    }

    async fn sleep(&self, time: Duration) {
        sleep(time).await;
    }
}

impl Platform for Spin {
    type Signals = TaskSignals;

    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        spawn(task);
    }

    /// `eprintln!` takes one call of the host per part, and lines of other instances get in between.
    fn write_line(&self, mut line: String) {
        line.push('\n');
        // If the log cannot be written, there is no place to report it.
        let _ = std::io::stderr().write_all(line.as_bytes());
    }
}
