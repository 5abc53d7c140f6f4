use std::sync::atomic::Ordering;
use std::time::SystemTime;

use super::*;
use crate::control::audit;
use crate::control::model::Actor;
use crate::control::store::Documents;
use crate::control::store::faulty::Faulty;
use crate::control::store::memory::Memory;

fn change(key: &str, value: &str) -> Write {
    let record = Entry {
        at: SystemTime::UNIX_EPOCH,
        actor: Actor { name: "ada".into(), source: "test".into() },
        environment: None,
        agent: None,
        command: format!("{key} = {value}"),
        reason: None,
        before: ().into(),
        after: value.into(),
        evidence: ().into(),
    };
    Write { documents: vec![(key.into(), Some(value.into()))], records: vec![record], aside: vec![] }
}

fn wait(receipt: Receipt) -> Result<Revision, StoreError> {
    receipt.blocking_recv().expect("the writer answers")
}

fn commands(store: &dyn Documents) -> Vec<String> {
    audit::verify(store, None).expect("the chain is sound");
    audit::records(store, 0, 99).expect("can be read").into_iter().map(|record| record.entry.command).collect()
}

struct Running {
    store: Arc<Faulty>,
    writer: Writer,
    thread: WriterThread,
    figures: CommitFigures,
}

fn running() -> Running {
    let (store, figures) = (Arc::new(Faulty::default()), CommitFigures::default());
    let (writer, thread) = Writer::start(store.clone(), figures.clone()).expect("an empty store");
    Running { store, writer, thread, figures }
}

#[test]
fn changes_are_written_in_order_with_their_records() {
    let Running { store, writer, thread, figures } = running();
    let receipts: Vec<_> = (0..20).map(|n| writer.ask(change("key", &n.to_string()))).collect();
    for (n, receipt) in receipts.into_iter().enumerate() {
        assert_eq!(wait(receipt), Ok(n as u64 + 1));
    }
    assert_eq!(commands(&*store), (0..20).map(|n| format!("key = {n}")).collect::<Vec<_>>());
    let mut gone = change("key", "none");
    gone.documents[0].1 = None;
    assert_eq!((wait(writer.ask(gone)), store.get("key")), (Ok(21), Ok(None)));
    thread.stop();
    assert_eq!(figures.counted(), (21, 0, 0));
}

#[test]
fn what_is_asked_fails_at_once_and_what_is_insisted_on_is_written_in_the_end() {
    let Running { store, writer, thread, figures } = running();
    store.full.store(true, Ordering::SeqCst);
    assert_eq!(wait(writer.ask(change("a", "1"))), Err(StoreError::Failed("the disk is full".into())));
    let rollback = writer.insist(change("a", "rolled back"));
    let second = writer.insist(change("b", "rolled back"));
    // Asked later, so refused: it must not come before the rollback.
    assert_eq!(wait(writer.ask(change("a", "open"))), Err(StoreError::Failed("the disk is full".into())));
    store.full.store(false, Ordering::SeqCst);
    assert_eq!((wait(rollback), wait(second)), (Ok(1), Ok(2)));
    assert_eq!(wait(writer.ask(change("a", "open"))), Ok(3));
    assert_eq!(commands(&*store), ["a = rolled back", "b = rolled back", "a = open"]);
    thread.stop();
    let (success, failure, pending) = figures.counted();
    assert!((success, pending) == (3, 0) && failure >= 2, "{success} {failure} {pending}");
}

#[test]
fn a_commit_that_was_called_a_failure_and_is_there_counts_once() {
    let Running { store, writer, thread, .. } = running();
    assert_eq!(wait(writer.ask(change("a", "0"))), Ok(1));
    store.lies.store(true, Ordering::SeqCst);
    assert_eq!(wait(writer.insist(change("a", "1"))), Ok(2));
    store.lies.store(true, Ordering::SeqCst);
    assert_eq!(wait(writer.ask(change("a", "2"))), Ok(3));
    assert_eq!(wait(writer.ask(change("a", "3"))), Ok(4));
    assert_eq!(commands(&*store), ["a = 0", "a = 1", "a = 2", "a = 3"]);
    thread.stop();
}

#[test]
fn stopping_writes_what_waits_and_does_not_wait_for_room() {
    let Running { store, writer, thread, .. } = running();
    let waiting: Vec<_> = (0..9).map(|n| writer.insist(change("a", &n.to_string()))).collect();
    thread.stop();
    assert!(waiting.into_iter().all(|receipt| wait(receipt).is_ok()));
    assert!(writer.ask(change("a", "late")).blocking_recv().is_err(), "nobody is there to answer");

    let Running { store: full, writer, thread, .. } = running();
    full.full.store(true, Ordering::SeqCst);
    let (first, second) = (writer.insist(change("a", "1")), writer.insist(change("a", "2")));
    thread.stop();
    assert!(wait(first).is_err() && wait(second).is_err());
    assert_eq!(commands(&*store).len(), 9);
}

#[test]
fn what_is_spare_waits_for_all_else_and_is_tried_once() {
    let aside = |value: &str| Write { aside: vec![("pins".into(), Some(value.into()))], ..Write::default() };
    let Running { store, writer, thread, figures } = running();
    store.stalled.store(true, Ordering::SeqCst);
    let first = writer.ask(change("a", "1"));
    let (older, newer) = (writer.spare(aside("1")), writer.spare(aside("2")));
    let rollback = writer.insist(change("a", "2"));
    store.stalled.store(false, Ordering::SeqCst);
    assert_eq!((wait(first), wait(rollback), wait(newer)), (Ok(1), Ok(2), Ok(2)));
    assert!(wait(older).is_err(), "one at most waits");
    assert_eq!(store.get("pins").expect("can be read").expect("is there").value, b"2");
    assert_eq!(commands(&*store), ["a = 1", "a = 2"]);

    store.full.store(true, Ordering::SeqCst);
    assert!(wait(writer.spare(aside("3"))).is_err());
    store.full.store(false, Ordering::SeqCst);
    let last = writer.spare(aside("4"));
    thread.stop();
    assert_eq!(wait(last), Ok(2), "a stop writes what waits");
    assert_eq!(figures.counted(), (2, 0, 0), "these are the commits of changes");
}

#[test]
fn in_place_is_the_same_without_the_thread() {
    let store = Arc::new(Memory::default());
    let writer = Writer::in_place(store.clone(), CommitFigures::default()).expect("an empty store");
    assert_eq!(wait(writer.ask(change("a", "1"))), Ok(1));
    assert_eq!(wait(writer.insist(change("a", "2"))), Ok(2));
    assert_eq!(commands(&*store), ["a = 1", "a = 2"]);
}
