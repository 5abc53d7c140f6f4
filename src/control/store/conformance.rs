//! What every engine must do. An engine joins by one line in `engines!`.

use std::path::Path;
use std::sync::Arc;

use super::memory::Memory;
use super::redb::Redb;
use super::{Change, Commit, Document, HISTORY, KEY_MAX, Store, StoreError, Transaction, Watch};

fn put(key: &str, value: &str) -> Transaction {
    let mut transaction = Transaction::default();
    transaction.put(key, value.into());
    transaction
}

fn keys(store: &dyn Store, prefix: &str, after: Option<&str>, limit: usize) -> Vec<String> {
    let found = store.range(prefix, after, limit).expect("can be read");
    found.into_iter().map(|(key, _)| key).collect()
}

fn value(store: &dyn Store, key: &str) -> Option<String> {
    let document = store.get(key).expect("can be read")?;
    Some(String::from_utf8(document.value).expect("was written as text"))
}

fn a_commit_writes_all_under_one_revision(store: Arc<dyn Store>) {
    assert_eq!((store.get("a"), *store.revision().borrow()), (Ok(None), 0));
    let mut both = put("a", "1");
    both.put("b", b"2".to_vec());
    assert_eq!(store.commit(&both), Ok(1));
    assert_eq!(store.commit(&put("b", "3")), Ok(2));
    assert_eq!(store.get("a"), Ok(Some(Document { revision: 1, value: b"1".to_vec() })));
    assert_eq!(store.get("b"), Ok(Some(Document { revision: 2, value: b"3".to_vec() })));
    let mut delete = Transaction::default();
    delete.delete("a");
    delete.delete("never");
    assert_eq!((store.commit(&delete), store.get("a")), (Ok(3), Ok(None)));
    assert_eq!(store.commit(&Transaction::default()), Ok(3), "nothing was written");
}

fn a_change_since_the_read_refuses_the_whole_commit(store: Arc<dyn Store>) {
    store.commit(&put("a", "1")).expect("nothing was expected");
    let conflict = |expected, found| Err(StoreError::Conflict { key: "a".into(), expected, found });
    for (expected, outcome) in [
        (None, conflict(None, Some(1))),
        (Some(9), conflict(Some(9), Some(1))),
        (Some(1), Ok(2)),
        (Some(1), conflict(Some(1), Some(2))),
    ] {
        let mut both = put("a", "next");
        both.put("other", b"next".to_vec());
        both.expect("a", expected);
        assert_eq!(store.commit(&both), outcome);
        assert_eq!(value(&*store, "other").is_some(), *store.revision().borrow() == 2, "all or nothing");
    }
    let mut gone = put("b", "1");
    gone.expect("never", Some(1));
    let refused = StoreError::Conflict { key: "never".into(), expected: Some(1), found: None };
    assert_eq!((store.commit(&gone), value(&*store, "b")), (Err(refused), None));
    let mut check_only = Transaction::default();
    check_only.expect("a", Some(1));
    assert_eq!(store.commit(&check_only), conflict(Some(1), Some(2)));
}

