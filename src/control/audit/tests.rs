use std::time::{Duration, SystemTime};

use serde_json::json;

use super::*;
use crate::control::model::Actor;
use crate::control::store::Store;
use crate::control::store::memory::Memory;

fn entry(number: u64) -> Entry {
    Entry {
        at: SystemTime::UNIX_EPOCH + Duration::from_millis(number),
        actor: Actor { name: "ada".into(), source: "127.0.0.1".into() },
        environment: Some("production".into()),
        agent: Some("support-bot".into()),
        command: "rollback".into(),
        reason: number.is_multiple_of(2).then(|| "too many errors".into()),
        before: json!({ "state": "running", "weight": number }),
        after: json!({ "state": "rolled_back" }),
        evidence: json!({ "estimate": 0.1 + 0.2 }),
    }
}

/// A store with so many records, in commits of two.
fn store(records: u64) -> Memory {
    let store = Memory::default();
    let mut chain = Chain::load(&store).expect("an empty store has none");
    for first in (1..=records).step_by(2) {
        let mut transaction = Transaction::default();
        transaction.put("state", first.to_string().into());
        chain.append(&mut transaction, (first..=records.min(first + 1)).map(entry));
        chain.committed(store.commit(&transaction).expect("nobody else writes"));
    }
    store
}

fn write(store: &Memory, key: String, value: &str) {
    let mut transaction = Transaction::default();
    transaction.put(key, value.into());
    store.commit(&transaction).expect("expects nothing");
}

fn remove(store: &Memory, key: String) {
    let mut transaction = Transaction::default();
    transaction.delete(key);
    store.commit(&transaction).expect("expects nothing");
}

fn text(store: &Memory, sequence: u64) -> String {
    let document = store.get(&super::key(sequence)).expect("memory").expect("is there");
    String::from_utf8(document.value).expect("was written as text")
}

fn broken_at(store: &Memory) -> u64 {
    match verify(store, None) {
        Err(VerifyError::Broken { sequence, .. }) => sequence,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_chain_that_nobody_touched_is_sound() {
    let empty = verify(&Memory::default(), None).expect("nothing can be wrong");
    assert_eq!(empty.head.sequence, 0);
    // More than one page.
    let store = store(PAGE as u64 + 3);
    let verified = verify(&store, None).expect("is sound");
    assert_eq!(verified.head.sequence, PAGE as u64 + 3);
    assert_eq!(verified.head, *Chain::load(&store).expect("is sound").head());
    let middle = records(&store, 6, 2).expect("can be read");
    assert_eq!(middle.iter().map(|r| r.sequence).collect::<Vec<_>>(), [7, 8]);
    assert_eq!(middle[0].entry, entry(7), "and says what was put into it");
    assert!(verify(&store, Some(&middle[1].hash)).expect("is sound").holds);
    assert!(!verify(&store, Some("00")).expect("is sound").holds);
}

#[test]
fn any_change_of_a_record_is_found() {
    let sound = text(&store(5), 3);
    for (old, new) in [
        ("ada", "eve"),
        ("rolled_back", "completed"),
        ("1970-01-01T00:00:00.003", "1970-01-01T00:00:00.004"),
        ("\"sequence\":3", "\"sequence\":4"),
        ("\"reason\"", "\"season\""),
        ("{", "{ "),
        ("0.30000000000000004", "0.3"),
    ] {
        let store = store(5);
        let forged = text(&store, if old == "\"reason\"" { 4 } else { 3 }).replacen(old, new, 1);
        let at = if old == "\"reason\"" { 4 } else { 3 };
        assert_ne!(forged, text(&store, at), "{old} is in it");
        write(&store, super::key(at), &forged);
        assert_eq!(broken_at(&store), at, "{old} → {new}");
    }
    assert!(!sound.contains("reason"), "what was not said is not there");
}

#[test]
fn a_forged_hash_breaks_the_next_link() {
    let store = store(5);
    let mut record: Value = serde_json::from_str(&text(&store, 3)).expect("is JSON");
    record["actor"]["name"] = "eve".into();
    record["hash"] = hash_of(&record).into();
    write(&store, super::key(3), &record.to_string());
    assert_eq!(broken_at(&store), 4);
}

#[test]
fn removed_added_and_cut_off_records_are_found() {
    for (gone, expected) in [(1, 1), (3, 3), (5, 5)] {
        let store = store(5);
        remove(&store, super::key(gone));
        assert_eq!(broken_at(&store), expected);
    }
    let added = store(5);
    let mut transaction = Transaction::default();
    let head = Chain::load(&added).expect("is sound").head().clone();
    let forged = Record::new(&head, entry(6));
    transaction.put(super::key(6), forged.to_json().to_string().into());
    added.commit(&transaction).expect("expects nothing");
    assert_eq!(broken_at(&added), 6);

    let without_head = store(5);
    remove(&without_head, HEAD.into());
    assert_eq!(broken_at(&without_head), 1);
    let emptied = store(5);
    for sequence in 1..=5 {
        remove(&emptied, super::key(sequence));
    }
    assert_eq!(broken_at(&emptied), 1);
}

#[test]
fn of_two_who_append_to_the_same_end_one_wins() {
    let store = store(3);
    let mut ours = Chain::load(&store).expect("is sound");
    let mut theirs = ours.clone();
    let commit = |chain: &mut Chain, number| {
        let mut transaction = Transaction::default();
        chain.append(&mut transaction, [entry(number)]);
        store.commit(&transaction)
    };
    assert!(commit(&mut theirs, 4).is_ok());
    assert!(matches!(commit(&mut ours, 5), Err(StoreError::Conflict { .. })));
    assert_eq!(verify(&store, None).map(|verified| verified.head.sequence), Ok(4));
}

#[test]
fn the_newest_records_are_read_from_the_end() {
    let store = store(5);
    let numbers = |before, limit| {
        let found = newest(&store, before, limit).expect("memory");
        found.iter().map(|record| record.sequence).collect::<Vec<_>>()
    };
    assert_eq!(numbers(None, 2), [5, 4]);
    assert_eq!(numbers(Some(4), 2), [3, 2]);
    assert_eq!(numbers(Some(2), 2), [1]);
    assert_eq!(numbers(Some(9), 9), [5, 4, 3, 2, 1]);
    assert_eq!((numbers(Some(1), 2), numbers(Some(0), 2), numbers(None, 0)), (vec![], vec![], vec![]));
    remove(&store, super::key(4));
    assert_eq!(numbers(Some(5), 1), [0; 0], "one that is gone is no reason to show a newer one");
}
