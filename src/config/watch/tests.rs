use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::symlink;

use tempfile::TempDir;

use super::*;

const GENEROUS: Duration = Duration::from_secs(20);
/// So long that no test can pass by the poll.
const NEVER: Duration = Duration::from_secs(3600);

fn hash(text: &str) -> Arc<str> {
    source::content_hash(text.as_bytes())
}

/// A watch over `path`, that knows its content and finds changes by events alone.
fn by_events(path: &Path) -> ConfigWatch {
    let seen = fs::read_to_string(path).map(|text| hash(&text)).unwrap_or_default();
    ConfigWatch::with_poll(path, &seen, NEVER).unwrap()
}

async fn next(watch: &mut ConfigWatch) -> Candidate {
    tokio::time::timeout(GENEROUS, watch.changed()).await.expect("a change is found")
}

async fn expect_text(watch: &mut ConfigWatch, text: &str) {
    assert_eq!(next(watch).await.text.as_deref(), Ok(text));
}

fn directory_with(text: &str) -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pointsman.yaml");
    fs::write(&path, text).unwrap();
    (directory, path)
}

#[tokio::test]
async fn written_in_place() {
    let (_directory, path) = directory_with("a: 0");
    let mut watch = by_events(&path);
    for n in 1..5 {
        let text = format!("a: {n}");
        fs::write(&path, &text).unwrap();
        expect_text(&mut watch, &text).await;
    }
}

#[tokio::test]
async fn written_in_place_and_never_closed() {
    let (_directory, path) = directory_with("a: 1\n");
    let mut watch = by_events(&path);
    let mut writer = OpenOptions::new().append(true).open(&path).unwrap();
    writer.write_all(b"b: 2\n").unwrap();
    expect_text(&mut watch, "a: 1\nb: 2\n").await;
    drop(writer);
}

#[tokio::test]
async fn renamed_over() {
    let (directory, path) = directory_with("a: 0");
    let mut watch = by_events(&path);
    for n in 1..5 {
        let (text, new) = (format!("a: {n}"), directory.path().join("new"));
        fs::write(&new, &text).unwrap();
        fs::rename(&new, &path).unwrap();
        expect_text(&mut watch, &text).await;
    }
}

/// As the kubelet does it: a new directory, a new link to it, and the link renamed over the old one.
#[tokio::test]
async fn swapped_like_a_config_map() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let release = |n: usize| {
        let name = format!("..release-{n}");
        fs::create_dir(root.join(&name)).unwrap();
        fs::write(root.join(&name).join("pointsman.yaml"), format!("a: {n}")).unwrap();
        symlink(&name, root.join("..data_tmp")).unwrap();
        fs::rename(root.join("..data_tmp"), root.join("..data")).unwrap();
    };
    release(0);
    let path = root.join("pointsman.yaml");
    symlink("..data/pointsman.yaml", &path).unwrap();
    let mut watch = by_events(&path);
    for n in 1..5 {
        release(n);
        fs::remove_dir_all(root.join(format!("..release-{}", n - 1))).unwrap();
        expect_text(&mut watch, &format!("a: {n}")).await;
    }
}

/// A bind-mounted file changes without an event in the directory where it is mounted; so does a file
/// that is written by its other name.
#[tokio::test]
async fn changed_under_a_bind_mount() {
    let (_outside, original) = directory_with("a: 0");
    let inside = tempfile::tempdir_in(original.parent().unwrap()).unwrap();
    let mounted = inside.path().join("pointsman.yaml");
    fs::hard_link(&original, &mounted).unwrap();
    let mut watch = by_events(&mounted);
    for n in 1..5 {
        let text = format!("a: {n}");
        fs::write(&original, &text).unwrap();
        expect_text(&mut watch, &text).await;
    }
}

#[tokio::test]
async fn deleted_and_back_again() {
    let (_directory, path) = directory_with("a: 0");
    let mut watch = by_events(&path);
    fs::remove_file(&path).unwrap();
    let gone = next(&mut watch).await;
    assert!(gone.text.unwrap_err().to_string().contains("cannot be read"));
    fs::write(&path, "a: 1").unwrap();
    expect_text(&mut watch, "a: 1").await;
    fs::write(&path, "a: 2").unwrap();
    expect_text(&mut watch, "a: 2").await;
}

#[tokio::test]
async fn a_directory_that_is_replaced_is_found_by_the_poll() {
    let directory = tempfile::tempdir().unwrap();
    let (old, new) = (directory.path().join("etc"), directory.path().join("new"));
    for (place, text) in [(&old, "a: 0"), (&new, "a: 1")] {
        fs::create_dir(place).unwrap();
        fs::write(place.join("p.yaml"), text).unwrap();
    }
    let path = old.join("p.yaml");
    let mut watch = ConfigWatch::with_poll(&path, &hash("a: 0"), Duration::from_millis(5)).unwrap();
    watch.watcher = None;
    fs::rename(&old, directory.path().join("gone")).unwrap();
    fs::rename(&new, &old).unwrap();
    loop {
        // Between the two renames the file was not there, and the watch may have seen that.
        if let Ok(text) = next(&mut watch).await.text {
            assert_eq!(text, "a: 1");
            return;
        }
    }
}