fn of_two_writers_who_read_the_same_one_wins(store: Arc<dyn Store>) {
    const WRITERS: u64 = 4;
    const EACH: u64 = 25;
    store.commit(&put("count", "0")).expect("nothing was expected");
    let count_up = |store: &dyn Store| {
        let read = store.get("count").expect("can be read").expect("is there");
        let count: u64 = String::from_utf8_lossy(&read.value).parse().expect("a number");
        let mut next = put("count", &(count + 1).to_string());
        next.expect("count", Some(read.revision));
        store.commit(&next)
    };
    std::thread::scope(|scope| {
        for _ in 0..WRITERS {
            scope.spawn(|| {
                let mut counted = 0;
                while counted < EACH {
                    match count_up(&*store) {
                        Ok(_) => counted += 1,
                        Err(StoreError::Conflict { .. }) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
            });
        }
    });
    assert_eq!(value(&*store, "count"), Some((WRITERS * EACH).to_string()));
    assert_eq!(*store.revision().borrow(), 1 + WRITERS * EACH, "one revision for each commit");
}

fn a_range_is_in_the_order_of_keys(store: Arc<dyn Store>) {
    let mut all = Transaction::default();
    for key in ["b/2", "a", "b/10", "b", "b/1", "b0", "b/\u{fc}", "c/1"] {
        all.put(key, key.into());
    }
    store.commit(&all).expect("nothing was expected");
    assert_eq!(keys(&*store, "b/", None, 9), ["b/1", "b/10", "b/2", "b/\u{fc}"]);
    assert_eq!(keys(&*store, "b/", None, 2), ["b/1", "b/10"]);
    assert_eq!(keys(&*store, "b/", Some("b/10"), 9), ["b/2", "b/\u{fc}"]);
    assert_eq!(keys(&*store, "b/", Some("b/11"), 1), ["b/2"], "after a key that is not there");
    assert_eq!(keys(&*store, "b/", Some("a"), 9).len(), 4, "after a key before them all");
    assert!(keys(&*store, "b/", Some("c"), 9).is_empty());
    assert_eq!(keys(&*store, "", None, 99).len(), 8);
    assert!(keys(&*store, "d", None, 9).is_empty() && keys(&*store, "b", None, 0).is_empty());
}

fn keys_have_a_length(store: Arc<dyn Store>) {
    let long = "k".repeat(KEY_MAX + 1);
    assert_eq!(store.commit(&put(&long, "")), Err(StoreError::BadKey { bytes: KEY_MAX + 1 }));
    assert_eq!(store.commit(&put("", "")), Err(StoreError::BadKey { bytes: 0 }));
    assert_eq!(store.commit(&put(&long[..KEY_MAX], "")), Ok(1));
}

fn a_watch_misses_nothing(store: Arc<dyn Store>) {
    // No more than is kept: the writer may be far ahead.
    const COMMITS: u64 = HISTORY;
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("needs nothing");
    store.commit(&put("key", "1")).expect("nothing was expected");
    let writer = {
        let store = store.clone();
        std::thread::spawn(move || {
            for number in 2..=COMMITS {
                store.commit(&put("key", &number.to_string())).expect("nothing was expected");
            }
        })
    };
    let seen = runtime.block_on(async {
        let mut watch = Watch::new(store.clone(), 0);
        let mut seen = Vec::new();
        while seen.len() < COMMITS as usize {
            seen.push(watch.next().await.expect("is kept"));
        }
        seen
    });
    writer.join().expect("it does not panic");
    let commit = |revision: u64| Commit {
        revision,
        changes: vec![Change { key: "key".into(), value: Some(revision.to_string().into()) }],
    };
    assert_eq!(seen, (1..=COMMITS).map(commit).collect::<Vec<_>>());
}

fn history_is_kept_so_far_and_no_further(store: Arc<dyn Store>) {
    for number in 0..HISTORY + 2 {
        let mut transaction = put("key", &number.to_string());
        transaction.delete("gone");
        store.commit(&transaction).expect("nothing was expected");
    }
    assert_eq!(store.history(0, 9), Err(StoreError::Forgotten { oldest: 3 }));
    assert_eq!(store.history(1, 9), Err(StoreError::Forgotten { oldest: 3 }));
    let oldest = store.history(2, 1).expect("is kept");
    let change = |key: &str, value: Option<&str>| Change { key: key.into(), value: value.map(Into::into) };
    assert_eq!(oldest, [Commit { revision: 3, changes: vec![change("gone", None), change("key", Some("2"))] }]);
    assert_eq!(store.history(2, usize::MAX).expect("is kept").len() as u64, HISTORY);
    assert_eq!(store.history(HISTORY + 2, 9), Ok(vec![]));
}

fn what_is_written_aside_is_kept_and_is_no_news(store: Arc<dyn Store>) {
    let aside = |key: &str, value: Option<&[u8]>| {
        let mut transaction = Transaction::default();
        transaction.put_aside(key, value.map(Into::into));
        transaction
    };
    // Bytes that are no text, and a document that is longer than a page of any engine.
    let large = [0xff, 0x00].repeat(100_000);
    store.commit(&put("told", "1")).expect("nothing was expected");
    assert_eq!(store.commit(&aside("quiet/1", Some(&large))), Ok(1), "no revision of its own");
    assert_eq!(store.commit(&aside("quiet/2", Some(b"2"))), Ok(1));
    let kept = store.get("quiet/1").expect("can be read").expect("is there");
    assert!(kept.value == large && keys(&*store, "quiet/", None, 9) == ["quiet/1", "quiet/2"]);
    let mut both = put("told", "2");
    both.put_aside("quiet/2", None);
    assert_eq!((store.commit(&both), *store.revision().borrow()), (Ok(2), 2));
    assert_eq!(keys(&*store, "quiet/", None, 9), ["quiet/1"]);
    let told: Vec<_> = store.history(0, 9).expect("is kept").into_iter().flat_map(|commit| commit.changes).collect();
    assert!(told.len() == 2 && told.iter().all(|change| change.key == "told"), "{told:?}");
    let long = "k".repeat(KEY_MAX + 1);
    assert_eq!(store.commit(&aside(&long, None)), Err(StoreError::BadKey { bytes: KEY_MAX + 1 }));
}

/// Runs each check on a fresh store of each engine.
macro_rules! engines {
    ($($engine:ident: $open:expr;)*) => {$(
        mod $engine {
            use super::*;

            engines!(@checks $open;
                a_commit_writes_all_under_one_revision,
                a_change_since_the_read_refuses_the_whole_commit,
                of_two_writers_who_read_the_same_one_wins,
                a_range_is_in_the_order_of_keys,
                keys_have_a_length,
                a_watch_misses_nothing,
                history_is_kept_so_far_and_no_further,
                what_is_written_aside_is_kept_and_is_no_news,
            );
        }
    )*};
    (@checks $open:expr; $($check:ident,)*) => {$(
        #[test]
        fn $check() {
            let folder = tempfile::tempdir().expect("can be made");
            let open: fn(&Path) -> Arc<dyn Store> = $open;
            super::$check(open(folder.path()));
        }
    )*};
}

engines! {
    memory: |_| Arc::new(Memory::default());
    redb: |folder| Arc::new(Redb::open(folder).expect("can be made"));
}
