//! Measures how much of the process's processor time goes into components' own code, host functions left out:
//! instances note for their thread whether it is in the guest, and a timer looks every so often.

use std::cell::Cell;
use std::io;
use std::ptr;

use anyhow::{Result, ensure};
use wasmtime::Store;

use crate::calls;

/// Of processor time, not of time. Kernels round it up to their own tick.
const PERIOD_MICROSECONDS: libc::suseconds_t = 1000;

thread_local! {
    static IN_GUEST: Cell<bool> = const { Cell::new(false) };
}

/// Follows this instance in and out of its own code.
pub fn follow<T: 'static>(store: &mut Store<T>) {
    store.call_hook(|_, change| {
        IN_GUEST.set(change.exiting_host());
        Ok(())
    });
}

/// Starts to look.
pub fn start() -> Result<()> {
    let period = libc::timeval {
        tv_sec: 0,
        tv_usec: PERIOD_MICROSECONDS,
    };
    let timer = libc::itimerval {
        it_interval: period,
        it_value: period,
    };
    // SAFETY: an all-zero sigaction is valid; the handler does only what a signal handler may: it reads a
    // thread-local that needs no initialisation, and adds to atomics. Both calls read what they are pointed to.
    let started = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = look as extern "C" fn(libc::c_int) as libc::sighandler_t;
        action.sa_flags = libc::SA_RESTART;
        libc::sigaction(libc::SIGPROF, &action, ptr::null_mut()) == 0
            && libc::setitimer(libc::ITIMER_PROF, &timer, ptr::null_mut()) == 0
    };
    ensure!(started, "no timer: {}", io::Error::last_os_error());
    Ok(())
}

/// Runs on the thread whose time has used a period up.
extern "C" fn look(_: libc::c_int) {
    calls::SAMPLES.count();
    if IN_GUEST.get() {
        calls::GUEST_SAMPLES.count();
    }
}
