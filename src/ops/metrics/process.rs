//! What the process uses, as `/proc/self` (proc(5)) tells it.

use std::fs;

/// Figures of this process; `None` where `/proc` does not tell.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Usage {
    pub(super) cpu_seconds: Option<f64>,
    pub(super) resident_bytes: Option<f64>,
    pub(super) virtual_bytes: Option<f64>,
    pub(super) threads: Option<f64>,
    pub(super) descriptors: Option<f64>,
    pub(super) descriptors_max: Option<f64>,
}

/// Ticks of CPU time in a second, which Linux shows to programs whatever it counts with.
const TICKS: f64 = 100.0;

impl Usage {
    pub(super) fn now() -> Self {
        let read = |name: &str| fs::read_to_string(format!("/proc/self/{name}")).unwrap_or_default();
        let (status, limits) = (read("status"), read("limits"));
        let bytes = |name: &str| line(&status, name).map(|kib| kib * 1024.0);
        // The directory of the listing itself is one of those listed.
        let descriptors =
            fs::read_dir("/proc/self/fd").ok().map(|list| list.count().saturating_sub(1) as f64);
        Self {
            cpu_seconds: cpu_seconds(&read("stat")),
            resident_bytes: bytes("VmRSS:"),
            virtual_bytes: bytes("VmSize:"),
            threads: line(&status, "Threads:"),
            descriptors,
            descriptors_max: line(&limits, "Max open files"),
        }
    }
}

/// The first number of the line that starts with `name`.
fn line(text: &str, name: &str) -> Option<f64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}

/// utime and stime, the 14th and 15th field; the 2nd is a name in parentheses, which may hold anything.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ').skip(11).map_while(|field| field.parse::<f64>().ok());
    Some((fields.next()? + fields.next()?) / TICKS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_figures() {
        let usage = Usage::now();
        assert!(usage.resident_bytes.is_some_and(|bytes| bytes > 1e5));
        assert!(usage.virtual_bytes >= usage.resident_bytes);
        assert!(usage.threads >= Some(1.0) && usage.descriptors >= Some(3.0));
        assert!(usage.descriptors_max >= usage.descriptors && usage.cpu_seconds.is_some());
    }

    #[test]
    fn a_name_with_blanks_and_parentheses_moves_no_field() {
        let stat = "7 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0";
        assert_eq!(cpu_seconds(stat), Some(2.0));
        assert_eq!(cpu_seconds("7 (a) S 1"), None);
    }
}
