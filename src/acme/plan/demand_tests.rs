//! Names on demand: what is refused, remembered, bounded.

use super::*;

const NOW: u64 = 2_000_000_000;

fn public() -> Vec<Authority> {
    let preset = crate::config::model::Preset::LetsEncrypt;
    vec![Authority { directory: preset.directory().to_owned(), preset: Some(preset), eab: None }]
}

fn asking(allow: &[HostPattern]) -> OnDemand {
    OnDemand {
        ask: Some("http://127.0.0.1:9/ask".to_owned()),
        allow: allow.to_vec(),
        per_hour: 5,
        total: 8,
        ask_timeout: std::time::Duration::from_secs(1),
    }
}

#[test]
fn names_are_checked_first() {
    let check = |name: &str| check_name(name, &public());
    for name in ["a.dev", "a.b.c.d.e.lockring.dev", "xn--bcher-kva.de", "a-1.dev", "1.dev"] {
        assert_eq!(check(name), Ok(()), "{name}");
    }
    let long = format!("{}.dev", "a".repeat(64));
    let longer = format!("{}dev", "aaaaaaaaa.".repeat(26));
    for name in [
        "", ".", "a..dev", "a.dev.", "A.dev", "a_b.dev", "-a.dev", "a-.dev", "*.a.dev", "ü.de", "a b.dev",
        &long, &longer,
    ] {
        assert_eq!(check(name), Err(DemandRefusal::Grammar), "{name}");
    }
    for name in ["127.0.0.1", "a.1", "a.0x1"] {
        assert_eq!(check(name), Err(DemandRefusal::Address), "{name}");
    }
    for name in ["localhost", "dev", "a.test", "a.example.com", "x.local"] {
        assert_eq!(check(name), Err(DemandRefusal::NotPublic), "{name}");
    }
    assert_eq!(check("a.b.c.d.e.f.lockring.dev"), Err(DemandRefusal::TooDeep));
}

#[test]
fn one_question_per_name_and_its_answer_is_remembered() {
    let (mut demand, policy, authorities) = (Demand::default(), asking(&[]), public());
    let admit = |demand: &mut Demand, now| demand.admit("a.dev", &policy, &authorities, 0, now);
    assert_eq!(admit(&mut demand, NOW), Ok(Admission::Ask));
    assert_eq!(admit(&mut demand, NOW), Ok(Admission::Join));
    let refused = Err(DemandRefusal::NotAllowed);
    assert_eq!(demand.answered("a.dev", false, &policy, 0, NOW), refused);
    assert_eq!(demand.admit("a.dev", &policy, &authorities, 0, NOW + 299), Err(DemandRefusal::NotAllowed));
    assert_eq!(admit(&mut demand, NOW + 300), Ok(Admission::Ask), "asked again");
    assert_eq!(demand.answered("a.dev", true, &policy, 0, NOW + 300), Ok(()));
    assert_eq!(admit(&mut demand, NOW + 301), Ok(Admission::Join));
    demand.finished("a.dev", true, NOW + 310);
    assert_eq!(admit(&mut demand, NOW + 359), Ok(Admission::Order), "still allowed");
    demand.finished("a.dev", false, NOW + 400);
    assert_eq!(admit(&mut demand, NOW + 699), Err(DemandRefusal::NotAllowed), "a failed order rests");
    assert_eq!(admit(&mut demand, NOW + 700), Ok(Admission::Ask));
}

#[test]
fn a_list_allows_without_asking() {
    let parent = HostPattern::Wildcard("lockring.dev".to_owned());
    let mut policy = asking(&[parent, HostPattern::Exact("a.dev".to_owned())]);
    policy.ask = None;
    let admit = |name: &str| Demand::default().admit(name, &policy, &public(), 0, NOW);
    for name in ["a.dev", "x.lockring.dev", "x.y.lockring.dev"] {
        assert_eq!(admit(name), Ok(Admission::Order), "{name}");
    }
    for name in ["b.dev", "x.a.dev", "lockring.dev", "xlockring.dev"] {
        assert_eq!(admit(name), Err(DemandRefusal::NotAllowed), "{name}");
    }
}

#[test]
fn few_handshakes_wait() {
    let (mut demand, policy, authorities) = (Demand::default(), asking(&[]), public());
    let mut admit = |name: &str| demand.admit(name, &policy, &authorities, 0, NOW);
    for n in 0..8 {
        assert_eq!(admit(&format!("{n}x.dev")), Ok(Admission::Ask));
    }
    assert_eq!(admit("0x.dev"), Ok(Admission::Join));
    assert_eq!(admit("0x.dev"), Ok(Admission::Join));
    assert_eq!(admit("0x.dev"), Err(DemandRefusal::Busy));
    demand.left("0x.dev");
    assert_eq!(demand.admit("1x.dev", &policy, &authorities, 0, NOW), Ok(Admission::Join));
}

#[test]
fn new_names_are_few_an_hour_and_in_all() {
    let (mut demand, policy, authorities) = (Demand::default(), asking(&[]), public());
    let have = |demand: &mut Demand, n: usize, held, now| {
        let name = format!("n{n}.dev");
        demand.admit(&name, &policy, &authorities, held, now)?;
        demand.answered(&name, true, &policy, held, now)?;
        demand.finished(&name, true, now);
        Ok(())
    };
    for n in 0..5 {
        assert_eq!(have(&mut demand, n, n, NOW), Ok(()));
    }
    demand = serde_json::from_str(&serde_json::to_string(&demand).unwrap()).unwrap();
    demand.restored(NOW);
    assert_eq!(have(&mut demand, 5, 5, NOW + 3599), Err(DemandRefusal::HourlyLimit));
    for n in 5..8 {
        assert_eq!(have(&mut demand, n, n, NOW + 3600), Ok(()));
    }
    assert_eq!(have(&mut demand, 8, 8, NOW + 3601), Err(DemandRefusal::TotalLimit));
}

#[test]
fn random_names_cost_nothing_that_lasts() {
    let (mut demand, policy, authorities) = (Demand::default(), asking(&[]), public());
    let mut asked = 0;
    for n in 0..10_000 {
        let name = format!("r{n}.dev");
        match demand.admit(&name, &policy, &authorities, 0, NOW) {
            Ok(Admission::Ask) => asked += 1,
            // Eight names may be had in all, so no more are asked for at once.
            Err(DemandRefusal::TotalLimit) => continue,
            other => panic!("{other:?}"),
        }
        if n % 2 == 0 {
            assert_eq!(demand.answered(&name, false, &policy, 0, NOW), Err(DemandRefusal::NotAllowed));
        }
    }
    assert_eq!(asked, 16, "the rest was refused at once");
    assert_eq!(demand.in_flight.len(), 8);
    let mut demand = Demand::default();
    for n in 0..10_000 {
        let name = format!("r{n}.dev");
        assert_eq!(demand.admit(&name, &policy, &authorities, 0, NOW), Ok(Admission::Ask));
        assert_eq!(demand.answered(&name, false, &policy, 0, NOW), Err(DemandRefusal::NotAllowed));
    }
    assert_eq!(demand.answers.len(), limits::ACME_DEMAND_ANSWERS);
    assert_eq!(demand.ages.len(), limits::ACME_DEMAND_ANSWERS);
    assert!(demand.in_flight.is_empty() && demand.admitted.is_empty());
}
