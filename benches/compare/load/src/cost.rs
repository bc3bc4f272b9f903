//! CPU time of a process and its descendants, as `/proc/PID/stat` tells it.

use std::{fs, io};

/// CPU seconds, spent in user space and in the kernel.
#[derive(Clone, Copy, Default)]
pub struct Cost {
    pub user: f64,
    pub system: f64,
}

impl Cost {
    /// What `pid`, its living descendants, and those of them that died and were waited for have spent.
    pub fn of(pid: u32) -> io::Result<Self> {
        let tick = rustix::param::clock_ticks_per_second() as f64;
        let mut cost = Self::default();
        let mut pids = vec![pid];
        while let Some(pid) = pids.pop() {
            // A worker may end between two readings: its time is then its parent's.
            let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
            let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
            // Counted after the name: utime, stime, cutime, cstime are fields 14 to 17 of proc(5).
            let times: Vec<f64> = fields
                .split_ascii_whitespace()
                .skip(11)
                .take(4)
                .filter_map(|word| word.parse().ok())
                .collect();
            let &[user, system, dead_user, dead_system] = times.as_slice() else {
                return Err(io::Error::other(format!("/proc/{pid}/stat: {stat}")));
            };
            cost.user += (user + dead_user) / tick;
            cost.system += (system + dead_system) / tick;
            for task in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
                let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
                pids.extend(children.split_ascii_whitespace().filter_map(|word| word.parse::<u32>().ok()));
            }
        }
        Ok(cost)
    }
}
