//! Pins written down and read back, through every engine; and documents that are none.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::*;
use crate::control::store::memory::Memory;
use crate::control::store::redb::Redb;
use crate::control::store::{Store, Transaction};
use crate::routing::pin::{SEGMENTS, SharedPins};

const MANY: u128 = 50_000;

fn pins(store: &dyn Store) -> SharedPins {
    let (secret, new) = secret(store).expect("can be read");
    write(store, new);
    Pins::new(secret, usize::MAX)
}

fn write(store: &dyn Store, documents: impl IntoIterator<Item = Written>) {
    let mut transaction = Transaction::default();
    documents.into_iter().for_each(|(key, document)| transaction.put_aside(key, document));
    store.commit(&transaction).expect("there is room");
}

fn place(pins: &Pins, agent: &str, version: &str) -> Arc<Place> {
    pins.place(&EnvironmentId::new("production"), &AgentId::new(agent), &VersionId::new(version))
}

/// Pins over two agents and three versions, as an earlier process left them.
fn fill(pins: &Pins, numbers: std::ops::Range<u128>) {
    let places = [place(pins, "bot", "1.0.0"), place(pins, "bot", "2.0.0"), place(pins, "other", "1.0.0")];
    let record = |number: u128| PinRecord {
        // Spread as hashes are.
        key: PinKey::from_u128(number.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)),
        place: places[number as usize % 3].clone(),
        created: number as u32,
        last_used: number as u32 + 7,
    };
    let taken = pins.import(numbers.map(record));
    assert!(taken > 0);
    (0..SEGMENTS).for_each(|segment| pins.mark_changed(segment));
}

fn everything(pins: &Pins) -> BTreeMap<u128, (String, String, u32, u32)> {
    let pin = |pin: PinRecord| {
        let (agent, version) = (pin.place.agent.id.to_string(), pin.place.version.to_string());
        (pin.key.to_u128(), (agent, version, pin.created, pin.last_used))
    };
    (0..SEGMENTS).flat_map(|segment| pins.export(segment)).map(pin).collect()
}

fn checkpoint(store: &dyn Store, pins: &SharedPins) -> usize {
    let mut commits = 0;
    for documents in Pass::begin(pins.clone()) {
        let bytes: usize = documents.iter().filter_map(|(_, document)| document.as_ref()).map(Vec::len).sum();
        assert!(bytes < CHUNK_BYTES * 2, "{bytes}");
        write(store, documents);
        commits += 1;
    }
    commits
}

/// The segments that the next pass begins with; it is not written.
fn changed(pins: &SharedPins) -> Vec<String> {
    let documents = Pass::begin(pins.clone()).next().unwrap_or_default();
    documents.into_iter().map(|(key, _)| key).collect()
}

fn round_trip(store: &dyn Store, many: u128) {
    let before = pins(store);
    fill(&before, 0..many);
    assert!(checkpoint(store, &before) > 0);
    assert_eq!(checkpoint(store, &before), 0, "nothing has changed since");

    let after = pins(store);
    let found = take_up(store, &after, |_, _, _| true);
    assert_eq!(found, TakenUp { pins: many as usize, left_out: 0, unreadable: 0 });
    assert!(everything(&before) == everything(&after), "each is where it was");
    assert_eq!(place(&after, "bot", "2.0.0").conversations(), (many as u64 + 1) / 3);
    assert_eq!(checkpoint(store, &after), 0, "what was read is what is written");
    assert_eq!(*store.revision().borrow(), 0, "and is no news");

    // One conversation moves, and one segment is written.
    let pin = after.export(0).into_iter().next().expect("each segment has some");
    assert!(after.remove(pin.key));
    assert_eq!(changed(&after), ["pins/000"]);
}

#[test]
fn what_is_written_is_read_back_by_every_engine() {
    round_trip(&Memory::default(), MANY);
    let folder = tempfile::tempdir().expect("can be made");
    round_trip(&Redb::open(folder.path()).expect("can be made"), MANY);
}

/// Run it with `--ignored --nocapture`: it says how long a million takes.
#[test]
#[ignore = "takes a while without optimisation"]
fn a_million_are_read_back() {
    let folder = tempfile::tempdir().expect("can be made");
    let begun = std::time::Instant::now();
    round_trip(&Redb::open(folder.path()).expect("can be made"), 1_000_000);
    println!("{:?} to write and read a million pins", begun.elapsed());
}

