//! The status as metrics (Prometheus text format 0.0.4).

use std::fmt::Write;

use super::{Severity, SlotStatus, Status};

/// One family of metrics about certificates: its name without the common prefix, its meaning, and its value
/// for one certificate.
struct Family {
    name: &'static str,
    help: &'static str,
    value: fn(&SlotStatus) -> Option<u64>,
}

const FAMILIES: [Family; 12] = [
    Family {
        name: "certificate_not_after_seconds",
        help: "End of validity, Unix time.",
        value: |slot| slot.not_after,
    },
    Family {
        name: "certificate_not_before_seconds",
        help: "Start of validity, Unix time.",
        value: |slot| slot.not_before,
    },
    Family {
        name: "certificate_generation",
        help: "Generation of the certificate on disk.",
        value: |slot| slot.generation,
    },
    Family {
        name: "renewal_due_seconds",
        help: "When renewal is due, Unix time.",
        value: |slot| slot.renew_at,
    },
    Family {
        name: "next_attempt_seconds",
        help: "When the next order may be placed, Unix time.",
        value: |slot| slot.next_attempt,
    },
    Family {
        name: "renewal_failing",
        help: "1 while renewal fails so that a person should look.",
        value: |slot| Some(u64::from(slot.severity >= Severity::Error)),
    },
    Family {
        name: "consecutive_failures",
        help: "Failed orders in a row.",
        value: |slot| Some(u64::from(slot.failures)),
    },
    Family {
        name: "last_success_seconds",
        help: "When the last order succeeded, Unix time.",
        value: |slot| slot.last_success,
    },
    Family {
        name: "ari_window_start_seconds",
        help: "Start of the suggested renewal window (RFC 9773), Unix time.",
        value: |slot| slot.window_start,
    },
    Family {
        name: "ari_window_end_seconds",
        help: "End of the suggested renewal window (RFC 9773), Unix time.",
        value: |slot| slot.window_end,
    },
    Family {
        name: "in_memory_only",
        help: "1 while the certificate in use could not be stored.",
        value: |slot| Some(u64::from(slot.state == super::State::InMemoryOnly)),
    },
    Family {
        name: "clock_suspect",
        help: "1 while the certificate is not valid by the local clock.",
        value: |slot| Some(u64::from(slot.clock_suspect)),
    },
];

/// Appends every metric of `status` to `out`: a `# HELP` and a `# TYPE` line per family, then its members.
pub fn write(status: &Status, out: &mut Vec<u8>) {
    let mut text = String::new();
    for family in &FAMILIES {
        head(&mut text, family.name, family.help, "gauge");
        for slot in &status.slots {
            if let Some(value) = (family.value)(slot) {
                line(&mut text, family.name, &format!("slot=\"{}\"", escaped(&slot.name)), value);
            }
        }
    }
    attempts(&mut text, status);
    head(&mut text, "ca_retry_after_seconds", "Until when an authority is left alone, Unix time.", "gauge");
    for authority in &status.authorities {
        let labels = format!("ca=\"{}\"", escaped(&authority.name));
        line(&mut text, "ca_retry_after_seconds", &labels, authority.retry_after.unwrap_or(0));
    }
    if let Some(skew) = status.clock_skew {
        head(&mut text, "clock_skew_seconds", "Local clock ahead of the authorities'.", "gauge");
        line(&mut text, "clock_skew_seconds", "", skew);
    }
    let whole = [
        (
            "storage_ok",
            "1 while the state directory can be written.",
            u64::from(status.storage_error.is_none()),
        ),
        ("leader", "1 in the process that renews.", u64::from(status.leader)),
        ("last_tick_timestamp_seconds", "The acme thread's last sign of life, Unix time.", status.last_tick),
    ];
    for (name, help, value) in whole {
        head(&mut text, name, help, "gauge");
        line(&mut text, name, "", value);
    }
    let help = "Times that the acme thread was started anew after a defect.";
    head(&mut text, "thread_restarts_total", help, "counter");
    line(&mut text, "thread_restarts_total", "", status.thread_restarts);
    out.extend_from_slice(text.as_bytes());
}

fn attempts(text: &mut String, status: &Status) {
    head(text, "attempts_total", "Orders by result, and by kind of failure.", "counter");
    for slot in &status.slots {
        let name = escaped(&slot.name);
        line(text, "attempts_total", &format!("slot=\"{name}\",result=\"ok\",kind=\"\""), slot.succeeded);
        for (kind, count) in &slot.failed {
            let kind = escaped(kind);
            line(
                text,
                "attempts_total",
                &format!("slot=\"{name}\",result=\"failed\",kind=\"{kind}\""),
                count,
            );
        }
    }
}

fn head(text: &mut String, name: &str, help: &str, kind: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "# HELP lockring_acme_{name} {help}\n# TYPE lockring_acme_{name} {kind}");
}

fn line(text: &mut String, name: &str, labels: &str, value: impl std::fmt::Display) {
    let labels = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
    let _ = writeln!(text, "lockring_acme_{name}{labels} {value}");
}

/// A label's value as the format wants it.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::super::tests::example;
    use super::write;

    #[test]
    fn families_are_announced_once_and_labels_are_escaped() {
        let mut out = Vec::new();
        write(&example(), &mut out);
        let text = String::from_utf8(out).unwrap();
        for line in [
            "lockring_acme_certificate_not_after_seconds{slot=\"a.example.com\"} 8776000",
            "lockring_acme_renewal_failing{slot=\"bad\\n\\\"x\\\"\"} 1",
            "lockring_acme_attempts_total{slot=\"bad\\n\\\"x\\\"\",result=\"failed\",kind=\"caa\"} 2",
            "lockring_acme_ca_retry_after_seconds{ca=\"ca.example\"} 1000120",
            "lockring_acme_clock_skew_seconds -3",
            "lockring_acme_storage_ok 1",
            "lockring_acme_thread_restarts_total 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        let mut types: Vec<&str> = text.lines().filter(|line| line.starts_with("# TYPE")).collect();
        let all = types.len();
        types.sort_unstable();
        types.dedup();
        assert_eq!(types.len(), all);
        let families = text.lines().filter(|line| !line.starts_with('#'));
        assert!(families.into_iter().all(|line| line.starts_with("lockring_acme_")));
    }
}
