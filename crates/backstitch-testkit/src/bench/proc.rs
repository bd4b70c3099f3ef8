//! How much processor time and memory has a process used? What Linux writes below `/proc`.

use std::fs;

/// What `/proc/<pid>/stat` says of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stat {
    name: String,
    parent: u32,
    /// Its own processor time, in ticks.
    own_ticks: u64,
    /// That of its children that have ended and were waited for.
    reaped_ticks: u64,
}

/// The processor time of this process, in microseconds, in whole ticks of (usually) 10 ms.
pub(super) fn own_microseconds() -> Result<f64, String> {
    Ok(microseconds(stat(std::process::id())?.own_ticks))
}

/// The processor time of a process and of all its children, those that have ended included, in microseconds.
pub(super) fn family_microseconds(parent: u32) -> Result<f64, String> {
    let head = stat(parent)?;
    let all = fs::read_dir("/proc").map_err(|error| format!("/proc can't be read: {error}"))?;
    let pids = all.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    // One that ends while we look is its parent's from then on: look when all is quiet.
    let children = pids.filter_map(|pid| stat(pid).ok()).filter(|found| found.parent == parent);
    let ticks: u64 = children.map(|child| child.own_ticks + child.reaped_ticks).sum();
    Ok(microseconds(ticks + head.own_ticks + head.reaped_ticks))
}

/// The parent of a process of this name.
pub(super) fn parent_of(pid: u32, name: &str) -> Result<u32, String> {
    let found = stat(pid)?;
    if found.name == name {
        return Ok(found.parent);
    }
    Err(format!("process {pid} of this host is {:?}, not {name}", found.name))
}

/// How much memory of a process is resident, in KiB.
pub(super) fn resident_kib(pid: u32) -> Result<f64, String> {
    let path = format!("/proc/{pid}/status");
    let text = fs::read_to_string(&path).map_err(|error| format!("{path} can't be read: {error}"))?;
    parse_resident(&text).ok_or_else(|| format!("{path} says no VmRSS"))
}

fn stat(pid: u32) -> Result<Stat, String> {
    let path = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&path).map_err(|error| format!("{path} can't be read: {error}"))?;
    parse_stat(&text).ok_or_else(|| format!("{path} is not what Linux writes there"))
}

fn microseconds(ticks: u64) -> f64 {
    #[allow(clippy::cast_precision_loss)]
    let (ticks, a_second) = (ticks as f64, rustix::param::clock_ticks_per_second() as f64);
    ticks * 1e6 / a_second
}

fn parse_stat(text: &str) -> Option<Stat> {
    // The name is in brackets and may hold any character, brackets included.
    let (before, after) = text.rsplit_once(')')?;
    let name = before.split_once('(')?.1.to_owned();
    let fields: Vec<&str> = after.split_whitespace().collect();
    // The state is field 3 of proc(5), the parent 4, utime to cstime 14 to 17.
    let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    Some(Stat {
        name,
        parent: number(4)?.try_into().ok()?,
        own_ticks: number(14)? + number(15)?,
        reaped_ticks: number(16)? + number(17)?,
    })
}

fn parse_resident(status: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stat_is_read_whatever_the_process_is_called() {
        let text = "4242 (a) b (c)) S 17 1 1 0 -1 4194560 1 2 3 4 100 20 3 4 20 0 1 0 99 1 2\n";
        let expected = Stat { name: "a) b (c)".into(), parent: 17, own_ticks: 120, reaped_ticks: 7 };
        assert_eq!(parse_stat(text), Some(expected));
        assert_eq!(parse_stat("4242 (cut) S 1"), None);
        assert_eq!(parse_stat(""), None);
    }

    #[test]
    fn resident_memory_is_read() {
        assert_eq!(parse_resident("Name:\tx\nVmRSS:\t   12345 kB\nThreads:\t1\n"), Some(12345.0));
        assert_eq!(parse_resident("Name:\tx\n"), None);
    }
}
