//! Tests of the lease with a clock of their own, and of many instances over one file.

use super::{Action, Lease, Look, Record};
use crate::limits::{LEASE_INTERVAL, LEASE_QUIET, LEASE_SETTLE, LEASE_VALID, LEASE_WRITE};
use std::time::{Duration, Instant};

const SECOND: Duration = Duration::from_secs(1);

fn record(instance: &str, counter: u64) -> Record {
    Record { instance: instance.to_owned(), counter, released: false }
}

fn found(instance: &str, counter: u64) -> Look {
    Look::Record(record(instance, counter))
}

/// A lease that leads since `now`, over a file that was not there.
fn leader(now: Instant) -> Lease {
    let mut lease = Lease::new("a", now);
    assert_eq!(lease.looked(Look::Absent, now, now), Action::Create(record("a", 1)));
    assert!(!lease.leads(now), "not before it is written");
    lease.wrote(true, now);
    assert!(lease.leads(now));
    lease
}

#[test]
fn the_first_of_all_leads_at_once_and_renews() {
    let start = Instant::now();
    let mut lease = leader(start);
    for n in 1..50 {
        let now = lease.deadline();
        assert_eq!(now, start + LEASE_INTERVAL * u32::try_from(n).unwrap());
        assert_eq!(lease.looked(found("a", n), now, now), Action::Replace(record("a", n + 1)));
        lease.wrote(true, now);
        assert!(lease.leads(now + LEASE_VALID - SECOND));
        assert!(!lease.leads(now + LEASE_VALID), "not without the next one");
    }
}

#[test]
fn of_two_firsts_one_leads() {
    let now = Instant::now();
    let mut lease = Lease::new("b", now);
    assert!(matches!(lease.looked(Look::Absent, now, now), Action::Create(_)));
    lease.wrote(false, now);
    assert!(!lease.leads(now));
}

#[test]
fn another_leads_sixty_seconds_after_the_last_change() {
    let start = Instant::now();
    let mut lease = Lease::new("b", start);
    let mut now = start;
    for n in 1..20 {
        assert_eq!(lease.looked(found("a", n), now, now), Action::Wait, "while it changes");
        now += LEASE_QUIET - SECOND;
    }
    let last = now - (LEASE_QUIET - SECOND);
    let mut action = Action::Wait;
    while action == Action::Wait {
        now = lease.deadline();
        action = lease.looked(found("a", 19), now, now);
    }
    assert_eq!(now, last + LEASE_QUIET);
    assert_eq!(action, Action::Replace(record("b", 20)));
    lease.wrote(true, now);
    while now < last + LEASE_QUIET + LEASE_SETTLE {
        assert!(!lease.leads(now), "a claim is no leadership");
        now = lease.deadline();
        action = lease.looked(found("b", 20), now, now);
    }
    assert_eq!((now - last, action), (60 * SECOND, Action::Replace(record("b", 21))));
    assert!(lease.leads(now));
}

#[test]
fn a_leader_steps_down_when_it_sees_another() {
    let start = Instant::now();
    for other in [found("b", 2), Look::Absent, Look::Unreadable(b"x".to_vec()), found("a", 9)] {
        let mut lease = leader(start);
        let now = start + LEASE_INTERVAL;
        assert_eq!(lease.looked(other.clone(), now, now), Action::Wait, "{other:?}");
        assert!(!lease.leads(now), "{other:?}");
    }
}

#[test]
fn a_leader_outlives_two_failures_but_no_silence() {
    let start = Instant::now();
    let mut lease = leader(start);
    let now = start + LEASE_INTERVAL;
    assert_eq!(lease.looked(found("a", 1), now, now), Action::Replace(record("a", 2)));
    lease.wrote(false, now);
    assert!(lease.leads(now), "what was written before holds");
    let now = now + LEASE_INTERVAL;
    assert_eq!(lease.looked(Look::Failed, now, now), Action::Wait);
    assert!(lease.leads(now));
    for landed in [1, 2] {
        let mut lease = lease.clone();
        let now = now + LEASE_INTERVAL - SECOND;
        let renewed = Action::Replace(record("a", landed + 1));
        assert_eq!(lease.looked(found("a", landed), now, now), renewed, "the failed one landed or not");
        lease.wrote(true, now);
        assert!(lease.leads(now + LEASE_VALID - SECOND));
    }
    assert!(!lease.leads(start + LEASE_VALID));
    let now = start + LEASE_VALID;
    assert_eq!(
        lease.looked(found("a", 1), now, now),
        Action::Replace(record("a", 2)),
        "a claim like any other"
    );
    assert!(!lease.leads(now));
}

#[test]
fn a_writing_that_took_long_counts_for_nothing() {
    let start = Instant::now();
    let late = LEASE_WRITE + SECOND;
    let mut first = Lease::new("a", start);
    first.looked(Look::Absent, start, start);
    first.wrote(true, start + late);
    assert!(!first.leads(start + late));
    let mut renewing = leader(start);
    let now = start + LEASE_INTERVAL;
    renewing.looked(found("a", 1), now, now);
    renewing.wrote(true, now + late);
    assert!(!renewing.leads(now + late));
    let mut claiming = Lease::new("b", start);
    claiming.looked(found("b", 1), start, start);
    claiming.wrote(true, start + late);
    let settled = start + late + LEASE_SETTLE - SECOND;
    assert_eq!(claiming.looked(found("b", 2), settled, settled), Action::Wait);
    assert!(!claiming.leads(settled + SECOND), "it is not even a claim");
    let claimed = Action::Replace(record("b", 3));
    assert_eq!(claiming.looked(found("b", 2), settled + SECOND, settled + SECOND), claimed);
    assert!(!claiming.leads(settled + SECOND));
    let mut slow_look = Lease::new("a", start);
    slow_look.looked(Look::Absent, start, start + late);
    slow_look.wrote(true, start + late);
    assert!(!slow_look.leads(start + late), "a look that took long is as bad");
}

