//! What processes take of the processor, from `/proc`. Elsewhere than on Linux there is nothing to be had.

use std::fs;
use std::time::Duration;

/// The unit of `/proc/<pid>/stat` on every Linux, whatever its timer runs at.
const TICK: Duration = Duration::from_millis(10);

/// What we read of one process.
#[derive(Debug, PartialEq)]
struct Stat {
    parent: u32,
    own: u32,
    ended_children: u32,
}

/// The processor time of a process and all below it so far, ended ones included.
pub fn of_tree(root: u32) -> Option<Duration> {
    let processes: Vec<(u32, Stat)> = fs::read_dir("/proc")
        .ok()?
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .filter_map(|id| Some((id, read(&id.to_string())?)))
        .collect();
    let mut ticks = 0;
    let mut open = vec![root];
    while let Some(id) = open.pop() {
        for (child, stat) in &processes {
            if *child == id {
                ticks += stat.own + stat.ended_children;
            } else if stat.parent == id {
                open.push(*child);
            }
        }
    }
    Some(TICK * ticks)
}

/// The processor time of our own children that have ended.
pub fn of_ended_children() -> Option<Duration> {
    Some(TICK * read("self")?.ended_children)
}

fn read(process: &str) -> Option<Stat> {
    parse(&fs::read_to_string(format!("/proc/{process}/stat")).ok()?)
}

/// The name is in parentheses and may hold any character; what is counted comes after it.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_found_behind_any_name() {
        let line = "7 (a) b (c)) S 3 7 7 0 -1 4194304 100 0 0 0 11 22 5 6 20 0 1 0 9 1 1";
        let stat = Stat {
            parent: 3,
            own: 33,
            ended_children: 11,
        };
        assert_eq!(parse(line), Some(stat));
        assert_eq!(parse("7 (a"), None);
    }
}