#[tokio::test]
async fn what_changed_before_the_watch_began_is_found() {
    let (_directory, path) = directory_with("a: 1");
    let mut watch = ConfigWatch::with_poll(&path, &hash("a: 0"), NEVER).unwrap();
    expect_text(&mut watch, "a: 1").await;
}

#[tokio::test]
async fn readers_and_neighbours_cause_no_reading() {
    let (directory, path) = directory_with("a: 0");
    let mut watch = by_events(&path);
    assert!(watch.look(Instant::now()).is_none());
    let before = watch.reads;
    for n in 0..200 {
        fs::read(&path).unwrap();
        fs::write(directory.path().join("access.log"), n.to_string()).unwrap();
        assert!(watch.look(Instant::now()).is_none());
    }
    assert_eq!(watch.reads, before);
    fs::write(&path, "a: 1").unwrap();
    expect_text(&mut watch, "a: 1").await;
}

#[tokio::test]
async fn the_same_content_is_no_change() {
    let (_directory, path) = directory_with("a: 0");
    let mut watch = by_events(&path);
    fs::write(&path, "a: 0").unwrap();
    fs::write(&path, "a: 1").unwrap();
    fs::write(&path, "a: 1").unwrap();
    expect_text(&mut watch, "a: 1").await;
    assert_eq!(watch.reread().text.as_deref(), Ok("a: 1"));
    fs::write(&path, "a: 2").unwrap();
    expect_text(&mut watch, "a: 2").await;
}

/// The watch without its ears: a test says what was heard, and when it is.
fn deaf(path: &Path) -> (ConfigWatch, Instant) {
    let mut watch = by_events(path);
    watch.watcher = None;
    let start = Instant::now();
    assert!(watch.look(start).is_none());
    watch.signal.take();
    (watch, start)
}

#[tokio::test]
async fn a_truncated_file_is_looked_at_again() {
    let (_directory, path) = directory_with("a: { b: 1 }");
    let (mut watch, start) = deaf(&path);
    for broken in ["", "a: {"] {
        fs::write(&path, broken).unwrap();
        watch.signal.settled.store(true, Ordering::Release);
        assert!(watch.look(start).is_none(), "{broken:?} may be a moment of a write");
    }
    fs::write(&path, "a: { b: 2 }").unwrap();
    assert!(watch.look(start + QUIET / 2).is_none(), "it has not rested");
    let candidate = watch.look(start + QUIET).expect("it has rested");
    assert_eq!(candidate.text.as_deref(), Ok("a: { b: 2 }"));
}

#[tokio::test]
async fn a_file_that_stays_broken_is_reported_once() {
    let (_directory, path) = directory_with("a: 1");
    let (mut watch, start) = deaf(&path);
    fs::write(&path, "a: {").unwrap();
    watch.signal.settled.store(true, Ordering::Release);
    assert!(watch.look(start).is_none());
    assert!(watch.look(start + QUIET).is_none(), "a writer may be slow");
    let later = start + QUIET + QUIET_BROKEN;
    let candidate = watch.look(later).expect("it stayed so");
    assert!(candidate.config().is_err());
    watch.signal.settled.store(true, Ordering::Release);
    assert!(watch.look(later + QUIET_BROKEN).is_none());
    assert!(watch.look(later + QUIET_BROKEN * 2).is_none());
}

#[tokio::test]
async fn a_file_that_never_rests_is_read_all_the_same() {
    let (_directory, path) = directory_with("a: 1");
    let (mut watch, start) = deaf(&path);
    fs::write(&path, "a: 2").unwrap();
    let mut now = start;
    let candidate = loop {
        watch.signal.stirred.store(true, Ordering::Release);
        if let Some(candidate) = watch.look(now) {
            break candidate;
        }
        now += QUIET / 3;
        assert!(now <= start + PATIENCE + QUIET, "patience has an end");
    };
    assert_eq!(candidate.text.as_deref(), Ok("a: 2"));
    assert!(now >= start + PATIENCE - QUIET, "it did not rest before");
}

#[tokio::test]
async fn a_pipe_in_its_place_is_refused_and_not_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    let candidate = Candidate::read(directory.path());
    assert!(candidate.text.unwrap_err().to_string().contains("not a regular file"));
}

#[test]
fn too_large_a_file_is_refused() {
    let (_directory, path) = directory_with("");
    File::options().write(true).open(&path).unwrap().set_len(source::MAX_FILE_BYTES + 1).unwrap();
    let message = Config::load(&path).unwrap_err().to_string();
    assert!(message.contains("larger than 16MiB"), "{message}");
}