#[test]
fn a_rival_claim_that_came_later_wins() {
    let start = Instant::now();
    let mut lease = Lease::new("b", start);
    lease.looked(found("a", 1), start, start);
    let now = start + LEASE_QUIET;
    assert_eq!(lease.looked(found("a", 1), now, now), Action::Replace(record("b", 2)));
    lease.wrote(true, now);
    let now = now + LEASE_SETTLE;
    assert_eq!(lease.looked(found("c", 2), now, now), Action::Wait);
    assert!(!lease.leads(now));
}

#[test]
fn a_process_waits_for_no_silence_of_one_before_it_on_its_machine() {
    let now = Instant::now();
    let mut lease = Lease::new("a", now);
    assert_eq!(lease.looked(found("a", 7), now, now), Action::Replace(record("a", 8)));
    lease.wrote(true, now);
    assert!(!lease.leads(now), "it settles as any claim");
    let settled = now + LEASE_SETTLE;
    assert_eq!(lease.looked(found("a", 8), settled, settled), Action::Replace(record("a", 9)));
    assert!(lease.leads(settled));
    let mut other = Lease::new("b", now);
    assert_eq!(other.looked(found("a", 8), now, now), Action::Wait);
}

#[test]
fn what_was_given_back_is_claimed_at_once() {
    let now = Instant::now();
    let mut lease = leader(now);
    let released = lease.release(now).unwrap();
    assert_eq!(released, Record { released: true, ..record("a", 2) });
    assert!(!lease.leads(now));
    assert_eq!(lease.release(now), None, "once");
    for seen_before in [false, true] {
        let mut other = Lease::new("b", now);
        if seen_before {
            assert_eq!(other.looked(found("a", 1), now, now), Action::Wait);
        }
        let action = other.looked(Look::Record(released.clone()), now, now);
        assert_eq!(action, Action::Replace(record("b", 3)));
        other.wrote(true, now);
        assert!(!other.leads(now), "a claim settles: a rival may have read the same");
    }
}

#[test]
fn the_largest_number_is_followed_by_another() {
    let now = Instant::now();
    let mut lease = Lease::new("a", now);
    assert_eq!(lease.looked(found("a", u64::MAX), now, now), Action::Replace(record("a", 0)));
}

/// A small generator (Steele, Lea, Flood 2014), so that every run is the same.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (mixed ^ (mixed >> 27)) % bound
    }
}

/// One machine of the storm: its lease, and the writing that is on its way to the file.
struct Machine {
    lease: Lease,
    writing: Option<(Action, Instant)>,
    wakes: Instant,
}

impl Machine {
    fn new(id: usize, now: Instant) -> Self {
        Self { lease: Lease::new(&format!("m{id}"), now), writing: None, wakes: now }
    }

    fn step(&mut self, id: usize, file: &mut Option<Record>, dice: &mut Dice, now: Instant) {
        if let Some((action, lands)) = self.writing.take() {
            if now < lands {
                self.writing = Some((action, lands));
                return;
            }
            let done = match action {
                Action::Create(record) if file.is_none() => file.replace(record).is_none(),
                Action::Replace(record) if dice.below(20) > 0 => {
                    *file = Some(record);
                    true
                }
                _ => false,
            };
            self.lease.wrote(done, now);
        } else if now >= self.lease.deadline().max(self.wakes) {
            let look = match dice.below(20) {
                0 => Look::Failed,
                _ => file.clone().map_or(Look::Absent, Look::Record),
            };
            let action = self.lease.looked(look, now, now);
            if action != Action::Wait {
                // Most are quick, some take far longer than they may.
                let takes = if dice.below(8) == 0 { dice.below(200) } else { dice.below(3) };
                self.writing = Some((action, now + Duration::from_secs(takes)));
            }
        } else if dice.below(400) == 0 {
            // Stopped for a while, before a look.
            self.wakes = now + Duration::from_secs(dice.below(300));
        } else if dice.below(600) == 0 {
            *self = Self::new(id, now);
        } else if dice.below(600) == 0
            && let Some(record) = self.lease.release(now)
        {
            *file = Some(record);
        }
    }
}

#[test]
fn two_never_lead_at_once_in_a_storm() {
    let start = Instant::now();
    let (mut led, mut changes) = (0u32, 0u32);
    for seed in 0..60 {
        let mut dice = Dice(seed);
        let mut file = None;
        let mut machines: Vec<Machine> = (0..4).map(|id| Machine::new(id, start)).collect();
        let mut last = None;
        for second in 0..4000 {
            let now = start + Duration::from_secs(second);
            for (id, machine) in machines.iter_mut().enumerate() {
                machine.step(id, &mut file, &mut dice, now);
            }
            let leaders: Vec<usize> = (0..4).filter(|id| machines[*id].lease.leads(now)).collect();
            assert!(leaders.len() < 2, "seed {seed}, second {second}: {leaders:?}");
            if let Some(leader) = leaders.first() {
                led += 1;
                changes += u32::from(last.replace(*leader) != Some(*leader));
            }
        }
    }
    assert!(led > 60 * 4000 / 3, "somebody leads much of the time: {led}");
    assert!(changes > 600, "leaders change: {changes}");
}
