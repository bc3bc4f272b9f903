//! The metrics as text that scrapers read (Prometheus text format 0.0.4).

use std::io::Write;

use super::metrics::{Counter, Kind, Snapshot};

/// The media type of what [`write()`] writes.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Appends every metric of `sums` to `out`: per family a `# HELP` and a `# TYPE` line, then its members.
pub fn write(sums: &Snapshot, out: &mut Vec<u8>) {
    let mut family = "";
    for counter in Counter::ALL {
        let row = counter.description();
        let value = sums.get(counter);
        if row.family != family {
            family = row.family;
            let kind = match row.kind {
                Kind::Counter => "counter",
                Kind::Gauge => "gauge",
            };
            append(out, format_args!("# HELP {family} {}\n# TYPE {family} {kind}\n", row.help));
        }
        match row.label {
            Some((label, member)) => append(out, format_args!("{family}{{{label}=\"{member}\"}} {value}\n")),
            None => append(out, format_args!("{family} {value}\n")),
        }
    }
}

fn append(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    // Writing to a vector cannot fail.
    let _ = out.write_fmt(text);
}

#[cfg(test)]
mod tests {
    use super::write;
    use crate::telemetry::metrics::{COUNTERS, Counter, Snapshot};

    #[test]
    fn families_are_announced_once_and_every_counter_has_a_line() {
        let mut sums = Snapshot::default();
        sums.add(Counter::HandshakesResumed, 7);
        let mut out = Vec::new();
        write(&sums, &mut out);
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains(
            "# TYPE lockring_tls_handshakes_total counter\n\
             lockring_tls_handshakes_total{kind=\"full\"} 0\n\
             lockring_tls_handshakes_total{kind=\"resumed\"} 7\n"
        ));
        assert!(text.contains("# TYPE lockring_connections_open gauge\nlockring_connections_open 0\n"));
        assert_eq!(text.lines().filter(|line| !line.starts_with('#')).count(), COUNTERS);
        let types: Vec<&str> = text.lines().filter(|line| line.starts_with("# TYPE")).collect();
        let mut once = types.clone();
        once.dedup();
        assert_eq!(types, once);
    }
}
