//! Renewal information (RFC 9773): the window that the authority suggests, one moment chosen in it, and
//! when to ask again.

use serde::{Deserialize, Serialize};

use super::state::Certificate;
use super::{Draw, cut, scaled, times};
use crate::limits;

/// A suggested window, in seconds since the epoch; the end is outside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Window {
    /// First second.
    pub start: u64,
    /// First second after it.
    pub end: u64,
}

/// An answer of the authority.
#[derive(Clone, Debug)]
pub struct RenewalInfo {
    /// `suggestedWindow`.
    pub window: Window,
    /// `explanationURL`; cut at [`crate::limits::ACME_EXPLANATION_BYTES`].
    pub explanation: Option<String>,
    /// `Retry-After` in seconds from now.
    pub retry_after: Option<u64>,
}

/// No usable answer came: connect, status, JSON.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RenewalInfoError {
    /// `Retry-After` in seconds from now, if there was one.
    pub retry_after: Option<u64>,
}

/// The authority moved the window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WindowChanged {
    /// Window until now.
    pub old: Window,
    /// Window from now on.
    pub new: Window,
    /// Page that says why.
    pub explanation: Option<String>,
}

/// What is known of one certificate's renewal information.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ari {
    /// Last good window.
    pub window: Option<Window>,
    /// Moment chosen in it, once.
    pub selected: Option<u64>,
    /// Page that says why it is as it is.
    pub explanation: Option<String>,
    /// When it was last asked for, or when the certificate came.
    pub asked_at: u64,
    /// Seconds from then to the next question.
    pub wait: u64,
    /// Questions without a usable answer, in a row.
    pub failures: u32,
}

impl Ari {
    /// For a new certificate: asked for after a few minutes.
    pub(super) fn first(certificate: &Certificate, now: u64, draw: f64) -> Self {
        let (min, max) = (limits::ACME_ARI_FIRST_MIN.as_secs(), limits::ACME_ARI_FIRST_MAX.as_secs());
        let wait = std::time::Duration::from_secs(min.saturating_add(times(max.saturating_sub(min), draw)));
        Self { asked_at: now, wait: scaled(wait, certificate.life()), ..Self::default() }
    }

    /// When to ask next.
    #[must_use]
    pub fn next_poll(&self) -> u64 {
        self.asked_at.saturating_add(self.wait)
    }

    pub(super) fn mend(&mut self, now: u64) {
        self.asked_at = self.asked_at.min(now);
    }
}

/// Takes an answer in.
pub(super) fn answered(
    ari: &mut Ari,
    certificate: &Certificate,
    answer: Result<RenewalInfo, RenewalInfoError>,
    now: u64,
    draw: Draw,
) -> Option<WindowChanged> {
    ari.asked_at = now;
    let retry_after = match &answer {
        Ok(info) => info.retry_after,
        Err(error) => error.retry_after,
    };
    let Some(info) = answer.ok().filter(|info| is_valid(info.window, certificate)) else {
        ari.wait = failed_wait(ari.failures, retry_after, certificate.life());
        ari.failures = ari.failures.saturating_add(1);
        return None;
    };
    ari.failures = 0;
    ari.wait = poll_wait(retry_after, certificate.life());
    let explanation = info.explanation.map(|url| cut(url, limits::ACME_EXPLANATION_BYTES));
    ari.explanation.clone_from(&explanation);
    let old = ari.window.replace(info.window);
    if old == Some(info.window) && ari.selected.is_some() {
        return None;
    }
    let length = info.window.end.saturating_sub(info.window.start);
    // Rounding may reach the end, which is outside.
    let offset = times(length, draw.first()).min(length.saturating_sub(1));
    ari.selected = Some(info.window.start.saturating_add(offset));
    old.map(|old| WindowChanged { old, new: info.window, explanation })
}

/// Whether a window can be meant: not empty, and not after the certificate's end.
fn is_valid(window: Window, certificate: &Certificate) -> bool {
    window.start < window.end && window.start < certificate.not_after
}

/// Seconds to the next question after a good answer.
fn poll_wait(retry_after: Option<u64>, life: u64) -> u64 {
    let least = scaled(limits::ACME_ARI_POLL_MIN, life);
    let most = scaled(limits::ACME_ARI_POLL_MAX, life);
    retry_after.unwrap_or_else(|| scaled(limits::ACME_ARI_POLL, life)).clamp(least, most)
}

