//! How long a slot waits after a failure.

use super::failure::FailureKind;
use super::state::Certificate;
use super::{Draw, scaled, times};
use crate::limits;

/// Seconds to the next attempt after `count` failures in a row, the last of `kind` at `now`.
pub(super) fn wait(
    certificate: Option<&Certificate>,
    kind: FailureKind,
    count: u32,
    retry_after: Option<u64>,
    now: u64,
    draw: Draw,
) -> u64 {
    // Without a certificate nothing is known of its life: the waits of long ones are the careful choice.
    let life = certificate.map_or(limits::ACME_REFERENCE_LIFE.as_secs(), Certificate::life);
    let own = if kind.is_blocked() {
        scaled(limits::ACME_BLOCKED_RETRY, life)
    } else if kind == FailureKind::LostOrder {
        scaled(limits::ACME_LOST_ORDER_RETRY, life)
    } else if kind == FailureKind::Preflight {
        step(count, life).min(limits::PREFLIGHT_RETRY.as_secs()).min(cap(certificate, life, now))
    } else {
        step(count, life).min(cap(certificate, life, now))
    };
    let spread = 1.0 + limits::ACME_BACKOFF_SPREAD * (2.0 * draw.first() - 1.0);
    let own = times(own, spread).max(1);
    // These two close the account or the authority for all slots, and the budget keeps that mark; the slot
    // itself may go to another authority meanwhile.
    let elsewhere = matches!(kind, FailureKind::RateLimited | FailureKind::Unavailable | FailureKind::Paused);
    let asked = retry_after.filter(|_| !elsewhere).unwrap_or(0);
    own.max(asked.min(limits::ACME_RETRY_AFTER_MAX.as_secs()))
}

fn step(count: u32, life: u64) -> u64 {
    let at = usize::try_from(count.saturating_sub(1)).unwrap_or(usize::MAX);
    let [.., last] = limits::ACME_BACKOFF;
    scaled(*limits::ACME_BACKOFF.get(at).unwrap_or(&last), life)
}

/// The longest wait that what is left of the certificate permits.
fn cap(certificate: Option<&Certificate>, life: u64, now: u64) -> u64 {
    let soon = scaled(limits::ACME_BACKOFF_SOON, life);
    let Some(certificate) = certificate else { return soon };
    let left = certificate.left(now);
    let given_up = certificate.not_after.saturating_add(scaled(limits::ACME_GIVEN_UP, life));
    if now >= given_up {
        soon
    } else if left < scaled(limits::ACME_LAST, life) {
        scaled(limits::ACME_BACKOFF_LAST, life)
    } else if left < life / 4 || left < scaled(limits::ACME_SOON, life) {
        soon
    } else {
        u64::MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 24 * 3600;
    const NOW: u64 = 2_000_000_000;
    /// No spread.
    const MIDDLE: Draw = Draw(1 << 63);

    fn left(life: u64, left: u64) -> Certificate {
        Certificate { not_before: NOW + left - life, not_after: NOW + left, ..Certificate::default() }
    }

    fn after(count: u32, certificate: Option<&Certificate>) -> u64 {
        wait(certificate, FailureKind::Server, count, None, NOW, MIDDLE)
    }

    #[test]
    fn waits_grow_and_shrink_with_what_is_left() {
        let early = left(90 * DAY, 30 * DAY);
        assert_eq!([1, 2, 3, 4, 9].map(|count| after(count, Some(&early))), [60, 600, 6000, DAY, DAY]);
        let hours = |life, rest| after(9, Some(&left(life, rest))) / 3600;
        assert_eq!(hours(90 * DAY, 22 * DAY), 6, "a quarter");
        assert_eq!(hours(160 * 3600, 70 * 3600), 6, "three days");
        assert_eq!(hours(90 * DAY, DAY - 1), 1);
        let expired = |ago: u64| {
            let certificate =
                Certificate { not_before: NOW - 90 * DAY - ago, not_after: NOW - ago, ..left(1, 0) };
            after(9, Some(&certificate)) / 3600
        };
        assert_eq!((expired(1), expired(8 * DAY)), (1, 6));
        assert_eq!([1, 2, 3, 4].map(|count| after(count, None)), [60, 600, 6000, 6 * 3600]);
        assert_eq!([1, 2, 3, 4].map(|count| after(count, Some(&left(60, 29)))), [1, 1, 1, 2]);
    }

    #[test]
    fn kinds_differ() {
        let certificate = left(90 * DAY, 30 * DAY);
        let wait = |kind, retry_after| wait(Some(&certificate), kind, 1, retry_after, NOW, MIDDLE);
        assert_eq!(wait(FailureKind::Caa, None), DAY);
        assert_eq!(wait(FailureKind::LostOrder, None), 60);
        let looks = [1, 2, 3, 9]
            .map(|count| super::wait(Some(&certificate), FailureKind::Preflight, count, None, NOW, MIDDLE));
        assert_eq!(looks, [60, 600, 3600, 3600], "a look costs nobody anything");
        assert_eq!(wait(FailureKind::Server, Some(30)), 60);
        assert_eq!(wait(FailureKind::Server, Some(900)), 900);
        assert_eq!(wait(FailureKind::Server, Some(u64::MAX)), 7 * DAY);
        assert_eq!(wait(FailureKind::RateLimited, Some(900)), 60, "the budget keeps it for the account");
    }

    #[test]
    fn waits_spread_by_a_tenth() {
        let certificate = left(90 * DAY, 30 * DAY);
        let wait = |draw| wait(Some(&certificate), FailureKind::Server, 4, None, NOW, Draw(draw));
        assert_eq!((wait(0), wait(u64::MAX)), (77760, 95039));
    }
}
