use std::time::Duration;

use super::*;
use crate::routing::fixture::{CANARY, STABLE, agent, agent_with, conversations, pins};
use crate::routing::spec::{AgentSpec, ConversationSpec, PinPolicy};
use crate::routing::table::Agent;

const NOW: Second = 1_800_000_000;

/// A table, and an agent's seat at it.
struct Bench {
    pins: SharedPins,
    agent: Arc<Agent>,
}

impl Bench {
    fn new() -> Self {
        Self::of(agent(), 1000)
    }

    fn of(agent: Arc<Agent>, max: usize) -> Self {
        Self { pins: pins(max), agent }
    }

    /// The same pins under another table.
    fn next(&self, change: impl FnOnce(&mut AgentSpec), barred: &[&'static str]) -> Self {
        Self { pins: self.pins.clone(), agent: agent_with(change, barred) }
    }

    fn seat(&self) -> &Seat {
        self.agent.conversations(&self.pins).expect("has conversations").1
    }

    fn key(&self, id: &str) -> PinKey {
        self.seat().key(id.as_bytes()).expect("a sound id")
    }

    fn find(&self, id: &str, now: Second) -> Option<(Hold, usize)> {
        self.pins.find(self.seat(), self.key(id), now)
    }

    fn make(&self, id: &str, version: usize, now: Second) -> Option<(Hold, usize)> {
        self.pins.make(self.seat(), self.key(id), version, now)
    }

    /// A whole request and response.
    fn turn(&self, id: &str, version: usize, now: Second) -> usize {
        let found = self.find(id, now).or_else(|| self.make(id, version, now));
        found.map(|(hold, version)| (hold.end(now), version).1).expect("there is room")
    }

    fn place(&self, version: usize) -> Arc<Place> {
        self.pins.place(self.agent.environment(), self.agent.id(), &self.agent.versions[version].id)
    }

    fn conversations(&self) -> [u64; 2] {
        [STABLE, CANARY].map(|version| self.place(version).conversations())
    }

    fn in_flight(&self) -> [u64; 2] {
        [STABLE, CANARY].map(|version| self.place(version).in_flight())
    }
}

fn upgrade_at_turn(spec: &mut AgentSpec) {
    let policy = PinPolicy::UpgradeAtTurn { grace: Duration::from_secs(30) };
    spec.conversations = Some(ConversationSpec { policy, ..conversations() });
}

fn keeps_barred(spec: &mut AgentSpec) {
    spec.conversations = Some(ConversationSpec { evict_on_rollback: false, ..conversations() });
}

#[test]
fn a_conversation_stays_where_it_began() {
    let bench = Bench::new();
    assert!(bench.find("a", NOW).is_none());
    assert_eq!(bench.turn("a", CANARY, NOW), CANARY);
    assert_eq!(bench.turn("a", STABLE, NOW + 10), CANARY);
    assert_eq!(bench.turn("b", STABLE, NOW + 10), STABLE);
    // Another table, in which nothing of it changes.
    assert_eq!(bench.next(|_| {}, &[]).turn("a", STABLE, NOW + 20), CANARY);
    assert_eq!(bench.conversations(), [1, 1]);
    let stats = bench.pins.stats();
    assert_eq!((stats.pins, stats.made, stats.found), (2, 2, 2));
}

#[test]
fn an_id_is_bounded_and_belongs_to_its_agent() {
    let bench = Bench::new();
    let seat = bench.seat();
    assert!(seat.key(b"").is_none() && seat.key(&[b'x'; 257]).is_none());
    assert!(seat.key(&[b'x'; 256]).is_some() && seat.key(b"\xff").is_some());
    let elsewhere = bench.next(|spec| spec.environment = EnvironmentId::new("staging"), &[]);
    assert_ne!(bench.key("a"), elsewhere.key("a"));
    let other_instance = Pins::new(PinSecret([8; 32]), 10);
    let seat = Seat::new(&other_instance, &bench.agent, &conversations());
    assert_ne!(Some(bench.key("a")), seat.key(b"a"));
    assert_eq!(PinKey::from_u128(bench.key("a").to_u128()), bench.key("a"));
}

#[test]
fn its_time_to_live_slides_and_ends() {
    let bench = Bench::new();
    bench.turn("a", CANARY, NOW);
    assert_eq!(bench.turn("a", STABLE, NOW + 3600), CANARY);
    assert_eq!(bench.turn("a", STABLE, NOW + 7200), CANARY);
    assert!(bench.find("a", NOW + 10_801).is_none());
    assert_eq!(bench.conversations(), [0, 0]);
    let stats = bench.pins.stats();
    assert_eq!((stats.pins, stats.expired), (0, 1));
}

#[test]
fn a_response_in_flight_keeps_it_from_everything() {
    let bench = Bench::new();
    let (hold, _) = bench.make("a", CANARY, NOW).expect("room");
    assert_eq!(bench.in_flight(), [0, 1]);
    bench.pins.sweep(SEGMENTS, NOW + 100_000);
    assert_eq!(bench.find("a", NOW + 100_000).map(|(_, version)| version), Some(CANARY));
    hold.end(NOW + 100_000);
    assert_eq!(bench.in_flight(), [0, 0]);
    // Idle since the response's end, not since the request.
    assert_eq!(bench.turn("a", STABLE, NOW + 103_600), CANARY);
}

#[test]
fn sweeping_forgets_what_nobody_asks_for() {
    let bench = Bench::new();
    for id in 0..500 {
        bench.turn(&id.to_string(), CANARY, NOW);
    }
    bench.turn("late", STABLE, NOW + 2000);
    for _ in 0..SEGMENTS / 16 {
        bench.pins.sweep(16, NOW + 3601);
    }
    assert_eq!((bench.pins.len(), bench.conversations()), (1, [1, 0]));
    assert_eq!(bench.pins.stats().expired, 500);
}

#[test]
fn a_clock_that_was_ahead_keeps_nothing_for_ever() {
    let bench = Bench::new();
    bench.turn("swept", CANARY, NOW + 1_000_000);
    bench.turn("found", CANARY, NOW + 1_000_000);
    bench.pins.sweep(SEGMENTS, NOW);
    assert_eq!(bench.turn("found", STABLE, NOW + 1), CANARY);
    bench.pins.sweep(SEGMENTS, NOW + 3601);
    assert_eq!((bench.find("swept", NOW + 3601).is_none(), bench.pins.len()), (true, 1));
    assert!(bench.find("found", NOW + 3602).is_none());
}

#[test]
fn the_first_of_two_beginnings_counts_for_both() {
    let bench = Bench::new();
    let first = bench.make("a", CANARY, NOW).expect("room");
    let second = bench.make("a", STABLE, NOW).expect("room");
    assert_eq!((first.1, second.1), (CANARY, CANARY));
    assert_eq!((bench.in_flight(), bench.conversations(), bench.pins.len()), ([0, 2], [0, 1], 1));
}

#[test]
fn a_version_that_is_rolled_back_or_gone_loses_its_conversations() {
    let bench = Bench::new();
    for id in ["a", "b"] {
        bench.turn(id, CANARY, NOW);
    }
    let after = bench.next(|_| {}, &["1.5.0"]);
    assert!(after.find("a", NOW).is_none());
    assert_eq!(after.turn("a", STABLE, NOW), STABLE);
    let without = bench.next(|spec| drop(spec.versions.remove("1.5.0")), &[]);
    assert!(without.find("b", NOW).is_none());
    let stats = bench.pins.stats();
    assert_eq!((stats.dropped, stats.pins, bench.conversations()), (2, 1, [1, 0]));
}

#[test]
fn where_the_author_wants_it_a_rolled_back_version_keeps_them() {
    let bench = Bench::of(agent_with(keeps_barred, &[]), 10);
    bench.turn("a", CANARY, NOW);
    assert_eq!(bench.next(keeps_barred, &["1.5.0"]).turn("a", STABLE, NOW), CANARY);
    let without_endpoints = |spec: &mut AgentSpec| {
        keeps_barred(spec);
        spec.versions.get_mut("1.5.0").expect("is there").endpoints.clear();
    };
    assert!(bench.next(without_endpoints, &["1.5.0"]).find("a", NOW).is_none());
}

#[test]
fn the_end_of_a_response_of_a_dropped_pin_does_not_touch_the_new_one() {
    let bench = Bench::new();
    let (old, _) = bench.make("a", CANARY, NOW).expect("room");
    let after = bench.next(|_| {}, &["1.5.0"]);
    let (new, version) = after.find("a", NOW).or_else(|| after.make("a", STABLE, NOW)).expect("room");
    assert_eq!((version, bench.in_flight()), (STABLE, [1, 1]));
    old.end(NOW);
    assert_eq!(bench.in_flight(), [1, 0]);
    // Still held by the new one.
    let (stable, canary) = (bench.place(STABLE), bench.place(CANARY));
    assert_eq!(bench.pins.migrate(&stable, &canary, |_, _| true, 10), Migrated { moved: 0, busy: 1, left: 0 });
    new.end(NOW);
    assert_eq!(bench.pins.migrate(&stable, &canary, |_, _| true, 10), Migrated { moved: 1, busy: 0, left: 0 });
}

#[test]
fn under_upgrade_at_turn_each_turn_is_decided_anew() {
    let bench = Bench::of(agent_with(upgrade_at_turn, &[]), 10);
    let (hold, _) = bench.make("a", STABLE, NOW).expect("room");
    assert_eq!(bench.find("a", NOW + 1000).map(|(_, version)| version), Some(STABLE));
    hold.end(NOW + 1000);
    // The same turn still: a tool call, a retry.
    assert_eq!(bench.turn("a", CANARY, NOW + 1030), STABLE);
    assert_eq!(bench.turn("a", CANARY, NOW + 1061), CANARY);
    assert_eq!(bench.conversations(), [0, 1]);
    let stats = bench.pins.stats();
    assert_eq!((stats.turned, stats.pins), (1, 1));
}

#[test]
fn a_full_table_evicts_the_longest_unused_and_never_one_in_use() {
    let bench = Bench::of(agent(), 400);
    let held: Vec<_> = (0..50).map(|id| bench.make(&format!("held {id}"), CANARY, NOW)).collect();
    for id in 0..350 {
        bench.turn(&format!("old {id}"), STABLE, NOW + id);
    }
    for id in 0..5000 {
        bench.turn(&id.to_string(), CANARY, NOW + 1000 + id);
        assert!(bench.pins.len() <= 400);
    }
    assert!(held.iter().all(Option::is_some));
    assert!((0..50).all(|id| bench.find(&format!("held {id}"), NOW + 1000).is_some()));
    assert!((0..350).all(|id| bench.find(&format!("old {id}"), NOW + 1000).is_none()));
    let stats = bench.pins.stats();
    assert_eq!(stats.made - stats.evicted, stats.pins as u64);
    assert_eq!(bench.conversations().iter().sum::<u64>(), stats.pins as u64);
}

#[test]
fn a_table_full_of_pins_in_use_refuses_and_goes_on() {
    let bench = Bench::of(agent(), 2);
    let held = [bench.make("a", CANARY, NOW), bench.make("b", CANARY, NOW)];
    assert!(bench.make("c", CANARY, NOW).is_none());
    assert_eq!((bench.pins.len(), bench.pins.stats().refused), (2, 1));
    drop(held);
    assert!(bench.make("c", CANARY, NOW).is_some());
    assert_eq!(bench.pins.len(), 2);
}

#[test]
fn a_lowered_cap_refuses_nobody_and_is_reached_by_and_by() {
    let bench = Bench::of(agent(), 20_000);
    for id in 0..20_000 {
        bench.turn(&format!("old {id}"), STABLE, NOW);
    }
    bench.pins.set_max(2000);
    for id in 0..1000 {
        let before = bench.pins.len();
        assert!(bench.make(&id.to_string(), CANARY, NOW + 10).is_some());
        // Of one segment a part, no more.
        assert!((before.saturating_sub(10)..=before).contains(&bench.pins.len()), "{} of {before}", bench.pins.len());
    }
    let before = bench.pins.len();
    assert!(before > 2000, "{before}");
    bench.pins.shrink();
    assert!((before * 9 / 10..before).contains(&bench.pins.len()), "{} of {before}", bench.pins.len());
    for _ in 0..200 {
        bench.pins.shrink();
    }
    let stats = bench.pins.stats();
    assert_eq!((stats.pins, stats.refused), (2000, 0));
    let kept = (0..1000).filter(|id| bench.find(&id.to_string(), NOW + 10).is_some()).count();
    assert!(kept > 800, "the oldest go first: {kept}");
}

#[test]
fn conversations_move_all_or_some_and_none_is_lost() {
    let bench = Bench::new();
    for id in 0..1000 {
        bench.turn(&id.to_string(), STABLE, NOW);
    }
    let (stable, canary) = (bench.place(STABLE), bench.place(CANARY));
    let busy = bench.find("7", NOW);
    assert_eq!(bench.pins.migrate(&stable, &canary, |_, _| true, 100), Migrated { moved: 100, busy: 1, left: 899 });
    assert_eq!(bench.conversations(), [900, 100]);
    // Of all keys the same tenth, whoever is asked.
    let tenth = |key: PinKey, _| key.bucket() < 10_000;
    let moved = bench.pins.migrate(&stable, &canary, tenth, usize::MAX).moved;
    assert!((40..150).contains(&moved), "{moved}");
    assert_eq!(bench.pins.migrate(&stable, &canary, |_, _| true, usize::MAX).busy, 1);
    assert_eq!(bench.conversations(), [1, 999]);
    drop(busy);
    assert_eq!(bench.turn("7", CANARY, NOW), STABLE);
    assert_eq!(bench.turn("8", STABLE, NOW), CANARY);
    assert_eq!((bench.pins.len(), bench.pins.stats().moved), (1000, 999));
    // Never to another agent.
    let other = bench.pins.place(bench.agent.environment(), &AgentId::new("other"), &canary.version);
    assert_eq!(bench.pins.migrate(&canary, &other, |_, _| true, 10), Migrated::default());
}

#[test]
fn a_version_is_evicted_at_once() {
    let bench = Bench::new();
    bench.turn("a", STABLE, NOW);
    bench.turn("b", CANARY, NOW);
    let held = bench.make("c", CANARY, NOW);
    assert_eq!(bench.pins.evict(&bench.place(CANARY)), 2);
    assert_eq!((bench.conversations(), bench.in_flight()), ([1, 0], [0, 1]));
    drop(held);
    assert_eq!((bench.pins.len(), bench.in_flight()), (1, [0, 0]));
}

#[test]
fn the_checkpoint_brings_everything_back() {
    let bench = Bench::new();
    for id in 0..300 {
        bench.turn(&id.to_string(), id % 2, NOW + 1);
    }
    let changed = bench.pins.changed_segments();
    assert!(changed.len() > 100, "{}", changed.len());
    assert!(bench.pins.changed_segments().is_empty());
    let after = Bench::new();
    let records: Vec<_> = changed.into_iter().flat_map(|segment| bench.pins.export(segment)).collect();
    let records = records.into_iter().map(|record| {
        let place = after.pins.place(&record.place.agent.environment, &record.place.agent.id, &record.place.version);
        PinRecord { place, ..record }
    });
    assert_eq!(after.pins.import(records), 300);
    assert_eq!((after.conversations(), after.pins.len()), ([150, 150], 300));
    for id in 0..300 {
        assert_eq!(after.turn(&id.to_string(), STABLE, NOW + 3601), id % 2);
    }
}

#[test]
fn a_use_changes_the_checkpoint_about_once_a_minute() {
    let bench = Bench::new();
    bench.turn("a", STABLE, NOW);
    bench.pins.changed_segments();
    let start = (NOW + 1).next_multiple_of(TOUCH_SECONDS);
    bench.turn("a", STABLE, start);
    assert_eq!(bench.pins.changed_segments().len(), 1);
    bench.turn("a", STABLE, start + TOUCH_SECONDS - 1);
    assert_eq!(bench.pins.changed_segments().len(), 0);
    bench.turn("a", STABLE, start + TOUCH_SECONDS);
    let changed = bench.pins.changed_segments();
    assert_eq!(changed.len(), 1);
    bench.pins.mark_changed(changed[0]);
    assert_eq!(bench.pins.changed_segments(), changed);
}

#[test]
fn bytes_are_counted_and_a_pin_is_small() {
    assert_eq!(size_of::<(PinKey, Pin)>(), 32);
    let bench = Bench::of(agent(), 100_000);
    let empty = bench.pins.stats().bytes;
    for id in 0..50_000 {
        bench.turn(&id.to_string(), STABLE, NOW);
    }
    let grown = bench.pins.stats().bytes - empty;
    assert!((50_000 * 33..50_000 * 33 * 3).contains(&grown), "{grown}");
}

#[test]
fn many_threads_agree_on_one_version_and_lose_no_count() {
    let bench = Bench::of(agent(), 64);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let bench = &bench;
            scope.spawn(move || {
                for round in 0..2000u32 {
                    let id = format!("{}", round % 100);
                    let hold = bench.find(&id, NOW).or_else(|| bench.make(&id, thread % 2, NOW));
                    if round % 7 == 0 {
                        bench.pins.migrate(&bench.place(STABLE), &bench.place(CANARY), |_, _| true, 3);
                    }
                    drop(hold);
                }
            });
        }
    });
    assert_eq!(bench.in_flight(), [0, 0]);
    assert!(bench.pins.len() <= 64);
    assert_eq!(bench.conversations().iter().sum::<u64>(), bench.pins.len() as u64);
    let there: usize = (0..SEGMENTS).map(|segment| bench.pins.export(segment).len()).sum();
    assert_eq!(there, bench.pins.len());
}
