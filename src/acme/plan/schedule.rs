//! When a certificate is due by its dates alone.

use super::state::Certificate;
use super::times;
use crate::limits;

/// Seconds by which one certificate's renewal is early, for a draw of `[0, 1)`.
pub(super) fn jitter(certificate: &Certificate, draw: f64) -> u64 {
    times(certificate.life(), limits::ACME_JITTER * draw)
}

/// When it is renewed if the authority gives no renewal information: a third of its life before its end,
/// half for short ones, a little earlier by its jitter.
pub(super) fn backstop(certificate: &Certificate, jitter: u64) -> u64 {
    let life = certificate.life();
    let left = if life >= limits::ACME_SHORT_LIFE.as_secs() { life / 3 } else { life / 2 };
    certificate.not_after.saturating_sub(left).saturating_sub(jitter)
}

/// When it is renewed whatever renewal information says.
pub(super) fn emergency(certificate: &Certificate) -> u64 {
    let life = certificate.life();
    let left = (life / 20).max(limits::ACME_EMERGENCY.as_secs().min(life / 4));
    certificate.not_after.saturating_sub(left)
}
