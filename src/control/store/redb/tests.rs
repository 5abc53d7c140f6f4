//! What is true of the file, beyond what every engine does.

use std::process::Command;

use super::*;

fn put(key: &str, value: &str) -> Transaction {
    let mut transaction = Transaction::default();
    transaction.put(key, value.into());
    transaction
}

fn refusal<T>(opened: Result<T, StoreError>) -> String {
    match opened {
        Err(StoreError::Failed(text)) => text,
        Err(other) => panic!("{other:?}"),
        Ok(_) => panic!("was opened"),
    }
}

#[test]
fn it_is_all_there_when_opened_again() {
    let folder = tempfile::tempdir().expect("can be made");
    for round in 0..3_u64 {
        let store = Redb::open(&folder.path().join("deep/state")).expect("can be made");
        assert_eq!(*store.revision().borrow(), round);
        assert_eq!(store.history(0, 9).expect("is kept").len() as u64, round);
        let mut next = put("key", &round.to_string());
        next.expect("key", round.checked_sub(1).map(|before| before + 1));
        assert_eq!(store.commit(&next), Ok(round + 1));
    }
}

#[test]
fn one_process_writes_and_others_read() {
    let folder = tempfile::tempdir().expect("can be made");
    let store = Redb::open(folder.path()).expect("can be made");
    store.commit(&put("key", "1")).expect("nothing was expected");
    assert!(refusal(Redb::open(folder.path())).contains("is in use by another process"));
    let reader = ReadOnly::open(folder.path()).expect("reads beside the writer");
    store.commit(&put("key", "2")).expect("a reader does not hinder it");
    assert_eq!(reader.get("key").expect("can be read").expect("is there").value, b"2");
    drop(store);
    assert_eq!(reader.range("k", None, 9).expect("the reader goes on").len(), 1);
}

#[test]
fn what_cannot_be_a_store_is_refused_by_name_and_with_a_remedy() {
    let folder = tempfile::tempdir().expect("can be made");
    assert!(refusal(ReadOnly::open(folder.path())).contains("cannot be opened"), "nothing is there to read");
    let file = folder.path().join("file");
    std::fs::write(&file, "text").expect("can be written");
    assert!(refusal(Redb::open(&file)).contains("cannot make this directory"));
    std::fs::write(folder.path().join(FILE), "not a store".repeat(1_000)).expect("can be written");
    let text = refusal(Redb::open(folder.path()));
    assert!(text.contains("is not a store of pointsman") && text.contains("move"), "{text}");
}

/// Whatever byte of the file is changed, it is refused, or opens with what was written: never another content.
#[test]
fn a_damaged_file_is_refused_or_harmless() {
    let folder = tempfile::tempdir().expect("can be made");
    let store = Redb::open(folder.path()).expect("can be made");
    for number in 0..200 {
        store.commit(&put(&format!("key/{number:03}"), &"v".repeat(200))).expect("nothing was expected");
    }
    let written = store.range("key/", None, 999).expect("can be read");
    drop(store);
    let sound = std::fs::read(folder.path().join(FILE)).expect("can be read");
    let mut refused = 0;
    for step in 0..60 {
        let mut damaged = sound.clone();
        let at = step * damaged.len() / 60 + step;
        damaged[at] ^= 0x55;
        std::fs::write(folder.path().join(FILE), damaged).expect("can be written");
        match Redb::open(folder.path()) {
            Ok(store) => assert_eq!(store.range("key/", None, 999).expect("can be read"), written, "byte {at}"),
            Err(error) => {
                refused += 1;
                assert!(error.to_string().contains(FILE), "{error}");
            }
        }
    }
    assert!(refused > 0, "some of them were in use");
}

/// A limit on the size of files stands for a full disk: the write fails, and works again once the limit is gone.
#[test]
fn it_goes_on_after_a_full_disk() {
    const CHILD: &str = "POINTSMAN_TEST_FULL_DISK";
    if let Ok(folder) = std::env::var(CHILD) {
        return fill_up(Path::new(&folder));
    }
    let folder = tempfile::tempdir().expect("can be made");
    // In a process of its own, for the limit and the signal are the process's.
    let itself = std::env::current_exe().expect("is running");
    let script = "trap '' XFSZ; ulimit -S -f 16000; exec \"$0\" --exact \"$1\" --nocapture";
    let name = "control::store::redb::tests::it_goes_on_after_a_full_disk";
    let child = Command::new("sh").args(["-c", script]).arg(itself).arg(name).env(CHILD, folder.path()).output();
    let child = child.expect("a shell is there");
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stdout));
    let store = Redb::open(folder.path()).expect("it is sound");
    assert!(!store.range("key/", None, 9).expect("can be read").is_empty());
}

fn fill_up(folder: &Path) {
    let store = Redb::open(folder).expect("there is room for an empty one");
    let big = "v".repeat(200_000);
    let mut acknowledged = Vec::new();
    let full = (0..1_000).find_map(|number| {
        let key = format!("key/{number:04}");
        match store.commit(&put(&key, &big)) {
            Ok(_) => {
                acknowledged.push(key);
                None
            }
            Err(error) => Some(error),
        }
    });
    assert!(matches!(full, Some(StoreError::Failed(_))), "{full:?}");
    assert!(acknowledged.len() > 2);
    for key in &acknowledged {
        assert!(store.get(key).expect("can be read, full or not").is_some(), "{key}");
    }
    let revision = *store.revision().borrow();
    // What fails, fails again without harm.
    for _ in 0..3 {
        assert!(store.commit(&put("big", &"v".repeat(3_000_000))).is_err());
    }
    assert_eq!(*store.revision().borrow(), revision, "nothing was acknowledged");
    assert_eq!(store.commit(&put("small", "v")), Ok(revision + 1), "what has room is written, in the same process");
}
