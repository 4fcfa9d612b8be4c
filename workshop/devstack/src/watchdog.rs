//! Ends a process group when this process dies in any way: a shell reads a pipe, which closes then.
//! PR_SET_PDEATHSIG would reach the direct child only, and `spin up` serves from a child of its own.

use std::io::{self, Write};
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};
use nix::sys::signal::Signal;

/// The first line read is the process group; the second read returns when the pipe is closed. SIGCONT is for
/// a paused group, which would not see the signal. A group that still lives after 10 seconds is killed.
const SCRIPT: &str = r#"
read -r group || exit 0
read -r _
kill -s "$0" -- "-$group"
kill -s CONT -- "-$group"
seconds=0
while kill -s 0 -- "-$group" && [ "$seconds" -lt 10 ]; do
    sleep 1
    seconds=$((seconds + 1))
done
kill -s KILL -- "-$group"
"#;

/// A watchdog over one process group. Dropping it ends the watchdog, not the group.
pub struct Watchdog {
    shell: Child,
}

impl Watchdog {
    /// Starts a watchdog that will send `signal`. It watches nothing until a command is put [under
    /// it](Self::watch).
    pub fn start(signal: Signal) -> Result<Self> {
        let name = signal.as_str();
        let shell = Command::new("sh")
            .args(["-c", SCRIPT, name.strip_prefix("SIG").unwrap_or(name)])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // A group of its own: Ctrl-C must not end the watchdog before its group.
            .process_group(0)
            .spawn()
            .context("starting sh")?;
        Ok(Self { shell })
    }

    /// Makes a command the leader of a new process group that this watchdog watches. The child itself
    /// reports its group before it runs the program, so that there is no moment without a watchdog.
    pub fn watch(&self, command: &mut Command) -> Result<()> {
        let pipe = self.shell.stdin.as_ref().context("sh has no pipe")?;
        let pipe = pipe.as_raw_fd();
        command.process_group(0);
        // SAFETY: the closure calls only getpid and write, which are async-signal-safe, and does not
        // allocate. The pipe is open as long as `self` is; where it is not, write fails.
        unsafe {
            command.pre_exec(move || report_group(pipe));
        }
        Ok(())
    }
}

/// Runs in the forked child, which leads its group: its process id is the group's.
fn report_group(pipe: RawFd) -> io::Result<()> {
    let mut line = [0; 16];
    let mut rest = line.as_mut_slice();
    writeln!(rest, "{}", std::process::id())?;
    let unused = rest.len();
    let line = line.get(..line.len() - unused).unwrap_or_default();
    // SAFETY: see `watch`.
    let pipe = unsafe { BorrowedFd::borrow_raw(pipe) };
    nix::unistd::write(pipe, line)?;
    Ok(())
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        // Killed before its pipe closes: it must not act. It may have ended already.
        let _ = self.shell.kill();
        let _ = self.shell.wait();
    }
}