/// The same after a bad one: 1, 2, 4 minutes, up to the usual time.
fn failed_wait(failures: u32, retry_after: Option<u64>, life: u64) -> u64 {
    let least = scaled(limits::ACME_ARI_POLL_MIN, life);
    let usual = scaled(limits::ACME_ARI_POLL, life);
    let doubled = 1_u64.checked_shl(failures).and_then(|factor| least.checked_mul(factor)).unwrap_or(usual);
    let most = scaled(limits::ACME_ARI_POLL_MAX, life);
    doubled.min(usual).max(retry_after.unwrap_or(0).min(most))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 24 * 3600;
    const NOW: u64 = 2_000_000_000;

    fn certificate(life: u64) -> Certificate {
        Certificate { not_before: NOW, not_after: NOW + life, ..Certificate::default() }
    }

    fn info(start: u64, end: u64, retry_after: Option<u64>) -> Result<RenewalInfo, RenewalInfoError> {
        let explanation = Some("https://ca.test/why".to_owned());
        Ok(RenewalInfo { window: Window { start, end }, explanation, retry_after })
    }

    #[test]
    fn the_first_question_comes_within_minutes() {
        assert_eq!(Ari::first(&certificate(90 * DAY), NOW, 0.0).next_poll(), NOW + 60);
        assert_eq!(Ari::first(&certificate(90 * DAY), NOW, 0.999_999).next_poll(), NOW + 599);
        assert_eq!(Ari::first(&certificate(60), NOW, 0.5).next_poll(), NOW + 1);
    }

    #[test]
    fn a_moment_is_chosen_once_per_window() {
        let certificate = certificate(90 * DAY);
        let mut ari = Ari::default();
        let mut ask = |answer, draw| {
            let changed = answered(&mut ari, &certificate, answer, NOW, Draw(draw));
            (changed, ari.clone())
        };
        let (changed, first) = ask(info(NOW + 100, NOW + 200, None), u64::MAX);
        assert_eq!((changed, first.selected), (None, Some(NOW + 199)));
        let (changed, same) = ask(info(NOW + 100, NOW + 200, None), 0);
        assert_eq!((changed, same.selected), (None, Some(NOW + 199)));
        let (changed, moved) = ask(info(NOW - 300, NOW - 200, None), 0);
        assert_eq!(moved.selected, Some(NOW - 300));
        let changed = changed.unwrap();
        assert_eq!(changed.old, Window { start: NOW + 100, end: NOW + 200 });
        assert_eq!(changed.explanation.as_deref(), Some("https://ca.test/why"));
    }

    #[test]
    fn bad_answers_keep_the_last_good_one_and_wait_longer() {
        let certificate = certificate(90 * DAY);
        let mut ari = Ari::default();
        answered(&mut ari, &certificate, info(NOW + 100, NOW + 200, None), NOW, Draw(0));
        let bad = [
            info(NOW + 200, NOW + 200, None),
            info(NOW + 200, NOW + 100, None),
            info(NOW + 91 * DAY, NOW + 92 * DAY, None),
            Err(RenewalInfoError::default()),
        ];
        let mut waits = Vec::new();
        for answer in bad.into_iter().chain((0..70).map(|_| Err(RenewalInfoError::default()))) {
            assert_eq!(answered(&mut ari, &certificate, answer, NOW, Draw(0)), None);
            assert_eq!(ari.selected, Some(NOW + 100));
            waits.push(ari.wait);
        }
        assert_eq!(&waits[..5], [60, 120, 240, 480, 960]);
        assert!(waits.iter().skip(9).all(|wait| *wait == 6 * 3600), "no overflow");
        answered(&mut ari, &certificate, info(NOW + 100, NOW + 200, None), NOW, Draw(0));
        assert_eq!(ari.failures, 0);
    }

    #[test]
    fn retry_after_is_believed_within_bounds() {
        let wait = |retry_after, life| {
            let mut ari = Ari::default();
            answered(&mut ari, &certificate(life), info(NOW, NOW + 1, retry_after), NOW, Draw(0));
            ari.wait
        };
        assert_eq!(wait(None, 90 * DAY), 6 * 3600);
        assert_eq!(wait(Some(0), 90 * DAY), 60);
        assert_eq!(wait(Some(7200), 90 * DAY), 7200);
        assert_eq!(wait(Some(u64::MAX), 90 * DAY), DAY / 2, "twice a day at least");
        assert_eq!(wait(None, 60), 2);
    }
}
