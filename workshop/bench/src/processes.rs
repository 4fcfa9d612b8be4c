//! Reads the processor time and the memory of processes from `/proc`. Other systems than Linux report
//! nothing.

use std::fs;
use std::time::Duration;

/// The unit of times in `/proc/<pid>/stat`: 1/100 s on every Linux, whatever its timer frequency.
const TICK: Duration = Duration::from_millis(10);

/// The members of `/proc/<pid>/stat` that are used here. Times are in ticks.
#[derive(Debug, PartialEq)]
struct Stat {
    parent: u32,
    own: u32,
    ended_children: u32,
}

/// The processor time that a process and its descendants have used, including descendants that have ended.
pub fn processor_time_of_tree(root: u32) -> Option<Duration> {
    let ticks = tree(root)?.into_iter().map(|(_, ticks)| ticks).sum();
    Some(TICK * ticks)
}

/// The resident memory of a process and its descendants, in bytes. Pages that they share count more than
/// once.
pub fn memory_of_tree(root: u32) -> Option<u64> {
    let resident = |id: u32| {
        let status = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
        parse_resident(&status)
    };
    Some(
        tree(root)?
            .into_iter()
            .filter_map(|(id, _)| resident(id))
            .sum(),
    )
}

/// The processor time of this process's children that have ended.
pub fn processor_time_of_ended_children() -> Option<Duration> {
    Some(TICK * read("self")?.ended_children)
}

/// The ids of a process and its descendants that run now, and the ticks that each has used.
fn tree(root: u32) -> Option<Vec<(u32, u32)>> {
    let processes: Vec<(u32, Stat)> = fs::read_dir("/proc")
        .ok()?
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .filter_map(|id| Some((id, read(&id.to_string())?)))
        .collect();
    let mut members = Vec::new();
    let mut unvisited = vec![root];
    while let Some(id) = unvisited.pop() {
        for (other, stat) in &processes {
            if *other == id {
                members.push((id, stat.own + stat.ended_children));
            } else if stat.parent == id {
                unvisited.push(*other);
            }
        }
    }
    Some(members)
}

fn read(process: &str) -> Option<Stat> {
    parse(&fs::read_to_string(format!("/proc/{process}/stat")).ok()?)
}

/// The process's name is in parentheses and may contain any character. The numbers follow it.
fn parse(line: &str) -> Option<Stat> {
    let (_, rest) = line.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let field = |index: usize| fields.get(index)?.parse::<u32>().ok();
    Some(Stat {
        parent: field(1)?,
        own: field(11)? + field(12)?,
        ended_children: field(13)? + field(14)?,
    })
}

/// The resident memory in bytes, from `/proc/<pid>/status`.
fn parse_resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_found_after_any_process_name() {
        let line = "7 (a) b (c)) S 3 7 7 0 -1 4194304 100 0 0 0 11 22 5 6 20 0 1 0 9 1 1";
        let stat = Stat {
            parent: 3,
            own: 33,
            ended_children: 11,
        };
        assert_eq!(parse(line), Some(stat));
        assert_eq!(parse("7 (a"), None);
    }

    #[test]
    fn resident_memory_is_in_bytes() {
        let status = "VmPeak:\t  900 kB\nVmRSS:\t    12 kB\nRssAnon:\t 4 kB\n";
        assert_eq!(parse_resident(status), Some(12 * 1024));
        assert_eq!(parse_resident("Name:\tkthreadd\n"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_tree_is_a_process_and_its_children() {
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let ids: Vec<u32> = tree(std::process::id())
            .unwrap()
            .iter()
            .map(|(id, _)| *id)
            .collect();
        let own = memory_of_tree(child.id());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(ids.contains(&std::process::id()));
        assert!(ids.contains(&child.id()));
        assert!(own.is_some_and(|bytes| bytes > 0));
    }
}
