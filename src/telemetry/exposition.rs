//! The metrics as text that scrapers read (Prometheus text format 0.0.4).

use std::fmt::Display;
use std::io::Write;

use super::buckets::Sums;
use super::metrics::{Counter, Kind, Snapshot};

/// The media type of a page.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Labels of a member of a family: names and values.
pub type Labels<'a> = &'a [(&'a str, &'a str)];

/// What one scrape gets. The members of a family follow its announcement.
#[derive(Debug, Default)]
pub struct Page {
    out: Vec<u8>,
}

impl Page {
    /// Announces a family.
    pub fn family(&mut self, name: &str, kind: Kind, help: &str) {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        self.append(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
    }

    /// One member of the family announced last.
    pub fn value(&mut self, name: &str, labels: Labels<'_>, value: impl Display) {
        self.out.extend_from_slice(name.as_bytes());
        self.labels(labels, None);
        self.append(format_args!(" {value}\n"));
    }

    /// One member of a family of histograms, in seconds.
    pub fn histogram(&mut self, name: &str, labels: Labels<'_>, sums: &Sums) {
        for (bound, below) in sums.below() {
            self.append(format_args!("{name}_bucket"));
            let seconds = bound as f64 / 1e6;
            self.labels(labels, Some(&seconds));
            self.append(format_args!(" {below}\n"));
        }
        self.append(format_args!("{name}_bucket"));
        self.labels(labels, Some(&"+Inf"));
        self.append(format_args!(" {}\n{name}_sum", sums.count()));
        self.labels(labels, None);
        self.append(format_args!(" {}\n{name}_count", sums.micros() as f64 / 1e6));
        self.labels(labels, None);
        self.append(format_args!(" {}\n", sums.count()));
    }

    /// Every counter of the workers.
    pub fn counters(&mut self, sums: &Snapshot) {
        let mut family = "";
        for counter in Counter::ALL {
            let row = counter.description();
            if row.family != family {
                family = row.family;
                self.family(family, row.kind, row.help);
            }
            match row.label {
                Some(label) => self.value(family, &[label], sums.get(counter)),
                None => self.value(family, &[], sums.get(counter)),
            }
        }
    }

    /// Appends families that were written elsewhere.
    pub fn append_with(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.out);
    }

    /// The text.
    #[must_use]
    pub fn into_text(self) -> Vec<u8> {
        self.out
    }

    fn labels(&mut self, labels: Labels<'_>, bound: Option<&dyn Display>) {
        if labels.is_empty() && bound.is_none() {
            return;
        }
        let mut before = '{';
        for (name, value) in labels {
            self.append(format_args!("{before}{name}=\""));
            // The format knows these three escapes and no other.
            for piece in value.split_inclusive(['\\', '"', '\n']) {
                let plain = piece.trim_end_matches(['\\', '"', '\n']);
                self.out.extend_from_slice(plain.as_bytes());
                match piece.as_bytes().last() {
                    Some(b'\\') => self.out.extend_from_slice(b"\\\\"),
                    Some(b'"') => self.out.extend_from_slice(b"\\\""),
                    Some(b'\n') => self.out.extend_from_slice(b"\\n"),
                    _ => {}
                }
            }
            self.out.push(b'"');
            before = ',';
        }
        if let Some(bound) = bound {
            self.append(format_args!("{before}le=\"{bound}\""));
        }
        self.out.push(b'}');
    }

    fn append(&mut self, text: std::fmt::Arguments<'_>) {
        // Writing to a vector cannot fail.
        let _ = self.out.write_fmt(text);
    }
}

#[cfg(test)]
mod tests {
    use super::Page;
    use crate::telemetry::buckets::{self, Sums};
    use crate::telemetry::metrics::{COUNTERS, Counter, Kind, Snapshot};

    fn text(page: Page) -> String {
        String::from_utf8(page.into_text()).unwrap()
    }

    #[test]
    fn families_are_announced_once_and_every_counter_has_a_line() {
        let mut sums = Snapshot::default();
        sums.add(Counter::HandshakesResumed, 7);
        let mut page = Page::default();
        page.counters(&sums);
        let text = text(page);
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

    #[test]
    fn histograms_are_cumulative_seconds() {
        let mut sums = Sums::default();
        for micros in [10, 70, 100, 200_000_000] {
            sums.add(buckets::index(micros), 1);
            sums.add_micros(micros);
        }
        let mut page = Page::default();
        page.family("a_seconds", Kind::Histogram, "Help.");
        page.histogram("a_seconds", &[("site", "a.test")], &sums);
        let text = text(page);
        let expected = "# HELP a_seconds Help.\n# TYPE a_seconds histogram\n\
             a_seconds_bucket{site=\"a.test\",le=\"0.000064\"} 1\n\
             a_seconds_bucket{site=\"a.test\",le=\"0.000128\"} 3\n";
        assert!(text.starts_with(expected), "{text}");
        let end = "a_seconds_bucket{site=\"a.test\",le=\"67.108864\"} 3\n\
             a_seconds_bucket{site=\"a.test\",le=\"+Inf\"} 4\n\
             a_seconds_sum{site=\"a.test\"} 200.00018\na_seconds_count{site=\"a.test\"} 4\n";
        assert!(text.ends_with(end), "{text}");
    }

    #[test]
    fn labels_are_escaped() {
        let mut page = Page::default();
        page.value("x", &[("a", "\"\\\n\\\\ä"), ("b", "")], 1.5);
        assert_eq!(text(page), "x{a=\"\\\"\\\\\\n\\\\\\\\ä\",b=\"\"} 1.5\n");
    }
}
