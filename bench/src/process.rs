//! What processes cost: CPU time and memory, as the kernel accounts for them.

use std::{fs, io};

/// CPU seconds that a process and its ended children have used so far.
pub(crate) fn cpu_seconds(pid: u32) -> io::Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The second field may hold blanks; the third begins after its closing parenthesis.
    let after = stat.rsplit_once(')').map_or(stat.as_str(), |(_, after)| after);
    let fields: Vec<&str> = after.split_whitespace().collect();
    // proc(5): utime and stime are fields 14 and 15 of the line, in clock ticks.
    let ticks = |i: usize| fields.get(i).and_then(|f| f.parse::<f64>().ok()).unwrap_or(0.0);
    Ok((ticks(11) + ticks(12)) / ticks_per_second())
}

/// Resident memory of a process in MiB.
pub(crate) fn memory_mib(pid: u32) -> io::Result<f64> {
    status_mib(pid, "VmRSS:")
}

/// The most resident memory that a process has had so far, in MiB.
pub(crate) fn peak_memory_mib(pid: u32) -> io::Result<f64> {
    status_mib(pid, "VmHWM:")
}

fn status_mib(pid: u32, name: &str) -> io::Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find(|line| line.starts_with(name));
    let kib = line.and_then(|line| line.split_whitespace().nth(1)).and_then(|n| n.parse().ok());
    Ok(kib.unwrap_or(0.0) / 1024.0)
}

fn ticks_per_second() -> f64 {
    let ticks = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok().flatten();
    ticks.map_or(100.0, |ticks| ticks as f64)
}
