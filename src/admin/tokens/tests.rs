//! The token file, from both sides.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::sync::Arc;
use std::time::Duration;

use super::file::TokenFile;
use super::live::{LiveTokens, Unreadable};
use super::*;

fn name(text: &str) -> TokenName {
    text.parse().expect("a sound name")
}

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

fn names(file: &TokenFile) -> Vec<String> {
    let tokens = file.read().expect("readable").expect("is there");
    tokens.iter().map(|token| token.name.as_str().to_owned()).collect()
}

#[test]
fn a_file_that_root_makes_belongs_to_whom_the_directory_does() {
    let dir = tempfile::tempdir().expect("a directory");
    let me = std::fs::metadata(dir.path()).expect("is there").uid();
    // Only root can give the directory away; for others it is theirs, and so is the file.
    let owner = if me == 0 { 65_534 } else { me };
    std::os::unix::fs::chown(dir.path(), Some(owner), None).expect("may be given");
    let file = TokenFile::in_state_dir(dir.path());
    for text in ["ci", "grafana"] {
        file.create(name(text), Role::Viewer, None, at(100)).expect("made");
        let made = std::fs::metadata(file.path()).expect("is there");
        assert_eq!((made.uid(), made.permissions().mode() & 0o777), (owner, 0o600));
    }
}

#[test]
fn a_token_is_made_kept_as_a_hash_and_revoked() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = TokenFile::in_state_dir(&dir.path().join("state"));
    assert!(file.read().expect("nothing is no error").is_none());
    let text = file.create(name("ci"), Role::Operator, Some(Duration::from_secs(60)), at(100)).expect("made");
    let other = file.create(name("grafana"), Role::Viewer, None, at(100)).expect("made");
    assert_ne!(text, other);
    assert!(text.starts_with(PREFIX) && text.len() == PREFIX.len() + 43, "{text}");

    let kept = std::fs::read_to_string(file.path()).expect("is there");
    assert!(!kept.contains(&text[PREFIX.len()..]), "the token itself is nowhere: {kept}");
    let mode = std::fs::metadata(file.path()).expect("is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let tokens = file.read().expect("readable").expect("is there");
    assert_eq!((tokens[0].role, tokens[0].sha256), (Role::Operator, Fingerprint::of(text.as_bytes())));
    assert_eq!((tokens[0].expires_at, tokens[1].expires_at), (Some(at(160)), None));
    assert!(!tokens[0].is_expired(at(159)) && tokens[0].is_expired(at(160)) && !tokens[1].is_expired(at(1 << 40)));

    file.revoke("ci").expect("is there");
    assert_eq!(names(&file), ["grafana"]);
    file.revoke("grafana").expect("is there");
    assert!(names(&file).is_empty(), "the file stays, so that the API stays closed");
}

#[test]
fn what_cannot_be_done_changes_nothing_and_says_what_to_do() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = TokenFile::in_state_dir(dir.path());
    file.create(name("ci"), Role::Viewer, Some(Duration::from_secs(60)), at(100)).expect("made");
    let twice = file.create(name("ci"), Role::Admin, None, at(100)).unwrap_err().to_string();
    assert!(twice.contains("revoke it first"), "{twice}");
    let unknown = file.revoke("cj").unwrap_err().to_string();
    assert!(unknown.contains("token list"), "{unknown}");
    assert_eq!(names(&file), ["ci"]);
    // An expired one makes place for its successor.
    file.create(name("ci"), Role::Admin, None, at(160)).expect("the old one is over");

    let lock = file.path().with_extension("yaml.new");
    std::fs::write(&lock, "").expect("writable");
    let locked = file.revoke("ci").unwrap_err().to_string();
    assert!(locked.contains("if none is, remove"), "{locked}");
    assert!(lock.exists(), "another's draft is left alone");
    std::fs::remove_file(&lock).expect("is there");
    file.revoke("ci").expect("free again");
}

#[test]
fn names_are_short_plain_and_not_taken_by_the_audit_trail() {
    for wrong in ["", "a b", "ä", "a.b", "local", "file", &"x".repeat(MAX_NAME + 1)] {
        assert!(wrong.parse::<TokenName>().is_err(), "{wrong:?}");
    }
    assert_eq!(name(&"x".repeat(MAX_NAME)).as_str().len(), MAX_NAME);
}

#[tokio::test]
async fn the_running_instance_sees_every_change_and_trusts_no_broken_file() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = TokenFile::in_state_dir(dir.path());
    let live = LiveTokens::new(file.clone());
    assert_eq!(live.current().await, Ok(None));
    file.create(name("ci"), Role::Viewer, None, at(100)).expect("made");
    let first = live.current().await.expect("readable").expect("is there");
    assert_eq!(first.len(), 1);
    let again = live.current().await.expect("readable").expect("is there");
    assert!(Arc::ptr_eq(&first, &again), "an unchanged file is not read again");
    file.revoke("ci").expect("is there");
    assert_eq!(live.current().await.expect("readable").expect("is there").len(), 0);
    for broken in ["tokens: [", "tokens: []\nmore: 1\n", "tokens: [{name: ci, role: root}]"] {
        std::fs::write(file.path(), broken).expect("writable");
        assert_eq!(live.current().await, Err(Unreadable), "{broken}");
    }
}
