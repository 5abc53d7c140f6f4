//! Which endpoint is chosen, by what is in service, in flight and tried.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::HeaderValue;

use super::*;
use crate::random::Random;
use crate::routing::endpoint::EjectionSpec;
use crate::routing::spec::EndpointAddress;
use crate::routing::table::Endpoint;

struct Rig {
    all: Vec<Endpoint>,
    rule: EjectionSpec,
    loads: Vec<usize>,
    start: Instant,
}

impl Rig {
    fn new(count: usize) -> Self {
        let endpoint = |port| Endpoint {
            address: EndpointAddress::Http { host: "h".into(), port },
            id: u64::from(port),
            authority: HeaderValue::from_static("h"),
            health: Arc::default(),
        };
        let rule = EjectionSpec { consecutive_failures: Some(1), ..EjectionSpec::default() };
        let all = (0..count as u16).map(endpoint).collect();
        Self { all, rule, loads: vec![0; count], start: Instant::now() }
    }

    fn endpoints(&self) -> Endpoints<'_> {
        Endpoints { all: &self.all, rule: &self.rule }
    }

    fn eject(&self, index: usize) {
        let now = Tick::at(self.start);
        let ejected = self.endpoints().failed(index, Sent::Plain, EjectionReason::Reset, now, 0);
        assert!(ejected.is_some(), "{index} may be ejected");
    }

    /// What a thousand requests get, so many seconds after the ejections.
    fn choices(&self, tried: &[usize], seconds: u64) -> Vec<Choice> {
        let (mut random, now) = (Random::new(7), Tick::at(self.start + Duration::from_secs(seconds)));
        let mut one = |_| pick(self.endpoints(), tried, |index| self.loads[index], || random.draw(), || now);
        (0..1_000).map(&mut one).map(|choice| choice.expect("there is an endpoint")).collect()
    }

    fn indexes(&self, tried: &[usize], seconds: u64) -> Vec<usize> {
        let mut indexes: Vec<_> = self.choices(tried, seconds).iter().map(|choice| choice.index).collect();
        indexes.sort_unstable();
        indexes.dedup();
        indexes
    }
}

#[test]
fn without_an_endpoint_there_is_no_choice_and_with_one_it_is_that() {
    assert_eq!(pick(Rig::new(0).endpoints(), &[], |_| 0, || 0, || unreachable!("no time is asked for")), None);
    let one = Rig::new(1);
    let choice = pick(one.endpoints(), &[], |_| 0, || unreachable!("there is nothing to choose"), || unreachable!());
    assert_eq!(choice, Some(Choice { index: 0, sent: Sent::Plain }));
    assert_eq!(one.indexes(&[0], 0), [0], "it is tried again");
}

#[test]
fn of_two_the_one_with_less_in_flight_is_chosen() {
    let mut rig = Rig::new(3);
    let mut counts = [0; 3];
    rig.choices(&[], 0).iter().for_each(|choice| counts[choice.index] += 1);
    assert!(counts.iter().all(|count| (200..500).contains(count)), "{counts:?}");
    rig.loads = vec![0, 5, 9];
    let mut counts = [0; 3];
    rig.choices(&[], 0).iter().for_each(|choice| counts[choice.index] += 1);
    // The most loaded is met alone only.
    assert!(counts[0] > counts[1] && counts[1] > counts[2] && counts[2] < 200, "{counts:?}");
}

#[test]
fn what_is_out_gets_nothing_while_it_is_out() {
    let rig = Rig::new(4);
    rig.eject(1);
    rig.eject(3);
    assert_eq!(rig.indexes(&[], 0), [0, 2]);
    assert_eq!(rig.indexes(&[0], 0), [2]);
    // The last resort: what is out and has not failed this request, before what has.
    let anyway = rig.choices(&[0, 2], 0);
    assert!(anyway.iter().all(|choice| [1, 3].contains(&choice.index) && choice.sent == Sent::Anyway));
    assert_eq!(rig.indexes(&[0, 1, 2, 3], 0), [0, 2]);
}

#[test]
fn after_its_time_one_request_is_a_probe_and_none_that_has_failed_before() {
    let rig = Rig::new(2);
    rig.eject(0);
    assert_eq!(rig.indexes(&[], 7), [1], "not before its time");
    assert_eq!(rig.indexes(&[1], 11), [0]);
    let choices = rig.choices(&[], 11);
    let probes: Vec<_> = choices.iter().filter(|choice| choice.index == 0).collect();
    assert_eq!(probes, [&Choice { index: 0, sent: Sent::Probe }], "one, for no word has come of it");
    // No word came for as long as an ejection lasts: there is another one.
    assert_eq!(rig.choices(&[], 22).iter().filter(|choice| choice.sent == Sent::Probe).count(), 1);
}

#[test]
fn where_all_are_out_all_are_used() {
    let mut rig = Rig::new(4);
    rig.eject(1);
    rig.eject(3);
    // As after a reload that took the good ones away.
    rig.all.retain(|endpoint| !endpoint.health.is_in_service());
    let choices = rig.choices(&[], 0);
    assert!(choices.iter().all(|choice| choice.sent == Sent::Anyway));
    assert_eq!(rig.indexes(&[], 0), [0, 1]);
    let health = &rig.all[0].health;
    assert!(health.completed(Sent::Anyway, || Tick::at(rig.start)), "one good answer is enough");
    assert_eq!(rig.indexes(&[], 0), [0]);
}
