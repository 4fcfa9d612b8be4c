//! The processor time of processes, from `/proc`. Other systems than Linux report nothing.

use std::time::Duration;

/// The processor time that a process and its descendants have used, including descendants that have ended: their own,
/// and the kernel's for them.
#[cfg(target_os = "linux")]
pub fn processor_time_of_tree(root: u32) -> Option<[Duration; 2]> {
    let root = i32::try_from(root).ok()?;
    let all = procfs::process::all_processes().ok()?;
    let all: Vec<_> = all.filter_map(|each| each.ok()?.stat().ok()).collect();
    let (mut user, mut system, mut unvisited) = (0, 0, vec![root]);
    while let Some(id) = unvisited.pop() {
        for stat in &all {
            if stat.pid == id {
                let [ended_user, ended_system] = ended_children(stat);
                user += stat.utime + ended_user;
                system += stat.stime + ended_system;
            } else if stat.ppid == id {
                unvisited.push(stat.pid);
            }
        }
    }
    Some([user, system].map(time))
}

/// The processor time of this process's children that have ended.
#[cfg(target_os = "linux")]
pub fn processor_time_of_ended_children() -> Option<Duration> {
    let stat = procfs::process::Process::myself().ok()?.stat().ok()?;
    Some(time(ended_children(&stat).iter().sum()))
}

#[cfg(target_os = "linux")]
fn ended_children(stat: &procfs::process::Stat) -> [u64; 2] {
    [stat.cutime, stat.cstime].map(|ticks| u64::try_from(ticks).unwrap_or(0))
}

#[cfg(target_os = "linux")]
fn time(ticks: u64) -> Duration {
    Duration::from_secs_f64(ticks as f64 / procfs::ticks_per_second() as f64)
}

#[cfg(not(target_os = "linux"))]
pub fn processor_time_of_tree(_: u32) -> Option<[Duration; 2]> {
    None
}

#[cfg(not(target_os = "linux"))]
pub fn processor_time_of_ended_children() -> Option<Duration> {
    None
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_tree_contains_the_time_of_its_children() {
        let script = "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done; sleep 60";
        let mut command = std::process::Command::new("sh");
        let mut child = command.args(["-c", script]).spawn().unwrap();
        let of_child = || processor_time_of_tree(child.id()).unwrap_or_default()[0];
        let start = std::time::Instant::now();
        while of_child().is_zero() && start.elapsed() < Duration::from_secs(30) {
            std::thread::yield_now();
        }
        let (of_child, of_all) = (of_child(), processor_time_of_tree(std::process::id()));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!of_child.is_zero());
        assert!(of_all.is_some_and(|[user, _]| user >= of_child));
    }
}
