//! Measures the share of the process's CPU time that components' own code takes, without host functions: each
//! thread records whether it runs guest code, and a profiling timer samples that.

use std::cell::Cell;
use std::io;
use std::ptr;

use anyhow::{Result, ensure};
use wasmtime::Store;

use crate::calls;

/// The sampling period, in CPU time. The kernel rounds it up to its tick.
const PERIOD_MICROSECONDS: libc::suseconds_t = 1000;

thread_local! {
    static IN_GUEST: Cell<bool> = const { Cell::new(false) };
}

/// Records for this instance's thread when it enters and leaves guest code.
pub fn follow<T: 'static>(store: &mut Store<T>) {
    store.call_hook(|_, change| {
        IN_GUEST.set(change.exiting_host());
        Ok(())
    });
}

/// Starts sampling.
pub fn start() -> Result<()> {
    let period = libc::timeval { tv_sec: 0, tv_usec: PERIOD_MICROSECONDS };
    let timer = libc::itimerval { it_interval: period, it_value: period };
    // SAFETY: an all-zero sigaction is valid; the handler does only what a signal handler may: it reads a
    // thread-local that needs no initialisation, and adds to atomics. Both calls only read their arguments.
    let started = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = sample as extern "C" fn(libc::c_int) as libc::sighandler_t;
        action.sa_flags = libc::SA_RESTART;
        libc::sigaction(libc::SIGPROF, &action, ptr::null_mut()) == 0
            && libc::setitimer(libc::ITIMER_PROF, &timer, ptr::null_mut()) == 0
    };
    ensure!(started, "starting the profiling timer: {}", io::Error::last_os_error());
    Ok(())
}

/// Takes a sample. Runs on the thread that was running when the period ended.
extern "C" fn sample(_: libc::c_int) {
    calls::SAMPLES.count();
    if IN_GUEST.get() {
        calls::GUEST_SAMPLES.count();
    }
}