#[test]
fn pins_of_versions_that_are_gone_are_left_out_and_leave_the_store() {
    let store = Memory::default();
    let before = pins(&store);
    fill(&before, 0..9_000);
    checkpoint(&store, &before);
    let after = pins(&store);
    let found = take_up(&store, &after, |_, agent, version| (agent.as_str(), version.as_str()) == ("bot", "1.0.0"));
    assert_eq!(found, TakenUp { pins: 3_000, left_out: 6_000, unreadable: 0 });
    assert!(
        everything(&after).values().all(|(agent, version, ..)| (agent.as_str(), version.as_str()) == ("bot", "1.0.0"))
    );
    checkpoint(&store, &after);
    let last = pins(&store);
    assert_eq!(take_up(&store, &last, |_, _, _| true), TakenUp { pins: 3_000, left_out: 0, unreadable: 0 });
    // Where the table has no room for them, the rest is left out.
    let small = pins(&store);
    small.set_max(100);
    assert_eq!(take_up(&store, &small, |_, _, _| true), TakenUp { pins: 100, left_out: 2_900, unreadable: 0 });
}

#[test]
fn a_document_that_cannot_be_read_costs_its_pins_and_nothing_else() {
    let store = Memory::default();
    let before = pins(&store);
    fill(&before, 0..2_560);
    checkpoint(&store, &before);
    let whole = store.get("pins/007").expect("can be read").expect("is there").value;
    let pins_in_it = before.export(7).len();
    let cut = |at: usize| whole[..at].to_vec();
    let mut of_no_name = whole.clone();
    let first_pin = whole.len() - pins_in_it * PIN_BYTES;
    of_no_name[first_pin..first_pin + 4].copy_from_slice(&9u32.to_le_bytes());
    let endless = [MAGIC.as_slice(), &u32::MAX.to_le_bytes()].concat();
    let no_text = [MAGIC.as_slice(), &1u32.to_le_bytes(), &2u32.to_le_bytes(), &[0xff, 0xff]].concat();
    let broken = [vec![], b"pin2".to_vec(), cut(5), cut(whole.len() - 1), of_no_name, endless, no_text];
    for document in broken {
        write(&store, [("pins/007".to_owned(), Some(document.clone()))]);
        let after = pins(&store);
        let found = take_up(&store, &after, |_, _, _| true);
        let rest = 2_560 - pins_in_it;
        assert_eq!(found, TakenUp { pins: rest, left_out: 0, unreadable: 1 }, "{document:?}");
        // The next checkpoint puts it right.
        assert_eq!(changed(&after), ["pins/007"]);
    }
}

#[test]
fn every_cut_of_a_document_is_refused_or_read_whole() {
    let table = Pins::new(PinSecret([1; 32]), usize::MAX);
    fill(&table, 0..600);
    let whole = encode(&table.export(3));
    let pins = table.export(3).len();
    assert!(pins > 1);
    for at in 0..=whole.len() {
        // A cut between two pins is a shorter document, and as good.
        let read = decode(&whole[..at]).map(|stored| stored.pins.len()).unwrap_or(0);
        assert!(read <= pins && (read == pins) == (at == whole.len()), "{at}: {read}");
    }
}

#[test]
fn a_secret_is_made_once_and_one_that_is_broken_is_made_anew() {
    let store = Memory::default();
    let (first, new) = secret(&store).expect("can be made");
    assert!(new.is_some());
    write(&store, new);
    let (second, new) = secret(&store).expect("can be read");
    assert!(new.is_none() && first.0 == second.0);
    write(&store, [("pins-secret".to_owned(), Some(b"short".to_vec()))]);
    let (third, new) = secret(&store).expect("is made anew");
    assert!(new.is_some() && third.0 != first.0);
}

#[test]
fn what_could_not_be_written_is_written_next_time() {
    let table = Pins::new(PinSecret([1; 32]), usize::MAX);
    fill(&table, 0..60_000);
    let mut pass = Pass::begin(table.clone());
    let written = pass.next().expect("there is much").len();
    assert!(written < SEGMENTS && pass.next().is_some());
    // Whether or not the second part was written, nobody knows.
    drop(pass);
    let mut again = Pass::begin(table.clone());
    let documents: Vec<_> = again.by_ref().flatten().collect();
    assert_eq!(documents.len(), SEGMENTS - written);
    drop(again);
    assert_eq!(changed(&table), [""; 0]);
}
