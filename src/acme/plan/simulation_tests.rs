//! Years of renewals under a fake clock, with authorities that keep their published limits.

#[path = "simulation_tests/authority.rs"]
mod authority;
#[path = "simulation_tests/world.rs"]
mod world;

use authority::{Authority, Outage};
use world::{Random, World};
pub(super) use world::{again, policy, slot};

use super::{Reason, Severity};
use crate::config::model::Preset;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
const FIRST: &str = "https://first.test/directory";
const SECOND: &str = "https://second.test/directory";
const LIVES: [u64; 3] = [90 * DAY, 45 * DAY, 160 * HOUR];

fn public(seed: u64, slots: usize, life: u64) -> World {
    let policy = policy(&[(FIRST, Some(Preset::LetsEncrypt))]);
    World::new(seed, slots, &policy, vec![Authority::new(FIRST, life)])
}

/// Outages of up to a third of the life, of all kinds.
fn outages(random: &mut Random, from: u64, to: u64, life: u64) -> Vec<(u64, u64, Outage)> {
    let (mut at, mut found) = (from + random.below(life / 2), Vec::new());
    while at < to {
        let length = 1 + random.below(life / 3);
        let how = match random.below(3) {
            0 => Outage::Refused,
            1 => Outage::Unavailable(random.below(2 * HOUR)),
            _ => Outage::Authorizations,
        };
        found.push((at, at + length, how));
        at += length + random.below(life);
    }
    found
}

/// Runs until `end` and checks each certificate's end: it is only reached when there was no good stretch
/// as long as the longest wait.
fn run_and_watch(world: &mut World, end: u64, patience: u64) {
    let step = world.authorities[0].life / 20;
    while world.now < end {
        let before = world.states[0].certificate.clone();
        let due = world.states[0].due_at();
        world.run((world.now + step).min(end));
        let Some(certificate) = before else { continue };
        if world.now >= certificate.not_after && world.states[0].certificate.as_ref() == Some(&certificate) {
            let stretch = world.authorities[0].longest_good_stretch(due, certificate.not_after);
            assert!(stretch < patience, "expired although {stretch} s were good");
            assert_eq!(world.states[0].severity(world.now), Some(Severity::Critical));
        }
    }
}

#[test]
fn certificates_live_on_through_outages_and_crashes() {
    for seed in 0..180_u64 {
        let life = LIVES[seed as usize % LIVES.len()];
        let mut world = public(seed, 1, life);
        world.crash_each = [0, 50, 5][seed as usize / 3 % 3];
        world.authorities[0].has_ari = seed % 4 != 0;
        let end = world.now + 6 * life;
        let now = world.now;
        world.authorities[0].outages = outages(&mut world.random, now, end, life);
        // A day's wait and its spread, and an attempt that a crash spoils now and then.
        run_and_watch(&mut world, end, 54 * HOUR);
        assert!(world.histories[0].issued.len() >= 4, "seed {seed}: {}", world.histories[0].issued.len());
        assert!(world.histories[0].issued.len() <= 16, "seed {seed}: {}", world.histories[0].issued.len());
    }
}

#[test]
fn a_quiet_authority_is_asked_once_per_certificate() {
    for (seed, life) in LIVES.into_iter().enumerate() {
        for has_ari in [true, false] {
            let mut world = public(seed as u64, 1, life);
            world.authorities[0].has_ari = has_ari;
            let end = world.now + 6 * life;
            world.run(end);
            let history = &world.histories[0];
            assert_eq!(history.attempts.len(), history.issued.len());
            assert_eq!(history.warnings, 0);
            let expected = if life < 10 * DAY { 12..=13 } else { 9..=10 };
            assert!(expected.contains(&history.issued.len()), "{life}: {}", history.issued.len());
            let reason = if has_ari { Reason::RenewalInfo } else { Reason::Backstop };
            assert!(history.issued.iter().skip(1).all(|(_, why)| *why == reason));
            let replacing = if has_ari { history.issued.len() - 1 } else { 0 };
            assert_eq!(world.authorities[0].replacing, replacing);
        }
    }
}

#[test]
fn certificates_of_a_minute_are_kept_valid() {
    for seed in 0..40_u64 {
        let policy = policy(&[(FIRST, None)]);
        let mut authority = Authority::new(FIRST, 60);
        authority.limited = false;
        authority.has_ari = seed % 2 == 0;
        let mut world = World::new(seed, 1, &policy, vec![authority]);
        let end = world.now + HOUR;
        let mut at = world.now + 30;
        while at < end {
            let length = world.random.below(15);
            world.authorities[0].outages.push((at, at + length, Outage::Refused));
            at += 30 + length + world.random.below(60);
        }
        run_and_watch(&mut world, end, 6);
        let issued = world.histories[0].issued.len();
        assert!((100..=600).contains(&issued), "seed {seed}: {issued}");
    }
}

