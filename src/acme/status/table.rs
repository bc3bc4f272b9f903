//! The status as a table for a terminal.

use super::{Severity, SlotStatus, Status};

const HEADINGS: [&str; 6] = ["NAME", "STATE", "ISSUER", "EXPIRES", "RENEWS", "NEXT TRY"];

/// A line for each certificate, with its last error beneath, then what concerns all of them. `now` in
/// seconds since the epoch.
#[must_use]
pub fn table(status: &Status, now: u64) -> String {
    let mut rows: Vec<[String; 6]> = vec![HEADINGS.map(str::to_owned)];
    rows.extend(status.slots.iter().map(|slot| row(slot, status, now)));
    let mut widths = [0; 6];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut out = String::new();
    let (heading, rows) = rows.split_at(1);
    heading.iter().for_each(|row| line(&mut out, row, &widths));
    for (row, slot) in rows.iter().zip(&status.slots) {
        line(&mut out, row, &widths);
        notes(&mut out, slot, now);
    }
    if status.slots.is_empty() {
        out.push_str("no site needs a certificate from an authority\n");
    }
    whole(&mut out, status, now);
    out
}

fn row(slot: &SlotStatus, status: &Status, now: u64) -> [String; 6] {
    let state = match &slot.step {
        Some(step) => format!("{} ({})", slot.state.word(), plain(step)),
        None => slot.state.word().to_owned(),
    };
    let issuer = slot.issuer.as_ref().map_or_else(String::new, |directory| {
        let known = status.authorities.iter().find(|authority| authority.directory == *directory);
        plain(known.map_or(directory, |authority| &authority.name))
    });
    let when = |at: Option<u64>| at.map_or_else(|| "-".to_owned(), |at| relative(at, now));
    [
        plain(&slot.name),
        state,
        issuer,
        when(slot.not_after),
        when(slot.renew_at),
        when(slot.next_attempt.filter(|_| slot.failures > 0)),
    ]
}

fn line(out: &mut String, row: &[String; 6], widths: &[usize; 6]) {
    let mut text = String::new();
    for (cell, width) in row.iter().zip(widths) {
        text.push_str(cell);
        text.extend(std::iter::repeat_n(' ', width.saturating_sub(cell.chars().count()) + 2));
    }
    out.push_str(text.trim_end());
    out.push('\n');
}

fn notes(out: &mut String, slot: &SlotStatus, now: u64) {
    if let Some(error) = &slot.last_error {
        let severity = match slot.severity {
            Severity::Ok | Severity::Warn => "warning",
            Severity::Error => "error",
            Severity::Critical => "critical",
        };
        let since =
            slot.failing_since.map_or_else(String::new, |at| format!(", since {}", relative(at, now)));
        out.push_str(&format!("  {severity}: {} (failure {}{since})\n", plain(error), slot.failures));
    }
    if slot.clock_suspect {
        out.push_str("  the certificate is not valid by the clock of this machine: check the clock\n");
    }
    if let Some(page) = &slot.explanation {
        out.push_str(&format!("  the authority says why it wants a renewal: {}\n", plain(page)));
    }
}

fn whole(out: &mut String, status: &Status, now: u64) {
    if let Some(error) = &status.storage_error {
        out.push_str(&format!("state directory: {}\n", plain(error)));
    }
    if !status.leader {
        out.push_str("another process renews; this one loads what it stores\n");
    }
    for authority in &status.authorities {
        if let Some(until) = authority.retry_after.filter(|until| *until > now) {
            out.push_str(&format!(
                "{} is left alone for {}\n",
                plain(&authority.name),
                duration(until - now)
            ));
        }
    }
}

/// A moment by its distance from now, in its two largest units.
pub(in crate::acme) fn relative(at: u64, now: u64) -> String {
    let text = duration(at.abs_diff(now));
    if at >= now { format!("in {text}") } else { format!("{text} ago") }
}

/// Seconds in their two largest units.
fn duration(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min"),
        (0, _, _) => format!("{hours} h {minutes} min"),
        (1..=9, _, _) => format!("{days} d {hours} h"),
        _ => format!("{days} d"),
    }
}

/// Text of others without what a terminal would act on.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::example;
    use super::{duration, relative, table};

    #[test]
    fn a_table_shows_what_matters_and_nothing_that_a_terminal_acts_on() {
        let text = table(&example(), 1_000_060);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "NAME           STATE    ISSUER      EXPIRES  RENEWS   NEXT TRY");
        assert_eq!(lines[1], "a.example.com  valid    ca.example  in 89 d  in 59 d  -");
        assert_eq!(lines[2], "bad?\"x\"        blocked              -        -        in 23 h 59 min");
        assert!(lines[3].starts_with("  error: newOrder: status 403, caa: ?[31mno (failure 2, since "));
        assert!(lines[4].contains("ca.example is left alone for 1 min"), "{text}");
        assert!(!text.contains('\u{1b}'));
    }

    #[test]
    fn durations_have_two_units() {
        let shown: Vec<String> = [0, 59, 60, 3700, 86_400 * 2 + 3600, 86_400 * 30].map(duration).into();
        assert_eq!(shown, ["0 s", "59 s", "1 min", "1 h 1 min", "2 d 1 h", "30 d"]);
        assert_eq!(relative(10, 20), "10 s ago");
    }
}