#[test]
fn thirty_days_without_authority_take_few_attempts() {
    for seed in 0..10_u64 {
        for how in [Outage::Refused, Outage::Unavailable(120), Outage::Authorizations] {
            for life in LIVES {
                let mut world = public(seed, 1, life);
                let start = world.now;
                world.run(start + HOUR);
                let due = world.states[0].due_at();
                let (from, to) = (due - 1, due + 30 * DAY);
                world.authorities[0].outages.push((from, to, how));
                world.run(to);
                let end = world.states[0].certificate.as_ref().unwrap().not_after;
                let attempts = world.histories[0].attempts.iter().filter(|at| **at >= from);
                let alive = attempts.clone().filter(|at| **at < end).count();
                assert!((20..150).contains(&alive), "{life} {how:?}: {alive}");
                // Short ones are expired for most of the time, which is tried for hourly for a week.
                assert!((60..350).contains(&attempts.count()), "{life} {how:?}");
                assert!(world.steps < 2500, "{life} {how:?}: no busy loop, {}", world.steps);
                world.run(to + 8 * HOUR);
                assert_eq!(world.histories[0].issued.len(), 2, "{life} {how:?}");
            }
        }
    }
}

#[test]
fn severity_rises_and_the_hook_is_not_a_flood() {
    let mut world = public(1, 1, 90 * DAY);
    let start = world.now;
    world.run(start + HOUR);
    let due = world.states[0].due_at();
    world.authorities[0].outages.push((due - 1, due + 40 * DAY, Outage::Refused));
    world.run(due - 2);
    assert_eq!(world.states[0].severity(world.now), None);
    let (mut seen, mut hooks) = (Vec::new(), 0);
    while world.now < due + 30 * DAY {
        world.run(world.now + 10 * MINUTE);
        let (severity, now) = (world.states[0].severity(world.now), world.now);
        if seen.last() != Some(&severity) {
            seen.push(severity);
        }
        if world.states[0].hook_due(now) {
            world.states[0].hook_told(now);
            hooks += 1;
        }
    }
    let rising = [Some(Severity::Warn), Some(Severity::Error), Some(Severity::Critical)];
    assert_eq!(seen, rising);
    // Daily for a week, then hourly.
    assert!((8 + 500..8 + 23 * 24).contains(&hooks), "{hooks}");
}

#[test]
fn a_mass_revocation_is_answered_within_one_question() {
    for seed in 0..5_u64 {
        let mut world = public(seed, 200, 90 * DAY);
        let start = world.now;
        world.run(start + 20 * DAY);
        assert_eq!(world.authorities[0].order_times.len(), 200);
        world.authorities[0].revoked_up_to = 200;
        world.run(start + 20 * DAY + 8 * HOUR + 200 * 36);
        let renewed = world.histories.iter().filter(|history| history.issued.len() == 2).count();
        assert_eq!(renewed, 200, "seed {seed}");
        assert_eq!(world.authorities[0].replacing, 200);
        assert!(world.histories.iter().all(|history| history.warnings == 1));
        world.run(start + 40 * DAY);
        assert!(world.histories.iter().all(|history| history.issued.len() == 2));
    }
}

#[test]
fn renewal_information_stuck_in_the_past_does_not_storm() {
    let mut world = public(3, 1, 90 * DAY);
    let start = world.now;
    world.authorities[0].stuck = true;
    // The authority's own limits are asserted on the way.
    world.run(start + 70 * DAY);
    let issued = world.histories[0].issued.len();
    assert!((30..=41).contains(&issued), "{issued}");
}

#[test]
fn a_wrong_clock_costs_one_certificate_at_most() {
    for seed in 0..60_u64 {
        for skew in
            [120 * DAY as i64, -2 * HOUR as i64, 400 * DAY as i64, -40 * DAY as i64, -400 * DAY as i64]
        {
            for (looks_twice, crash_each) in [(true, 0), (false, 0), (true, 8), (false, 8)] {
                let mut world = public(seed, 1, 90 * DAY);
                let start = world.now;
                let step_at = start + DAY + world.random.below(50 * DAY);
                world.run(step_at);
                world.looks_twice = looks_twice;
                world.crash_each = crash_each;
                let (from, certificate) = (world.now, world.states[0].certificate.clone().unwrap());
                world.set_skew(skew);
                world.run(from + 8 * DAY);
                let issued = world.histories[0].issued.iter().filter(|(at, _)| *at >= from).count();
                assert!(issued <= 1, "{skew} s, seed {seed}: {issued} in 8 days");
                world.run(from + 40 * DAY);
                world.set_skew(0);
                world.run(from + 90 * DAY);
                let all = &world.histories[0].issued;
                let issued = all.iter().filter(|(at, _)| *at >= from).count();
                assert!((1..=4).contains(&issued), "{skew} s, seed {seed}: {issued} in 90 days");
                assert!(all.iter().any(|(at, _)| *at > start + HOUR && *at < certificate.not_after));
                assert!(world.states[0].certificate.as_ref().unwrap().not_after > world.now);
                assert!(!world.clock.is_overruled() && world.plan_now() == world.now);
                assert!(world.steps < 2500, "{skew} s, seed {seed}: no busy loop, {}", world.steps);
            }
        }
    }
}

#[test]
fn a_clock_that_jumps_about_does_no_harm() {
    for seed in 0..100_u64 {
        let mut world = public(seed, 1, LIVES[seed as usize % LIVES.len()]);
        world.crash_each = [0, 20, 2][seed as usize / 3 % 3];
        let life = world.authorities[0].life;
        let end = world.now + 3 * life;
        let mut steps = 0;
        while world.now < end {
            let next = world.now + world.random.below(life / 4);
            world.run(next);
            let size = world.random.below(200 * DAY) as i64;
            let skew = [0, size, -size, size / 1000][world.random.below(4) as usize];
            world.set_skew(skew);
            steps += 1;
        }
        world.set_skew(0);
        world.run(end + DAY);
        let issued = world.histories[0].issued.len();
        assert!(issued <= 8 + steps, "seed {seed}: {issued} after {steps} steps");
        assert!(world.states[0].certificate.as_ref().unwrap().not_after > world.now, "seed {seed}");
    }
}

#[test]
fn a_crash_loop_does_not_try_faster() {
    for how in [Outage::Refused, Outage::Authorizations, Outage::Unavailable(600)] {
        let attempts = |restart_each: u64| {
            let mut world = public(7, 1, 90 * DAY);
            let start = world.now;
            world.authorities[0].outages.push((start, start + 3 * DAY, how));
            while world.now < start + DAY {
                world.run(world.now + 5);
                if restart_each > 0 && world.now.is_multiple_of(restart_each) {
                    world.restart();
                }
            }
            world.histories[0].attempts.len()
        };
        let (calm, looping) = (attempts(0), attempts(15));
        assert!((4..=8).contains(&calm), "{how:?}: {calm}");
        assert!(looping <= calm + 1, "{how:?}: {looping} against {calm}");
    }
    // Killed in the middle of each order, before its outcome is known.
    let mut world = public(9, 1, 90 * DAY);
    let start = world.now;
    world.crash_each = 1;
    world.run(start + DAY);
    assert!(world.states[0].failing.as_ref().unwrap().count <= 8);
}

#[test]
fn a_thousand_slots_spread_out() {
    for (has_ari, slots) in [(true, 300), (false, 1000)] {
        let mut world = public(11, slots, 90 * DAY);
        world.authorities[0].has_ari = has_ari;
        let start = world.now;
        world.run(start + 11 * HOUR);
        let first = world.authorities[0].order_times.clone();
        assert_eq!(first.len(), slots, "all within the account's own pace");
        let burst = first.iter().filter(|at| **at < start + 30 * MINUTE).count();
        assert!(burst <= 20 + 50, "{burst}");
        world.run(start + 75 * DAY);
        let second: Vec<u64> = world.authorities[0].order_times.split_off(slots);
        assert_eq!(second.len(), slots);
        let (first, last) = (second.iter().min().unwrap(), second.iter().max().unwrap());
        assert!(last - first > DAY, "{} s", last - first);
        let busiest =
            second.iter().map(|at| second.iter().filter(|b| (*at..*at + HOUR).contains(*b)).count());
        assert!(busiest.max().unwrap() <= 120);
    }
}

#[test]
fn the_next_authority_is_asked_for_its_turn_only() {
    for seed in 0..20_u64 {
        let authorities = [(FIRST, Some(Preset::LetsEncrypt)), (SECOND, Some(Preset::ZeroSsl))];
        let both = || vec![Authority::new(FIRST, 90 * DAY), Authority::new(SECOND, 90 * DAY)];
        let mut world = World::new(seed, 1, &policy(&authorities), both());
        let start = world.now;
        world.authorities[0].outages.push((start, start + 10 * DAY, Outage::Refused));
        world.run(start + 40 * MINUTE);
        assert_eq!(world.histories[0].issued.len(), 0, "an hour's patience");
        world.run(start + 5 * HOUR);
        assert_eq!(world.authorities[1].order_times.len(), 1);
        world.run(start + 70 * DAY);
        assert_eq!(world.authorities[0].order_times.len(), 1, "the first again");
        assert_eq!(world.authorities[1].order_times.len(), 1);
        // The operator's own fault is not taken elsewhere.
        let mut world = World::new(seed, 1, &policy(&authorities), both());
        world.authorities[0].outages.push((start, start + 10 * DAY, Outage::Authorizations));
        world.run(start + 10 * DAY);
        assert!(world.authorities[1].contacts.is_empty());
        assert_eq!(world.histories[0].issued.len(), 0);
    }
}
